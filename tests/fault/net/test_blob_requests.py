"""Requests for blobs by those who mean harm: the node hears of none of who is not let in, a flood is an offence, no source takes every place."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
import trio

from dms.net.blob_items import MAX_HEAD, Offer, Reader, Request, item
from dms.net.config import BLOB_PROTOCOL, RateLimit
from dms.net.guards.yamux_stream import SafeStream
from dms.testing.hostile_peer import CLOSED, PATIENCE_S, Visit, attack, visit
from dms.testing.live_networks import Crew, LiveMember, still_serves
from dms_actors.ports import PeerUp
from dms_proto.ids import Digest, PeerId

pytestmark = [pytest.mark.libp2p, pytest.mark.slow]
SIZE = 16 * 1024 * 1024
WANTED = item(msgspec.msgpack.encode(Request("sha256:" + "0" * 64)))


async def ask(guest: Visit) -> Offer:
    """What a request for a blob is answered with."""
    stream = await guest.open(BLOB_PROTOCOL)
    await stream.write(WANTED)
    return await answer(stream)


async def answer(stream: SafeStream) -> Offer:
    return msgspec.msgpack.decode(await Reader(stream, 10.0).item(MAX_HEAD), type=Offer)


def tells(member: LiveMember, path: Path | None) -> list[PeerId]:
    """Serves this, and tells who has asked the node for anything."""
    asked: list[PeerId] = []

    def open_blob(peer: PeerId, _digest: Digest) -> Path | None:
        asked.append(peer)
        return path

    member.network.serve_blobs(open_blob)
    return asked


async def test_the_node_is_not_asked_for_who_has_shown_no_work(crew: Crew) -> None:
    victim = await crew(work_bits_private=22)
    asked = tells(victim, None)
    offer = await attack(victim.addresses[0], ask)
    assert (offer.size, offer.refused) == (-1, "busy; a proof of work is asked of you first")
    assert asked == []
    assert not victim.seen.of(PeerUp)


@pytest.mark.parametrize("garbage", [b"\xc1", b"\x81\xa1x" + b"\x91" * (MAX_HEAD - 4) + b"\xc0"])
async def test_what_is_no_request_is_refused_with_that_reason(crew: Crew, garbage: bytes) -> None:
    victim = await crew()

    async def play(guest: Visit) -> Offer:
        stream = await guest.open(BLOB_PROTOCOL)
        await stream.write(item(garbage))
        return await answer(stream)

    offer = await attack(victim.addresses[0], play)
    assert offer.size == -1
    assert offer.refused.startswith("not a request: ")
    assert await victim.counted("guard.crashes", 0) == 0
    await still_serves(crew, victim)


@pytest.mark.parametrize(
    ("sent", "why"),
    [((MAX_HEAD + 1).to_bytes(4, "big"), "1025 bytes announced, 1024 are the most"), (b"", "nothing came for 0.3 s")],
    ids=["too long", "nothing"],
)
async def test_who_asks_for_nothing_or_too_much_is_refused_and_it_is_no_defect_of_ours(
    crew: Crew, sent: bytes, why: str
) -> None:
    victim = await crew(blob_stall_s=0.3)

    async def play(guest: Visit) -> Offer:
        stream = await guest.open(BLOB_PROTOCOL)
        await stream.write(sent)
        return await answer(stream)

    assert await attack(victim.addresses[0], play) == Offer(-1, why)
    assert await victim.counted("guard.crashes", 0) == 0


async def test_requests_above_the_rate_are_refused_and_an_offence(crew: Crew) -> None:
    victim = await crew(blob_limit=RateLimit(frames_per_s=1, frames_burst=2))
    asked = tells(victim, None)

    async def play(guest: Visit) -> list[Offer]:
        offers = list[Offer]()
        with trio.fail_after(PATIENCE_S):
            while not guest.yamux.event_closed.is_set():
                with suppress(*CLOSED):
                    stream = await guest.open(BLOB_PROTOCOL)
                    await stream.write(WANTED)
                    await stream.close()
                    offers.append(await answer(stream))
        return offers

    offers = await attack(victim.addresses[0], play)
    assert "not offered" in offers[0].refused
    assert any("too many are asked for" in offer.refused for offer in offers)
    assert len(asked) < len(offers)
    assert await victim.counted("bans") == 1
    await still_serves(crew, victim)


async def test_two_peers_of_a_source_take_no_more_places_than_one(crew: Crew, tmp_path: Path) -> None:
    """They read nothing of what they get."""
    victim = await crew(max_blobs_served=4)
    source = tmp_path / "source"
    source.write_bytes(bytes(SIZE))
    tells(victim, source)

    async def play(one: Visit) -> list[int]:
        async def beside(other: Visit) -> list[int]:
            return [(await ask(guest)).size for guest in (one, other, other, one)]

        return await visit(victim.addresses[0], beside)

    assert await attack(victim.addresses[0], play) == [SIZE, SIZE, -1, -1]
