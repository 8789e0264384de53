"""What every `Network` does, as tests that run on each implementation: the real process and the in-memory twin.

A test module subclasses `NetworkContract` as ``TestSomething`` and says how to make a network; pytest then collects the tests from here.
"""

# ruff: noqa: D102, ASYNC110 - the name of a test says what it requires; what has no event is waited for by looking
from __future__ import annotations

import asyncio
import hashlib
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TypeVar

import pytest
import pytest_asyncio

from dms_actors.ports import (
    FrameReceived,
    GossipReceived,
    Network,
    NetworkEvent,
    PeerDown,
    PeerUp,
)
from dms_proto.data.chunks import Hashing
from dms_proto.errors import PeerError
from dms_proto.ids import Digest, PeerId

PATIENCE_S = 30.0
"""Longest wait for something that must happen; a test that passes never waits that long."""

Event = TypeVar("Event", bound=NetworkEvent)


class Recorder:
    """A listener that remembers, and that can be waited on."""

    def __init__(self) -> None:
        self.events: list[NetworkEvent] = []
        self._changed = asyncio.Event()

    def __call__(self, event: NetworkEvent) -> None:
        """Takes an event."""
        self.events.append(event)
        self._changed.set()

    def beside(self, network: Network) -> Callable[[NetworkEvent], None]:
        """The same listener for one that also deals with each frame at once, as far as the network is told."""

        def hear(event: NetworkEvent) -> None:
            self(event)
            if isinstance(event, FrameReceived | GossipReceived):
                network.took(event)

        return hear

    def of(self, kind: type[Event]) -> list[Event]:
        """The events of one kind, in order."""
        return [event for event in self.events if isinstance(event, kind)]

    async def until(self, condition: Callable[[], object], patience_s: float = PATIENCE_S) -> None:
        """Waits until `condition()` is true; it is looked at after each event.

        Raises:
            AssertionError: it did not become true in time; shows the last events.
        """
        try:
            async with asyncio.timeout(patience_s):
                while not condition():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"did not happen; the last events: {self.events[-8:]}") from None

    async def first(self, kind: type[Event], matches: Callable[[Event], bool] = lambda _event: True) -> Event:
        """Waits for the first event of a kind that matches."""
        await self.until(lambda: any(matches(event) for event in self.of(kind)))
        return next(event for event in self.of(kind) if matches(event))


class Member:
    """A started network with its recorder."""

    def __init__(self, network: Network, recorder: Recorder, addresses: tuple[str, ...]) -> None:
        self.network = network
        self.seen = recorder
        self.addresses = addresses
        self.peer = PeerId(addresses[0].rpartition("/p2p/")[2])

    async def connect(self, other: Member) -> None:
        """Dials, and waits until both know each other."""
        assert await self.network.dial(other.addresses) == other.peer
        await self.seen.until(lambda: other.peer in self.network.links())
        await other.seen.until(lambda: self.peer in other.network.links())


def blob(size: int) -> tuple[bytes, Digest]:
    """Bytes that do not repeat in any block, and their name."""
    data = b"".join(hashlib.sha256(i.to_bytes(4, "big")).digest() for i in range((size + 31) // 32))[:size]
    return data, Digest("sha256:" + hashlib.sha256(data).hexdigest())


class NetworkMembers:
    """Networks for the tests of one class, started and stopped again. Subclass, override `make`, and name the subclass ``Test…``."""

    topic = "contract"

    def make(self) -> Network:
        """A network that is not started, with an identity of its own, subscribed to `topic`."""
        raise NotImplementedError

    @pytest_asyncio.fixture
    async def start(self) -> AsyncIterator[Callable[[], object]]:
        """Starts members, and stops them at the end of the test."""
        members: list[Member] = []

        async def start_one() -> Member:
            network, recorder = self.make(), Recorder()
            members.append(Member(network, recorder, await network.start(recorder.beside(network))))
            return members[-1]

        yield start_one
        await asyncio.gather(*(member.network.stop() for member in members))

    @pytest_asyncio.fixture
    async def pair(self, start: Callable[[], asyncio.Future[Member]]) -> tuple[Member, Member]:
        """Two members that are connected."""
        ann, bob = await start(), await start()
        await ann.connect(bob)
        return ann, bob


class NetworkContract(NetworkMembers):
    """What every network does, but for tunnels."""

    async def test_start_gives_addresses_that_end_in_the_peer_id(
        self, start: Callable[[], asyncio.Future[Member]]
    ) -> None:
        ann = await start()
        assert ann.addresses
        assert all(address.endswith(f"/p2p/{ann.peer}") for address in ann.addresses)

    async def test_dialling_brings_both_sides_up_with_dialable_addresses(self, pair: tuple[Member, Member]) -> None:
        ann, bob = pair
        up = await ann.seen.first(PeerUp)
        assert up.peer == bob.peer
        assert set(up.addresses) & set(bob.addresses)
        assert [event.peer for event in bob.seen.of(PeerUp)] == [ann.peer]

    async def test_dialling_a_connected_peer_again_gives_it_at_once_and_no_second_up(
        self, pair: tuple[Member, Member]
    ) -> None:
        ann, bob = pair
        assert await ann.network.dial(bob.addresses) == bob.peer
        assert len(ann.seen.of(PeerUp)) == 1

    async def test_dialling_nobody_is_an_error_that_names_the_address(
        self, start: Callable[[], asyncio.Future[Member]]
    ) -> None:
        ann, gone = await start(), await start()
        await gone.network.stop()
        with pytest.raises(PeerError) as caught:
            await ann.network.dial(gone.addresses)
        assert caught.value.code == "peer_unreachable"

    async def test_frames_arrive_complete_and_in_order_in_both_directions(self, pair: tuple[Member, Member]) -> None:
        ann, bob = pair
        sent = [bytes([i % 256]) * (i * 37 % 5000) for i in range(300)]
        for frame in sent:
            assert ann.network.send(bob.peer, frame)
            assert bob.network.send(ann.peer, frame[::-1])
        await bob.seen.until(lambda: len(bob.seen.of(FrameReceived)) >= len(sent))
        await ann.seen.until(lambda: len(ann.seen.of(FrameReceived)) >= len(sent))
        assert [event.frame for event in bob.seen.of(FrameReceived)] == sent
        assert [event.frame for event in ann.seen.of(FrameReceived)] == [frame[::-1] for frame in sent]
        assert {event.peer for event in bob.seen.of(FrameReceived)} == {ann.peer}

    async def test_the_first_frame_comes_after_peer_up(self, start: Callable[[], asyncio.Future[Member]]) -> None:
        ann, bob = await start(), await start()
        await ann.network.dial(bob.addresses)
        assert ann.network.send(bob.peer, b"first")
        await bob.seen.first(FrameReceived)
        kinds = [type(event) for event in bob.seen.events if isinstance(event, PeerUp | FrameReceived)]
        assert kinds == [PeerUp, FrameReceived]

    async def test_the_largest_frame_passes_and_a_larger_one_is_refused(self, pair: tuple[Member, Member]) -> None:
        ann, bob = pair
        largest, _ = blob(256 * 1024)
        assert not ann.network.send(bob.peer, largest + b"x")
        assert ann.network.send(bob.peer, largest)
        assert (await bob.seen.first(FrameReceived)).frame == largest

    async def test_sending_to_an_unknown_peer_says_no(self, start: Callable[[], asyncio.Future[Member]]) -> None:
        ann, bob = await start(), await start()
        assert not ann.network.send(bob.peer, b"nobody hears this")

    async def test_a_full_queue_says_no_and_empties(self, pair: tuple[Member, Member]) -> None:
        ann, bob = pair
        frame, accepted = bytes(64 * 1024), 0
        while ann.network.send(bob.peer, frame):
            accepted += 1
            assert accepted < 10_000, "the queue has no bound"
        await bob.seen.until(lambda: len(bob.seen.of(FrameReceived)) == accepted)
        async with asyncio.timeout(PATIENCE_S):
            while not ann.network.send(bob.peer, b"once more"):
                await asyncio.sleep(0.01)
        await bob.seen.first(FrameReceived, lambda event: event.frame == b"once more")

    async def test_gossip_reaches_everyone_but_the_sender_once_across_hops(
        self, start: Callable[[], asyncio.Future[Member]]
    ) -> None:
        ann, bob, cid = await start(), await start(), await start()
        await ann.connect(bob)
        await bob.connect(cid)
        sent: list[bytes] = []

        def reached_all() -> bool:
            return all({e.frame for e in m.seen.of(GossipReceived)} & set(sent) for m in (bob, cid))

        async with asyncio.timeout(PATIENCE_S):  # subscriptions travel at their own pace: gossip until they arrived
            while not reached_all():
                sent.append(b"news %d" % len(sent))
                assert ann.network.publish(self.topic, sent[-1])
                await asyncio.sleep(0.1)
        assert not ann.seen.of(GossipReceived)
        for member in (bob, cid):
            got = [event.frame for event in member.seen.of(GossipReceived)]
            assert len(got) == len(set(got))
        assert {event.topic for event in cid.seen.of(GossipReceived)} == {self.topic}
        assert {event.forwarder for event in cid.seen.of(GossipReceived)} == {bob.peer}

    async def test_publishing_elsewhere_or_too_much_says_no(self, pair: tuple[Member, Member]) -> None:
        ann, _ = pair
        assert not ann.network.publish("another topic", b"x")
        assert not ann.network.publish(self.topic, bytes(4 * 1024 + 1))

    async def test_a_peer_that_stops_goes_down_as_closed(self, pair: tuple[Member, Member]) -> None:
        ann, bob = pair
        await bob.network.stop()
        down = await ann.seen.first(PeerDown)
        assert (down.peer, down.reason) == (bob.peer, "closed")
        assert bob.peer not in ann.network.links()
        assert not ann.network.send(bob.peer, b"too late")

    async def test_links_tell_peer_addresses_and_round_trip(self, pair: tuple[Member, Member]) -> None:
        ann, bob = pair
        link = ann.network.links()[bob.peer]
        assert link.peer == bob.peer
        assert set(link.addresses) & set(bob.addresses)
        async with asyncio.timeout(PATIENCE_S):
            while not ann.network.links()[bob.peer].rtt_us:
                await asyncio.sleep(0.01)
        assert not link.relayed
        assert not link.inbound
        assert bob.network.links()[ann.peer].inbound

    async def test_a_banned_peer_goes_down_and_cannot_come_back(self, pair: tuple[Member, Member]) -> None:
        ann, bob = pair
        ann.network.ban(bob.peer, 60)
        down = await ann.seen.first(PeerDown)
        assert (down.peer, down.reason) == (bob.peer, "banned")
        await bob.seen.first(PeerDown)
        with pytest.raises(PeerError):
            await bob.network.dial(ann.addresses)
        assert bob.peer not in ann.network.links()

    async def test_what_was_sent_before_a_ban_arrives(self, pair: tuple[Member, Member]) -> None:
        """Such as the hello by which a peer learns that its clock is wrong."""
        ann, bob = pair
        assert ann.network.send(bob.peer, b"why")
        ann.network.ban(bob.peer, 60)
        await bob.seen.first(PeerDown)
        assert [event.frame for event in bob.seen.of(FrameReceived)] == [b"why"]

    async def test_a_ban_holds_for_the_name_that_succeeds(self, pair: tuple[Member, Member]) -> None:
        """Who has a new key is another peer for the network, which is told whose it is when they have connected."""
        ann, bob = pair
        old = PeerId("12D3KooWA1bysjrTACSWqf6q172inxvwKHUxAnBtVgaVDKMxpZtx")
        ann.network.ban(old, 60)
        ann.network.inherit_ban(PeerId("nobody"), bob.peer)
        assert bob.peer in ann.network.links()
        ann.network.inherit_ban(old, bob.peer)
        assert (await ann.seen.first(PeerDown)).peer == bob.peer
        with pytest.raises(PeerError):
            await bob.network.dial(ann.addresses)

    async def test_a_blob_is_fetched_checked_and_put_in_place(
        self, pair: tuple[Member, Member], tmp_path: Path
    ) -> None:
        ann, bob = pair
        data, digest = blob(3 * 1024 * 1024 + 17)
        source, into = tmp_path / "source", tmp_path / "below" / "fetched"
        source.write_bytes(data)
        asked: list[tuple[PeerId, Digest]] = []

        def open_blob(peer: PeerId, wanted: Digest) -> Path | None:
            asked.append((peer, wanted))
            return source if wanted == digest else None

        bob.network.serve_blobs(open_blob)
        await ann.network.fetch([bob.peer], digest, len(data), into)
        assert into.read_bytes() == data
        assert os.listdir(into.parent) == ["fetched"]  # noqa: PTH208 - a look at a test's own directory
        assert asked == [(ann.peer, digest)]

    async def test_an_empty_blob_is_fetched(self, pair: tuple[Member, Member], tmp_path: Path) -> None:
        ann, bob = pair
        _, digest = blob(0)
        source = tmp_path / "source"
        source.touch()
        bob.network.serve_blobs(lambda _peer, _digest: source)
        await ann.network.fetch([bob.peer], digest, 0, tmp_path / "fetched")
        assert (tmp_path / "fetched").read_bytes() == b""

    async def test_a_partial_file_is_resumed(self, pair: tuple[Member, Member], tmp_path: Path) -> None:
        ann, bob = pair
        data, digest = blob(1024 * 1024)
        source, into = tmp_path / "source", tmp_path / "fetched"
        source.write_bytes(data)
        into.with_name("fetched.part").write_bytes(data[:700_001])
        bob.network.serve_blobs(lambda _peer, _digest: source)
        await ann.network.fetch([bob.peer], digest, len(data), into)
        assert into.read_bytes() == data

    async def test_a_refused_blob_is_an_error_that_says_so(self, pair: tuple[Member, Member], tmp_path: Path) -> None:
        ann, bob = pair
        _, digest = blob(100)
        bob.network.serve_blobs(lambda _peer, _digest: None)
        with pytest.raises(PeerError, match="refused") as caught:
            await ann.network.fetch([bob.peer], digest, 100, tmp_path / "fetched")
        assert caught.value.code == "peer_unreachable"
        assert not caught.value.retryable
        assert not (tmp_path / "fetched").exists()

    async def test_a_wrong_blob_is_a_digest_mismatch_and_leaves_nothing(
        self, pair: tuple[Member, Member], tmp_path: Path
    ) -> None:
        ann, bob = pair
        data, digest = blob(100_000)
        source = tmp_path / "source"
        source.write_bytes(data[:-1] + b"?")
        bob.network.serve_blobs(lambda _peer, _digest: source)
        with pytest.raises(PeerError) as caught:
            await ann.network.fetch([bob.peer], digest, len(data), tmp_path / "fetched")
        assert caught.value.code == "digest_mismatch"
        assert os.listdir(tmp_path) == ["source"]  # noqa: PTH208 - a look at a test's own directory

    async def test_a_blob_of_another_size_is_a_digest_mismatch(
        self, pair: tuple[Member, Member], tmp_path: Path
    ) -> None:
        ann, bob = pair
        data, digest = blob(1000)
        source = tmp_path / "source"
        source.write_bytes(data)
        bob.network.serve_blobs(lambda _peer, _digest: source)
        with pytest.raises(PeerError) as caught:
            await ann.network.fetch([bob.peer], digest, 999, tmp_path / "fetched")
        assert caught.value.code == "digest_mismatch"

    async def test_who_holds_something_else_is_named_and_another_is_asked(
        self, start: Callable[[], asyncio.Future[Member]], tmp_path: Path
    ) -> None:
        ann, liar, bob = await start(), await start(), await start()
        data, digest = blob(5 * 1024 * 1024)
        hashing = Hashing()
        hashing.update(data)
        source, wrong, chunks = tmp_path / "source", tmp_path / "wrong", tmp_path / "chunks"
        source.write_bytes(data)
        wrong.write_bytes(bytes(len(data)))
        chunks.write_bytes(hashing.chunk_list())
        for member, path in ((liar, wrong), (bob, source)):
            await ann.connect(member)
            member.network.serve_blobs(lambda _peer, _digest, path=path: path)  # type: ignore[misc]
        for number, listed in enumerate((chunks, None)):
            into = tmp_path / f"fetched {number}"
            came: Counter[PeerId] = Counter()
            holders = [liar.peer, bob.peer]
            assert await ann.network.fetch(holders, digest, len(data), into, listed, came=came) == (liar.peer,)
            assert came == {bob.peer: len(data)}
            assert into.read_bytes() == data

    async def test_fetching_from_a_peer_that_is_not_connected_is_an_error(
        self, start: Callable[[], asyncio.Future[Member]], tmp_path: Path
    ) -> None:
        ann, bob = await start(), await start()
        with pytest.raises(PeerError) as caught:
            await ann.network.fetch([bob.peer], blob(1)[1], 1, tmp_path / "fetched")
        assert caught.value.code == "peer_unreachable"

    async def test_stopping_twice_is_fine(self, start: Callable[[], asyncio.Future[Member]]) -> None:
        ann = await start()
        await ann.network.stop()
        await ann.network.stop()
        assert not ann.network.publish(self.topic, b"too late")
