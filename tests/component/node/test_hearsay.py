"""Of many that say that they have a manifest, the right one is found, and in time."""

from __future__ import annotations

from pathlib import Path

import pytest

from dms.node import hearsay
from dms.node.hearsay import Said, first_right, in_turn
from dms.store.blobs import BlobStore
from dms_actors.testing.network import MemoryFabric, MemoryNetwork
from dms_proto.errors import PeerError
from dms_proto.ids import PeerId, digest_of

DATA = b"what is right"
RIGHT = digest_of(DATA)
ME, HOLDER = PeerId("me"), PeerId("holder")
LIARS = [PeerId(f"liar {number}") for number in range(12)]


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs")


async def asking(fabric: MemoryFabric, gives: Path) -> MemoryNetwork:
    """The network of one that is connected to all; the holder and the liars give what is in a file."""
    networks = [fabric.network(peer) for peer in (ME, HOLDER, *LIARS)]
    for network in networks:
        await network.start(lambda _event: None)
        network.serve_blobs(lambda peer, _digest: gives if peer == ME else None)
    for peer in (HOLDER, *LIARS):
        await networks[0].dial([f"/p2p/{peer}"])
    return networks[0]


def test_what_most_say_is_looked_at_first_and_no_size_waits_for_all_of_another() -> None:
    said = {PeerId(name): size for name, size in zip("abcdefg", (9, 7, 7, 5, 5, 5, 3), strict=True)}
    assert in_turn(said) == [
        Said(PeerId(name), size) for name, size in zip("dbgaecf", (5, 7, 3, 9, 5, 7, 5), strict=True)
    ]


@pytest.mark.parametrize("alike", [True, False], ids=["all say the same", "each says something else"])
async def test_who_stalls_holds_up_its_own_turn_alone(
    blobs: BlobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alike: bool
) -> None:
    monkeypatch.setattr(hearsay, "TURN_S", 0.05)
    fabric = MemoryFabric()
    fabric.silent.update(LIARS)
    (tmp_path / "given").write_bytes(DATA)
    network = await asking(fabric, tmp_path / "given")
    said = {liar: 1 if alike else number for number, liar in enumerate(LIARS)}
    await first_right(network, blobs, RIGHT, {**said, HOLDER: len(DATA)})
    path = blobs.path(RIGHT)
    assert path is not None
    assert path.read_bytes() == DATA


async def test_where_all_stall_it_ends_in_time_and_says_how_many_were_asked(
    blobs: BlobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hearsay, "ALL_S", 0.05)
    fabric = MemoryFabric()
    fabric.silent.update(LIARS)
    network = await asking(fabric, tmp_path / "given")
    with pytest.raises(PeerError, match=r"did not come in 0 s; of 3 nodes that said to have it none gave it") as caught:
        await first_right(network, blobs, RIGHT, dict.fromkeys(LIARS, 5))
    assert caught.value.code == "peer_timeout"
    assert not list((blobs.root / "incoming").iterdir())


async def test_where_all_give_something_else_it_is_said(blobs: BlobStore, tmp_path: Path) -> None:
    (tmp_path / "given").write_bytes(b"something else")
    network = await asking(MemoryFabric(), tmp_path / "given")
    with pytest.raises(PeerError, match=r"of 12 nodes that said to have it none gave it") as caught:
        await first_right(network, blobs, RIGHT, dict.fromkeys(LIARS, len(b"something else")))
    assert caught.value.code == "digest_mismatch"
    assert blobs.path(RIGHT) is None
