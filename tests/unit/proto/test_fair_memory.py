"""A bounded memory out of which nobody pushes others."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dms_proto.fair_memory import FairMemory


def test_what_is_kept_is_found_until_it_is_taken() -> None:
    memory: FairMemory[str, int] = FairMemory(2)
    memory.keep("x", "a", "here", 1)
    assert (memory.get("x"), memory.take("x"), memory.take("x"), len(memory)) == (1, 1, None, 0)


def test_who_floods_it_pushes_out_its_own() -> None:
    memory: FairMemory[str, int] = FairMemory(100)
    memory.keep("honest", "a", "here", 1)
    for number in range(1_000):
        memory.keep(f"flood {number}", "b", "there", number)
    assert memory.get("honest") == 1
    assert memory.get("flood 999") == 999
    assert len(memory) == 100


def test_a_hundred_identities_of_one_source_push_out_their_own() -> None:
    memory: FairMemory[str, int] = FairMemory(100)
    for number in range(10):
        memory.keep(f"honest {number}", "a", "here", number)
    for number in range(1_000):
        memory.keep(f"flood {number}", f"sybil {number % 100}", "there", number)
    assert all(memory.get(f"honest {number}") == number for number in range(10))


def test_of_one_source_who_has_most_makes_room() -> None:
    memory: FairMemory[str, int] = FairMemory(100)
    memory.keep("honest", "a", "office", 1)
    for number in range(1_000):
        memory.keep(f"flood {number}", "b", "office", number)
    assert memory.get("honest") == 1


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 5), st.integers(0, 2), st.booleans())), st.integers(1, 8))
def test_it_is_bounded_and_finds_what_was_kept_last_under_a_key(
    said: list[tuple[int, int, int, bool]], most: int
) -> None:
    memory: FairMemory[int, int] = FairMemory(most)
    meant: dict[int, int] = {}
    for turn, (key, owner, group, takes) in enumerate(said):
        if takes:
            assert memory.take(key) in (None, meant.pop(key, None))
        else:
            memory.keep(key, str(owner), str(group), turn)
            meant[key] = turn
            assert memory.get(key) == turn
        assert len(memory) <= most
    assert all(memory.get(key) in (None, value) for key, value in meant.items())
