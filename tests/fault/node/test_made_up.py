"""Whatever kind of message a stranger makes up, of whatever request, allocation or grant: a node keeps nothing of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from itertools import chain
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

import msgspec
import pytest

from dms.testing import samples
from dms.testing.guest import Guest
from dms.testing.honest_pair import HonestPair
from dms_actors.world import World
from dms_proto.ids import AllocationId, BidId, RequestId, allocation_id, bid_id, request_id
from dms_proto.messages import KINDS, AnyMessage, Hello
from dms_proto.units import SECOND

pytestmark = pytest.mark.usefixtures("quiet")
TIMES = 60
SAMPLES = chain(
    samples.FULL, samples.SEALED, samples.GUARDED, samples.DELEGATED, samples.LOGGED, samples.FROZEN, samples.LEAST
)
EACH: Mapping[str, AnyMessage] = {type(sample).__name__: sample for sample in reversed(list(SAMPLES))}


def a_request(number: int) -> RequestId:
    return request_id(number.to_bytes(16, "big"))


def a_bid(guest: Guest, number: int) -> BidId:
    return bid_id(a_request(number), guest.peer, 0)


def an_allocation(guest: Guest, number: int) -> AllocationId:
    return allocation_id(a_bid(guest, number), 0)


MAKERS: Mapping[str, Callable[[Guest, int], object]] = {
    "request_id": lambda _guest, number: a_request(number),
    "bid_id": a_bid,
    "allocation_id": an_allocation,
    "allocation_ids": lambda guest, number: (an_allocation(guest, number),),
    "nonce": lambda _guest, number: number,
    "about": lambda _guest, number: f"{number:032x}",
    "grant": lambda _guest, number: number.to_bytes(64, "big"),
}


def made_up(sample: AnyMessage, guest: Guest, number: int) -> AnyMessage:
    """A message like `sample`, of something that never was. A hello says who the guest is: otherwise it is shown the door."""
    if isinstance(sample, Hello):
        return guest.hello()
    made = {name: make(guest, number) for name, make in MAKERS.items() if name in sample.__struct_fields__}
    changed: AnyMessage = msgspec.structs.replace(sample, **made)
    return changed


NO_TABLES = (str, bytes, int, float, type(None), World, FunctionType, MethodType, BuiltinFunctionType, type)


def entries(value: Any, seen: set[int]) -> int:
    """How much is kept in a part of a node: entries of all tables in it."""
    if id(value) in seen or isinstance(value, NO_TABLES):
        return 0
    seen.add(id(value))
    if type(value).__module__.startswith(("dms.", "dms_actors.testing", "msgspec")):
        return 0
    match value:
        case dict():
            return len(value) + sum(entries(each, seen) for each in chain(value.keys(), value.values()))
        case list() | tuple() | set() | frozenset() | deque():
            return len(value) + sum(entries(each, seen) for each in value)
    names = (*getattr(value, "__dict__", ()), *getattr(type(value), "__slots__", ()), *_fields(value))
    return sum(entries(getattr(value, name, None), seen) for name in names)


def _fields(value: object) -> tuple[str, ...]:
    return value.__struct_fields__ if isinstance(value, msgspec.Struct) else ()


def kept(pair: HonestPair) -> dict[str, int]:
    """By part of the provider."""
    node = pair.node()
    parts = vars(node) | {"orchestrators": node._world.orchestrators, "allocations": node._world.allocations}
    return {name: entries(part, {id(node)}) for name, part in parts.items() if name not in BESIDE}


BESIDE = ("_world", "journal", "me")
"""What a node has to do with: its log is looked at by its length."""
BOUNDED = {"_gate": "test_replay.py", "_providers": "test_silence.py"}
"""Parts that remember something of it, and where it is tested that this is little."""


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_kept_of_what_is_made_up(kind: str) -> None:
    pair = HonestPair()
    guest = pair.guest()

    def say(first: int) -> tuple[dict[str, int], int]:
        for number in range(first, first + TIMES):
            guest.say(pair.provider, made_up(EACH[kind], guest, number))
            pair.pass_time(50)
        pair.pass_time(SECOND)
        return kept(pair), len(pair.provider.machine.log.events)

    (before, rows), (after, rows_after) = say(0), say(TIMES)
    assert guest.is_connected(pair.provider)
    assert not pair.node()._gate.refused
    assert {name for name, size in after.items() if size > before[name]} <= BOUNDED.keys()
    assert rows == rows_after
    assert pair.works()
