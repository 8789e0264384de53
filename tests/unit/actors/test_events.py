"""Events as rows: what is written down is what is read back, for every event of every machine."""

from __future__ import annotations

import importlib
import pkgutil

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import dms_proto
from dms.testing.strategies import structs
from dms_actors.events import EVENT_KINDS, from_row, is_stored, to_row
from dms_actors.ports import StoredEvent
from dms_proto.allocation.events import AllocationEnded
from dms_proto.errors import InternalError, MachineError
from dms_proto.ids import PeerId, digest_of
from dms_proto.machine import Event, Transient
from dms_proto.market.auction_events import ProviderSuspected
from dms_proto.market.owner import Owner, PreferencesChanged, evolve
from dms_proto.market.preferences import fastest
from dms_proto.membership.machine import LookedAround, PeerLeft
from dms_proto.promises import PROMISES, WRITTEN_FIRST
from dms_proto.rules import MAX_LINE
from dms_proto.work import Ending, EndReason, Output


def stored(event: Event, cause_id: str = "c") -> StoredEvent:
    row = to_row("stream", event, cause_id)
    return StoredEvent(1, row.stream, 1, row.kind, 0, row.cause_id, row.body)


@pytest.mark.parametrize("kind", EVENT_KINDS.values(), ids=EVENT_KINDS.keys())
@settings(max_examples=15, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_every_event_is_read_back_as_it_was_written(kind: type[Event], data: st.DataObject) -> None:
    event = data.draw(structs(kind))
    assert from_row(stored(event)) == event


def test_every_event_class_there_is_has_a_kind() -> None:
    """One whose module is not listed could be written down and not be read again."""
    for module in pkgutil.walk_packages(dms_proto.__path__, "dms_proto."):
        importlib.import_module(module.name)
    classes = {kind for kind in _subclasses(Event) if kind.__module__.startswith("dms_proto.")} - {Transient}
    assert classes == set(EVENT_KINDS.values())


def _subclasses(kind: type[Event]) -> set[type[Event]]:
    return {each for below in kind.__subclasses__() for each in (below, *_subclasses(below))}


def test_what_is_promised_is_a_kind_that_is_stored() -> None:
    assert WRITTEN_FIRST > PROMISES
    assert all(not issubclass(EVENT_KINDS[kind], Transient) for kind in WRITTEN_FIRST)


def test_the_row_names_stream_kind_and_cause() -> None:
    row = to_row("peers", PeerLeft(PeerId("p"), "silent", 7), "cause")
    assert (row.stream, row.kind, row.cause_id) == ("peers", "PeerLeft", "cause")


def test_a_mapping_with_numbers_as_keys_is_read_back() -> None:
    event = ProviderSuspected(PeerId("p"), {1: 10, 0: 20})
    assert from_row(stored(event)) == event


def test_an_unknown_kind_is_refused_as_written_by_a_newer_version() -> None:
    row = StoredEvent(9, "s", 1, "SomethingElse", 0, "", b"\x80")
    with pytest.raises(MachineError) as caught:
        from_row(row)
    assert caught.value.code == "store_newer"
    assert "SomethingElse" in caught.value.message


@pytest.mark.parametrize("body", [b"", b"\xc1", b"\x80", b"\x81\xa1x"])
def test_a_body_that_does_not_decode_is_corrupt(body: bytes) -> None:
    with pytest.raises(MachineError) as caught:
        from_row(StoredEvent(9, "s", 1, "PeerLeft", 0, "", body))
    assert caught.value.code == "store_corrupt"
    assert "9" in caught.value.message


def test_an_event_that_could_not_be_read_again_is_not_written_down() -> None:
    unreadable = AllocationEnded(
        Ending(EndReason.COMPLETED, 0), (Output("x" * 2_000, digest_of(b""), 0),), (0, 0), 0, 1
    )
    with pytest.raises(InternalError, match="AllocationEnded breaks a rule"):
        to_row("a-1", unreadable, "test")


def test_a_line_that_was_put_together_too_long_is_cut() -> None:
    ending = Ending(EndReason.PROVIDER_FAULT, detail="x" * 1_000)
    assert ending.detail == "x" * (MAX_LINE - 1) + "…"
    assert msgspec.structs.replace(ending, detail="y" * (MAX_LINE + 1)).detail.endswith("y…")
    assert Ending(EndReason.PROVIDER_FAULT, detail="x" * MAX_LINE).detail == "x" * MAX_LINE


def test_transient_events_are_not_stored() -> None:
    assert not is_stored(LookedAround(1))
    assert is_stored(PeerLeft(PeerId("p"), "silent", 7))


def test_the_owners_word_is_the_last_one() -> None:
    owner = evolve(Owner(), PreferencesChanged(fastest()))
    assert owner.preferences == fastest()
    assert evolve(owner, EVENT_KINDS["WorkResumed"]()) == owner
