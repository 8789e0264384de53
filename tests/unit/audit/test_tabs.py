"""A file about a tab: what it proves of calls, and whatever is wrong in it, by whomever."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest

from dms.audit.export import export
from dms.audit.faults import FaultCode
from dms.audit.report import TabSum
from dms.audit.verify import verify
from dms.cli.text import plain
from dms.cli.views.audit import report as report_view
from dms.testing.audit_story import chained
from dms.testing.samples import NOW, PROVIDER, REQUESTER, STRANGER
from dms_proto.capability import Price, Resources
from dms_proto.ids import MessageId, tab_id
from dms_proto.machine import Event
from dms_proto.messages import AnyMessage, TabSigned, TabStated, TabTerms
from dms_proto.pool.records import CallId
from dms_proto.tabs.kept import (
    KEPT_STREAM,
    CallBilled,
    KeptSaved,
    SumSigned,
    SumStated,
    TabAgreed,
    TabForgotten,
    TabOver,
)
from dms_proto.tabs.terms import owed, terms_digest
from dms_proto.tabs.used import USED_STREAM, CallBegun, CallSeen, SumAnswered, TabEnded, TabTaken
from dms_proto.units import CORE, CREDIT, GIB, HOUR, MINUTE
from dms_proto.wire import Signer, seal

TAB = tab_id(bytes(16))
TERMS = TabTerms(
    TAB,
    "command/echo",
    REQUESTER.peer_id,
    PROVIDER.peer_id,
    Resources(CORE, GIB),
    Price(cpu_core_hour=CREDIT),
    CREDIT,
    MINUTE,
)
DIGEST = terms_digest(TERMS)
ONE, TWO = owed(TERMS, 1, 20_000), owed(TERMS, 2, 50_000)
change = msgspec.structs.replace


def frame(message: AnyMessage, *, signer: Signer | None = None, to: Signer | None = None, sent: int = NOW) -> bytes:
    """As its side signs it for the other."""
    is_callers = isinstance(message, TabSigned)
    signer = signer or (REQUESTER if is_callers else PROVIDER)
    to = to or (PROVIDER if is_callers else REQUESTER)
    name = f"{type(message).__name__}{getattr(message, 'number', 0)}"
    return seal(signer, message, id=MessageId(name.encode().ljust(16, b".")), sent=sent, ttl_ms=60_000, to=to.peer_id)


def stated(number: int, calls: int = 0, ran_ms: int = 0, price: int = 0) -> TabStated:
    return TabStated(TAB, number, DIGEST, calls, ran_ms, price, offer=None if number else TERMS)


def kept(**frames: bytes) -> list[Event]:
    """The provider's log. `frames`: signed otherwise, by the name of what they sign."""
    signed = {
        f"sum{number}": frame(TabSigned(TAB, number, DIGEST, price)) for number, price in enumerate((0, ONE, TWO))
    }
    signed |= frames
    return [
        TabAgreed(TERMS, NOW, signed["sum0"]),
        CallBilled(CallId("c1"), TAB, 1, 20_000, NOW),
        SumStated(TAB, 1, ONE, NOW),
        SumSigned(TAB, 1, ONE, signed["sum1"]),
        CallBilled(CallId("c2"), TAB, 2, 50_000, NOW),
        TabOver(TAB, "it was not used any more"),
        SumStated(TAB, 2, TWO, NOW),
        SumSigned(TAB, 2, TWO, signed["sum2"]),
        TabForgotten(TAB),
    ]


def used(**frames: bytes) -> list[Event]:
    """The caller's."""
    sums = (stated(0), stated(1, 1, 20_000, ONE), stated(2, 2, 50_000, TWO))
    signed = {f"sum{number}": frame(message) for number, message in enumerate(sums)} | frames
    return [
        TabTaken(TERMS, NOW, signed["sum0"], CREDIT),
        CallBegun(TAB, CallId("c1"), NOW),
        CallSeen(TAB, CallId("c1"), 20_100, at=NOW),
        SumAnswered(TAB, PROVIDER.peer_id, 1, ONE, ONE, 1, 20_000, signed["sum1"]),
        SumAnswered(TAB, PROVIDER.peer_id, 2, TWO, TWO, 2, 50_000, signed["sum2"]),
        TabEnded(TAB, "it was not used any more", NOW),
    ]


def file(events: Sequence[Event], exporter: Signer | None = None) -> bytes:
    """The file about the tab, by whoever has such a log."""
    is_provider = any(isinstance(event, TabAgreed | SumStated) for event in events)
    stream = KEPT_STREAM if is_provider else USED_STREAM
    return export(TAB, tuple(chained(events, stream)), exporter or (PROVIDER if is_provider else REQUESTER), NOW)


def codes(events: Sequence[Event], exporter: Signer | None = None) -> set[FaultCode]:
    return {fault.code for fault in verify(file(events, exporter)).faults}


@pytest.mark.parametrize("log", [kept, used])
def test_either_side_s_file_proves_the_same_sums(log: Callable[[], list[Event]]) -> None:
    found = verify(file(log()))
    assert found.faults == ()
    assert (found.job, found.frames, found.agreements) == (TAB, 3, ())
    (tab,) = found.tabs
    assert (tab.terms, tab.caller, tab.provider) == (DIGEST, REQUESTER.peer_id, PROVIDER.peer_id)
    assert tab.sums == (TabSum(1, 1, 20_000, ONE, ONE), TabSum(2, 2, 50_000, TWO, TWO))
    assert (tab.confirmed, tab.over) == (TWO, "it was not used any more")
    told = "\n".join(plain(report_view(found)))
    for words in (
        f"Tab {TAB}",
        "command/echo",
        "an hour costs",
        "at most 1 credit in all",
        "0.013889 credits confirmed as owed",
    ):
        assert words in told


OTHER = change(TERMS, max_price=2 * CREDIT)
FORGED: list[tuple[Any, dict[str, bytes], FaultCode]] = [
    (kept, {"sum0": frame(TabSigned(TAB, 0, terms_digest(OTHER), 0))}, FaultCode.TERMS_DIFFER),
    (kept, {"sum1": frame(TabSigned(TAB, 1, DIGEST, ONE - 1))}, FaultCode.FIGURES_DIFFER),
    (kept, {"sum2": frame(TabSigned(TAB, 3, DIGEST, TWO))}, FaultCode.FIGURES_DIFFER),
    (kept, {"sum1": frame(TabSigned(TAB, 1, DIGEST, ONE), signer=STRANGER)}, FaultCode.WRONG_SIGNER),
    (kept, {"sum1": frame(TabSigned(TAB, 1, DIGEST, ONE), signer=PROVIDER)}, FaultCode.WRONG_SIGNER),
    (kept, {"sum1": frame(TabSigned(TAB, 1, DIGEST, ONE), to=STRANGER)}, FaultCode.WRONG_SIGNER),
    (kept, {"sum1": frame(TabSigned(tab_id(bytes([1] * 16)), 1, DIGEST, ONE))}, FaultCode.FOREIGN),
    (kept, {"sum1": frame(TabSigned(TAB, 1, DIGEST, ONE), sent=NOW - HOUR)}, FaultCode.EXPIRED),
    (kept, {"sum2": frame(TabSigned(TAB, 1, DIGEST, ONE))}, FaultCode.REPLAYED),
    (kept, {"sum1": b""}, FaultCode.MALFORMED),
    (used, {"sum0": frame(change(stated(0), offer=OTHER))}, FaultCode.TERMS_DIFFER),
    (used, {"sum1": frame(stated(1, 1, 30_000, ONE))}, FaultCode.FIGURES_DIFFER),
    (used, {"sum1": frame(stated(1, 1, 20_000, ONE), signer=REQUESTER)}, FaultCode.WRONG_SIGNER),
    (used, {"sum2": frame(TabSigned(TAB, 2, DIGEST, TWO), signer=PROVIDER, to=REQUESTER)}, FaultCode.WRONG_SIGNER),
    (used, {"sum2": frame(stated(2, 2, 50_000, TWO))[:-1]}, FaultCode.MALFORMED),
]


@pytest.mark.parametrize(("log", "frames", "code"), FORGED)
def test_a_frame_that_is_not_what_stands_there_is_named(log: Any, frames: dict[str, bytes], code: FaultCode) -> None:
    assert code in codes(log(**frames))


@pytest.mark.parametrize("gone", [0, 1, 2, 6])
def test_an_event_left_out_of_a_provider_s_log_is_missing(gone: int) -> None:
    events = kept()
    del events[gone]
    assert FaultCode.MISSING in codes(events, PROVIDER)


def test_a_sum_left_out_of_a_caller_s_log_is_missing() -> None:
    events = used()
    del events[3]
    assert FaultCode.MISSING in codes(events)


def test_what_a_provider_states_follows_from_the_calls_it_wrote_down() -> None:
    events = kept()
    events[4] = CallBilled(CallId("c2"), TAB, 2, 40_000, NOW)
    assert codes(events) == {FaultCode.FIGURES_DIFFER}
    del events[4]
    assert codes(events) == {FaultCode.FIGURES_DIFFER}


def test_events_of_other_tabs_and_of_all_tabs_are_none_of_the_file_s() -> None:
    for foreign in (TabOver(tab_id(bytes([1] * 16)), "over"), KeptSaved(())):
        assert codes([*kept(), foreign]) == {FaultCode.FOREIGN}


def test_who_is_no_party_of_the_tab_proves_nothing() -> None:
    assert FaultCode.WRONG_SIGNER in codes(kept(), STRANGER)
    assert codes([], PROVIDER) == {FaultCode.MISSING}


def test_a_provider_proves_no_more_than_was_signed_by_writing_as_its_caller_does() -> None:
    more = SumAnswered(TAB, PROVIDER.peer_id, 1, CREDIT, CREDIT, 1, HOUR, frame(TabSigned(TAB, 1, DIGEST, ONE)))
    events = [kept()[0], more]
    found = verify(export(TAB, tuple(chained(events, KEPT_STREAM)), PROVIDER, NOW))
    assert (found.sound, [fault.code for fault in found.faults]) == (False, [FaultCode.FOREIGN])
    assert found.tabs[0].confirmed == 0


def test_a_caller_proves_no_other_claim_than_was_stated_by_writing_as_its_provider_does() -> None:
    first, billed, said = used()[0], CallBilled(CallId("c1"), TAB, 1, 20_000, NOW), SumStated(TAB, 1, ONE, NOW)
    events = [first, billed, said, SumSigned(TAB, 1, 0, frame(stated(1, 2, 50_000, TWO)))]
    found = verify(export(TAB, tuple(chained(events, USED_STREAM)), REQUESTER, NOW))
    assert {fault.code for fault in found.faults} == {FaultCode.FOREIGN}
    assert found.tabs[0].sums == ()


def test_less_than_was_stated_is_a_dispute_and_no_fault() -> None:
    events = kept(sum2=frame(TabSigned(TAB, 2, DIGEST, ONE)))
    events[7] = SumSigned(TAB, 2, ONE, frame(TabSigned(TAB, 2, DIGEST, ONE)))
    found = verify(file(events))
    assert found.sound
    (tab,) = found.tabs
    assert ([each.is_disputed for each in tab.sums], tab.confirmed) == ([False, True], ONE)
    assert "disputed: of sum 2 less was accepted" in "\n".join(plain(report_view(found)))


def test_a_sum_that_nobody_answered_is_told_as_one() -> None:
    found = verify(file(kept()[:-2]))
    assert found.sound
    assert found.tabs[0].sums[-1].confirmed is None
    assert "no answer" in "\n".join(plain(report_view(found)))
