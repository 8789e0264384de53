"""Changes in words: written, read back, applied; always weaker, never rounded past what was said."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms_proto.capability import Isolation, JobClass
from dms_proto.market.changes import (
    QUANTITIES,
    Change,
    any_executor,
    apply_change,
    current,
    floor_bytes,
    parse_change,
)
from dms_proto.market.comparison import fits
from dms_proto.units import MAX_QUANTITY, MIB
from tests.unit.proto.market.market_strategies import a_request, needs, pairs

name = st.text(st.characters(whitelist_categories=("L", "N")), min_size=1, max_size=10)
countable = st.one_of(
    st.builds(
        Change, st.sampled_from(sorted(QUANTITIES.keys() - {"gpu_count"})), st.integers(0, MAX_QUANTITY), st.just("")
    ),
    st.builds(Change, st.just("gpu_count"), st.integers(0, 9999), st.just("")),
)
kind = st.one_of(
    st.builds(
        Change, st.sampled_from(["architecture", "country", "gpu_vendor", "gpu_model"]), st.just(0), st.just("any")
    ),
    st.just(Change("relayed", 0, "accepted")),
    st.builds(Change, st.just("job_class"), st.just(0), st.sampled_from([str(c) for c in JobClass])),
    name.map(lambda key: Change(f"label:{key}", 0, "any")),
    st.builds(lambda n, text: Change(f"library:{n}", 0, text), name, st.sampled_from(["any version", "none"])),
    st.builds(
        any_executor,
        name,
        st.sampled_from(Isolation),
        st.lists(st.sampled_from(["cpu", "memory", "wall"]), unique=True).map(tuple),
        any_version=st.booleans(),
    ),
)
changes = countable | kind


@given(changes)
def test_what_is_written_is_read_back_exactly(change: Change) -> None:
    assert parse_change(str(change)) == change


@given(changes)
def test_a_change_covers_itself(change: Change) -> None:
    assert change.covers(change)


@given(st.text(max_size=80))
def test_whatever_a_stranger_writes_is_read_or_passed_over(text: str) -> None:
    change = parse_change(text)
    if change is not None:
        apply_change(a_request(), change)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "memory",
        "memory much",
        "memory -1 GiB",
        "memory 99999999999999999999 GiB",
        "gpus -3",
        "gpus ٣",
        "gpus 1_0",
        "class root",
        "architecture x86_64",
        "executor sandbox isolation telepathy limits none",
        "rm -rf /",
        "memory 1 GiB\nmemory 0 B",
    ],
)
def test_what_is_no_change_is_none(text: str) -> None:
    assert parse_change(text) is None


@given(pairs, changes.filter(lambda change: change.dimension != "job_class"), st.integers(0, 10**6))
def test_a_change_never_costs_a_machine_that_fitted(pair, change, max_price) -> None:
    required, offered = pair
    before = a_request(required, max_price=max_price)
    after = apply_change(before, change)
    assert fits(before.needs, offered, max_price=before.max_price) <= fits(
        after.needs, offered, max_price=after.max_price
    )


@given(needs, changes)
def test_applying_twice_is_applying_once(required, change) -> None:
    once = apply_change(a_request(required), change)
    assert apply_change(once, change) == once


@given(st.integers(0, MAX_QUANTITY))
def test_rounded_bytes_are_never_more_and_hardly_less(value: int) -> None:
    rounded = floor_bytes(value)
    assert value * 63 // 64 <= rounded <= value
    assert value < 64 * MIB or rounded % MIB == 0


def test_what_the_request_asks_now_is_said_in_the_same_words() -> None:
    assert current(a_request(), "memory") == "1 GiB"
    assert current(a_request(), "price") == "10"
    assert current(a_request(), "architecture") == ""


def test_a_change_that_asks_for_more_than_now_changes_nothing() -> None:
    request = a_request(max_price=100)
    assert apply_change(request, Change("price", 99)) == request
    assert apply_change(request, Change("memory", request.needs.resources.memory_bytes + 1)) == request


def test_weaker_changes_cover_stronger_ones() -> None:
    assert Change("memory", 1).covers(Change("memory", 2))
    assert not Change("memory", 2).covers(Change("memory", 1))
    assert Change("price", 2).covers(Change("price", 1))
    assert not Change("memory", 1).covers(Change("disk", 2))
    assert Change("library:a", 0, "none").covers(Change("library:a", 0, "any version"))
    assert not Change("library:a", 0, "any version").covers(Change("library:a", 0, "none"))
    soft = any_executor("sandbox", Isolation.NONE, ())
    assert soft.covers(any_executor("sandbox", Isolation.LANDLOCK, ("cpu",)))
    assert not any_executor("sandbox", Isolation.LANDLOCK, ("cpu",)).covers(soft)
