"""Contents in chunks, from holders that are cut off, slow, or send something else."""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from dms.testing.live_networks import Crew, LiveMember, Wire, through_cuts
from dms.testing.network_contract import PATIENCE_S, blob
from dms_actors.ports import PeerDown, PeerUp
from dms_proto.data.chunks import CHUNK_BYTES, Hashing
from dms_proto.errors import PeerError
from dms_proto.ids import Digest

pytestmark = [pytest.mark.libp2p, pytest.mark.slow]

MIB = 1024 * 1024


class Sample(NamedTuple):
    """A content on disk, and the list of its chunks."""

    data: bytes
    digest: Digest
    source: Path
    chunks: Path


def sample(directory: Path, size: int) -> Sample:
    data, digest = blob(size)
    hashing = Hashing()
    hashing.update(data)
    source, chunks = directory / "source", directory / "chunks"
    source.write_bytes(data)
    chunks.write_bytes(hashing.chunk_list())
    return Sample(data, digest, source, chunks)


def holds(member: LiveMember, path: Path) -> None:
    member.network.serve_blobs(lambda _peer, _digest: path)


async def fetch(ann: LiveMember, holders: list[LiveMember], wanted: Sample, into: Path) -> tuple[str, ...]:
    peers = [holder.peer for holder in holders]
    return await ann.network.fetch(peers, wanted.digest, len(wanted.data), into, wanted.chunks)


async def test_a_cut_link_costs_what_was_under_way_and_no_more(crew: Crew, tmp_path: Path) -> None:
    """At most 2 MiB a cut, which five times is 1 % of a gigabyte: `python -m bench data`."""
    ann, bob = await crew(), await crew()
    wanted, into = sample(tmp_path, 64 * MIB), tmp_path / "fetched"
    holds(bob, wanted.source)
    async with Wire.to(bob.addresses[0]) as wire:
        carried = await through_cuts(ann, [wire], lambda: fetch(ann, [bob], wanted, into), len(wanted.data), 5)
    assert into.read_bytes() == wanted.data
    framing = len(wanted.data) // 100
    assert carried < len(wanted.data) + framing + 5 * 2 * MIB


async def test_links_to_several_holders_that_are_cut_cost_no_more(crew: Crew, tmp_path: Path) -> None:
    ann, *holders = [await crew() for _ in range(4)]
    wanted, into = sample(tmp_path, 64 * MIB), tmp_path / "fetched"
    async with AsyncExitStack() as stack:
        wires = [await stack.enter_async_context(Wire.to(holder.addresses[0])) for holder in holders]
        for holder in holders:
            holds(holder, wanted.source)
        carried = await through_cuts(ann, wires, lambda: fetch(ann, holders, wanted, into), len(wanted.data), 5)
    assert into.read_bytes() == wanted.data
    framing = len(wanted.data) // 100
    assert carried < len(wanted.data) + framing + 5 * 2 * MIB


async def test_a_wrong_chunk_is_found_when_it_comes_and_names_who_sent_it(crew: Crew, tmp_path: Path) -> None:
    ann, liar = await crew(), await crew()
    await ann.connect(liar)
    wanted, into = sample(tmp_path, 64 * MIB), tmp_path / "fetched"
    wrong = tmp_path / "wrong"
    wrong.write_bytes(wanted.data[: 3 * MIB] + b"?" + wanted.data[3 * MIB + 1 :])
    holds(liar, wrong)
    with pytest.raises(PeerError) as caught:
        await fetch(ann, [liar], wanted, into)
    assert caught.value.code == "digest_mismatch"
    assert f"chunk 13 of 256 of {wanted.digest}, as {liar.peer} sent it, is wrong" in caught.value.message
    assert not caught.value.retryable
    assert into.with_name("fetched.part").stat().st_size == 3 * MIB


async def test_a_liar_costs_one_chunk_where_another_holds_the_content(crew: Crew, tmp_path: Path) -> None:
    ann, bob, liar = await crew(), await crew(), await crew()
    await ann.connect(bob)
    await ann.connect(liar)
    wanted, into = sample(tmp_path, 24 * MIB + 5), tmp_path / "fetched"
    wrong = tmp_path / "wrong"
    wrong.write_bytes(bytes(len(wanted.data)))
    holds(liar, wrong)
    holds(bob, wanted.source)
    assert await fetch(ann, [liar, bob], wanted, into) == (liar.peer,)
    assert into.read_bytes() == wanted.data


async def test_several_holders_send_a_part_each(crew: Crew, tmp_path: Path) -> None:
    ann, bob, cid = await crew(), await crew(), await crew()
    wanted, into = sample(tmp_path, 64 * MIB), tmp_path / "fetched"
    async with Wire.to(bob.addresses[0]) as (one, first), Wire.to(cid.addresses[0]) as (other, second):
        for member, address in ((bob, first), (cid, second)):
            holds(member, wanted.source)
            await ann.network.dial([address])
        assert await fetch(ann, [bob, cid], wanted, into) == ()
        assert into.read_bytes() == wanted.data
        assert one.carried > 8 * MIB
        assert other.carried > 8 * MIB
        assert one.carried + other.carried < 1.1 * len(wanted.data)


async def test_a_holder_that_falls_silent_holds_up_nothing_that_another_can_send(crew: Crew, tmp_path: Path) -> None:
    ann, bob, mute = await crew(blob_stall_s=3600.0, keepalive_s=3600.0), await crew(), await crew()
    await ann.connect(bob)
    wanted, into = sample(tmp_path, 32 * MIB), tmp_path / "fetched"
    holds(bob, wanted.source)
    holds(mute, wanted.source)
    async with Wire.to(mute.addresses[0]) as (wire, address):
        await ann.network.dial([address])
        await ann.seen.until(lambda: len(ann.seen.of(PeerUp)) == 2)
        wire.is_silent = True
        async with asyncio.timeout(PATIENCE_S):
            assert await fetch(ann, [mute, bob], wanted, into) == ()
    assert into.read_bytes() == wanted.data


async def test_a_holder_that_is_cut_off_leaves_its_part_to_another(crew: Crew, tmp_path: Path) -> None:
    ann, bob, cut = await crew(), await crew(), await crew()
    await ann.connect(bob)
    wanted, into = sample(tmp_path, 32 * MIB), tmp_path / "fetched"
    holds(bob, wanted.source)
    holds(cut, wanted.source)
    async with Wire.to(cut.addresses[0]) as (wire, address):
        await ann.network.dial([address])
        wire.break_after = wire.carried + 2 * MIB
        assert await fetch(ann, [cut, bob], wanted, into) == ()
    assert into.read_bytes() == wanted.data


async def test_damage_in_a_partial_file_costs_its_chunk_alone(crew: Crew, tmp_path: Path) -> None:
    ann, bob = await crew(), await crew()
    wanted, into = sample(tmp_path, 16 * MIB), tmp_path / "fetched"
    holds(bob, wanted.source)
    part = into.with_name("fetched.part")
    part.write_bytes(wanted.data[: 5 * MIB] + b"?" + wanted.data[5 * MIB + 1 :] + b"too long")
    async with Wire.to(bob.addresses[0]) as (wire, address):
        await ann.network.dial([address])
        await fetch(ann, [bob], wanted, into)
        assert wire.carried < 2 * MIB
    assert into.read_bytes() == wanted.data
    assert not part.exists()


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        (b"", "has 20 chunks, its list has 0 bytes"),
        (
            b"".join(hashlib.sha256(bytes(CHUNK_BYTES)).digest() for _ in range(20)),
            "is not what the list of its chunks says",
        ),
    ],
)
async def test_a_list_that_is_not_of_the_content_is_no_fault_of_its_holder(
    crew: Crew, tmp_path: Path, listed: bytes, message: str
) -> None:
    """Blobs are shared by all who ask for them: whoever names a list cannot put another content in the place of one."""
    ann, bob = await crew(), await crew()
    await ann.connect(bob)
    wanted, into = sample(tmp_path, 5 * MIB), tmp_path / "fetched"
    wanted.source.write_bytes(bytes(5 * MIB))
    wanted.chunks.write_bytes(listed)
    holds(bob, wanted.source)
    with pytest.raises(PeerError, match=message) as caught:
        await fetch(ann, [bob], wanted, into)
    assert caught.value.code == "digest_mismatch"
    assert not into.exists()
    assert not into.with_name("fetched.part").exists()


async def test_who_sends_another_content_is_blamed_and_who_goes_on_from_it_is_not(crew: Crew, tmp_path: Path) -> None:
    ann, bob, liar = await crew(), await crew(), await crew()
    await ann.connect(bob)
    await ann.connect(liar)
    wanted, into = sample(tmp_path, MIB), tmp_path / "fetched"
    wrong = tmp_path / "wrong"
    wrong.write_bytes(bytes(MIB))
    holds(liar, wrong)
    holds(bob, wanted.source)
    for _ in range(5):
        into.with_name("fetched.part").write_bytes(bytes(MIB // 2))
        assert await ann.network.fetch([bob.peer], wanted.digest, MIB, into) == ()
        assert into.read_bytes() == wanted.data
    async with asyncio.timeout(PATIENCE_S):
        while not ann.seen.of(PeerDown):
            with pytest.raises(PeerError):
                await ann.network.fetch([liar.peer], wanted.digest, MIB, into)
    assert {event.peer for event in ann.seen.of(PeerDown)} == {liar.peer}


async def test_a_transfer_for_which_nobody_waits_any_more_gives_its_place_to_another(
    crew: Crew, tmp_path: Path
) -> None:
    ann, bob, mute = (
        await crew(max_blobs_fetched=1, blob_stall_s=3600.0, keepalive_s=3600.0),
        await crew(),
        await crew(),
    )
    await ann.connect(bob)
    wanted, into = sample(tmp_path, MIB), tmp_path / "fetched"
    holds(bob, wanted.source)
    async with Wire.to(mute.addresses[0]) as (wire, address):
        await ann.network.dial([address])
        await ann.seen.until(lambda: len(ann.seen.of(PeerUp)) == 2)
        wire.is_silent = True
        waiting = asyncio.ensure_future(fetch(ann, [mute], wanted, tmp_path / "silent"))
        await asyncio.sleep(0)
        waiting.cancel()
        async with asyncio.timeout(PATIENCE_S):
            assert await fetch(ann, [bob], wanted, into) == ()


async def test_a_holder_of_several_that_falls_silent_leaves_the_next_its_time(crew: Crew, tmp_path: Path) -> None:
    """Without a list of chunks they are asked one after the other."""
    ann, bob, mute = await crew(blob_stall_s=1.0, keepalive_s=3600.0), await crew(), await crew()
    await ann.connect(bob)
    wanted, into = sample(tmp_path, 1000), tmp_path / "fetched"
    holds(bob, wanted.source)
    async with Wire.to(mute.addresses[0]) as (wire, address):
        await ann.network.dial([address])
        await ann.seen.until(lambda: len(ann.seen.of(PeerUp)) == 2)
        wire.is_silent = True
        assert await ann.network.fetch([mute.peer, bob.peer], wanted.digest, 1000, into) == ()
    assert into.read_bytes() == wanted.data
