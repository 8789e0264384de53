from __future__ import annotations

import pytest

from dms.node.manifests import MAX_KEPT, MAX_KEPT_BYTES, Known, Manifests
from dms_proto.ids import Digest, digest_of


def a(number: int) -> Digest:
    return digest_of(str(number).encode())


class Shelf:
    """Manifests of one size, and which of them were read."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.asked: list[Digest] = []
        self.known = Manifests(self.read)

    def read(self, digest: Digest) -> Known:
        self.asked.append(digest)
        return Known(None, frozenset(), self.size)


@pytest.mark.parametrize(("size", "room"), [(MAX_KEPT_BYTES // 4, 4), (MAX_KEPT_BYTES // 4 + 1, 3), (0, MAX_KEPT)])
def test_those_used_last_are_kept_as_far_as_their_bytes_and_their_count_go(size: int, room: int) -> None:
    shelf = Shelf(size)
    for number in range(room):
        shelf.known.get(a(number))
    shelf.known.get(a(0))
    assert len(shelf.asked) == room
    shelf.known.get(a(room))
    shelf.known.get(a(0))
    assert len(shelf.asked) == room + 1
    shelf.known.get(a(1))
    assert shelf.asked[-1] == a(1)


def test_what_could_not_be_read_is_read_again() -> None:
    faults = [OSError("not now")]

    def read(_digest: Digest) -> Known:
        if faults:
            raise faults.pop()
        return Known(None, frozenset(), 1)

    known = Manifests(read)
    with pytest.raises(OSError, match="not now"):
        known.get(a(0))
    assert known.get(a(0)).size == 1
