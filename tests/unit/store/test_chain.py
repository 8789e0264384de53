import hashlib

import msgpack
import pytest

from dms.store.chain import GENESIS, Row, follows, link

CONTENT = (1, "r-1", 1, "bid_made", 1_700_000_000_000, "m-1", 1, b"body")


def test_the_hash_can_be_recomputed_with_any_msgpack_library():
    expected = hashlib.sha256(GENESIS + msgpack.packb(list(CONTENT), use_bin_type=True)).digest()
    assert link(GENESIS, CONTENT) == expected


@pytest.mark.parametrize("place", range(8))
def test_every_field_is_covered(place):
    changed = list(CONTENT)
    value = changed[place]
    changed[place] = value + 1 if isinstance(value, int) else value[:-1]
    row = Row(*changed, link(GENESIS, CONTENT))
    assert follows(GENESIS, Row(*CONTENT, link(GENESIS, CONTENT)))
    assert not follows(GENESIS, row)


def test_characters_moved_from_one_field_to_the_next_change_the_hash():
    moved = (1, "r-1b", 1, "id_made", *CONTENT[4:])
    assert link(GENESIS, moved) != link(GENESIS, CONTENT)


def test_the_hash_before_is_covered():
    assert link(b"\x01" * 32, CONTENT) != link(GENESIS, CONTENT)
