"""A bounded memory in which the newest stay."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dms_proto.recent import Recent


def test_what_is_kept_is_found_until_it_is_taken() -> None:
    memory: Recent[str, int] = Recent(2)
    memory.keep("x", 1)
    assert ("x" in memory, memory.get("x"), memory.take("x"), memory.take("x"), len(memory)) == (True, 1, 1, None, 0)


def test_what_is_kept_again_is_new_again() -> None:
    memory: Recent[str, int] = Recent(2)
    for key, value in (("x", 1), ("y", 2), ("x", 3), ("z", 4)):
        memory.keep(key, value)
    assert (memory.get("x"), memory.get("y"), memory.get("z")) == (3, None, 4)


@given(st.integers(1, 5), st.lists(st.tuples(st.integers(0, 9), st.integers())))
def test_the_newest_are_remembered_and_no_more(most: int, kept: list[tuple[int, int]]) -> None:
    memory: Recent[int, int] = Recent(most)
    for key, value in kept:
        memory.keep(key, value)
    newest = list(dict.fromkeys(key for key, _ in reversed(kept)))
    assert len(memory) == min(most, len(newest))
    assert {key for key in newest if key in memory} == set(newest[:most])
    assert all(memory.get(key) == dict(kept)[key] for key in newest[:most])
