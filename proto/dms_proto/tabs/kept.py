"""The tabs of others here, as they are remembered: the state, what is met, what is written down. Stream "tabs_kept"."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from dms_proto.capability import Resources
from dms_proto.ids import PeerId, TabId
from dms_proto.machine import (
    Effect,
    Event,
    Stimulus,
    Transient,
)
from dms_proto.market.ledger import remember, without
from dms_proto.messages import TabSigned, TabStated, TabTerms, TabWanted
from dms_proto.pool.records import CallId, ContainerId
from dms_proto.pool.refusals import Refusal
from dms_proto.rules import Amount, GoodTabId, Line
from dms_proto.tabs.terms import (
    FAILURES_MS,
    FREE_FAILURES,
    OFFER_MS,
    PARTS,
    SETTLE_MS,
    STATE_MS,
    TabsPhase,
    owed,
    terms_digest,
)

KEPT_STREAM: Final = "tabs_kept"
MOST_OFFERS: Final = 1_024
"""Offers remembered at a time; the oldest are forgotten first, and asked for again."""
MOST_TABS: Final = 10_000
"""Tabs there may be: as many as virtual containers."""
MOST_WATCHED: Final = 1_024
"""Containers whose last call is remembered, and callers whose failures are; the oldest are forgotten first."""
change = msgspec.structs.replace


class KeptTab(msgspec.Struct, frozen=True):
    """A tab here.

    Attributes:
        terms: as agreed.
        calls, ran_ms: that ran to their end, and how long they were at work.
        unstated_at: Unix ms of the first of them that no sum holds yet; 0: there is none.
        settles_at: Unix ms before which no sum is stated while it is open: a call that may still be taken back would be the whole of it, or much.
        number, stated, claimed: of the last sum; micro-credits in all, and so much more than the sum before.
        stated_at: Unix ms when it was first told.
        signed_number, signed: of the last sum that was answered, and what was accepted.
        repeats, told_at: how often the last sum was told again, and Unix ms when last.
        why_over: why nothing more is added; empty: it is open.
    """

    terms: TabTerms
    calls: int = 0
    ran_ms: int = 0
    unstated_at: int = 0
    settles_at: int = 0
    number: int = 0
    stated: int = 0
    claimed: int = 0
    stated_at: int = 0
    signed_number: int = 0
    signed: int = 0
    repeats: int = 0
    told_at: int = 0
    why_over: str = ""

    @property
    def price(self) -> int:
        """What it has come to."""
        return owed(self.terms, self.calls, self.ran_ms)

    def held(self, at_work: int) -> int:
        """What may come to be asked for on it beside what was stated: of the caller's credit it is held, as an allocation's price is.

        `at_work`: calls that are. They go on when the tab is over, and each may take as long as it may.
        """
        most = owed(self.terms, self.calls + at_work, self.ran_ms + at_work * self.terms.call_ms)
        return (most if self.why_over else self.terms.max_price) - self.stated

    @property
    def is_much(self) -> bool:
        """Whether so much has come together that it is stated."""
        return self.price - self.stated >= self.terms.max_price // PARTS

    @property
    def due_at(self) -> int:
        """Unix ms when what has come together is stated."""
        return max(self.settles_at, 0 if self.is_much else self.unstated_at + STATE_MS)

    @property
    def is_unsigned(self) -> bool:
        """Whether a sum was stated and not answered."""
        return self.number > self.signed_number

    @property
    def statement(self) -> TabStated:
        """Its last sum, as it is told. Number 0 says that there is an agreement, and its terms."""
        return TabStated(
            self.terms.tab_id,
            self.number,
            terms_digest(self.terms),
            self.calls,
            self.ran_ms,
            self.stated,
            bool(self.why_over),
            None if self.number else self.terms,
            self.why_over,
        )


class Offer(msgspec.Struct, frozen=True):
    """Terms that may still be taken. `at`: Unix ms when they were offered."""

    terms: TabTerms
    at: int


class LastCall(msgspec.Struct, frozen=True):
    """What a container worked on last. `ran_ms`: so long; `at`: Unix ms when it was over."""

    call_id: CallId
    tab_id: TabId
    ran_ms: int
    at: int


class Failures(msgspec.Struct, frozen=True):
    """How often calls have cost nothing, since their container failed. `since`: Unix ms of the first."""

    count: int
    since: int


class KeptTabs(msgspec.Struct, frozen=True):
    """The state.

    Attributes:
        tabs: agreed, and not settled.
        offers: until they are taken or too old; one for each service that a peer may call.
        under_way: calls that were let in, each with its tab.
        last: calls that no sum holds yet, by the container that worked on nothing since.
        failures: of containers, by the caller and the service that it called.
        unsaved: events written since all of it was last written as one.
    """

    tabs: Mapping[TabId, KeptTab] = {}
    offers: Mapping[TabId, Offer] = {}
    under_way: Mapping[CallId, TabId] = {}
    last: Mapping[ContainerId, LastCall] = {}
    failures: Mapping[tuple[PeerId, str], Failures] = {}
    unsaved: int = 0
    phase: TabsPhase = TabsPhase.HELD

    def may_fail(self, tab: KeptTab, now: int) -> bool:
        """Whether one more call of a tab's caller costs nothing if its container fails."""
        known = self.failures.get((tab.terms.caller, tab.terms.service))
        return known is None or known.count < FREE_FAILURES or now >= known.since + FAILURES_MS


# ---------------------------------------------------------------------------------------------------------------- stimuli


class TabAsked(Stimulus, frozen=True):
    """A peer that may call a service wants to know what it costs.

    Attributes:
        terms: what is offered.
        refused: why nothing is; empty: something is.
        credit: what the peer may still come to owe beside what it has at stake here, on tabs as well.
    """

    caller: PeerId
    wanted: TabWanted
    terms: TabTerms | None
    refused: str
    credit: int


class SignatureHeard(Stimulus, frozen=True):
    """A peer has taken the terms, or signed a sum.

    Attributes:
        frame: as it was signed.
        credit: as in `TabAsked`; what is held for tabs is taken off it as it was when so many (`known`) were agreed.
    """

    caller: PeerId
    signed: TabSigned
    frame: bytes = b""
    credit: int = 0
    known: int = 0


class CallEntering(Stimulus, frozen=True):
    """A peer calls on a tab. `resources`: what a container of the service holds now."""

    call_id: CallId
    caller: PeerId
    tab_id: TabId
    service: str
    resources: Resources


class CallLeft(Stimulus, frozen=True):
    """A call is over.

    Attributes:
        ran_ms: how long it was at work; None: it was not, or this node has ended it.
        container_id: where.
        has_failed: its container has failed at it.
    """

    call_id: CallId
    ran_ms: int | None = None
    container_id: ContainerId = ContainerId("")
    has_failed: bool = False


class ContainerFailed(Stimulus, frozen=True):
    """A container that was not at work has ended, and not by the wish of this node."""

    container_id: ContainerId


class ServiceLeft(Stimulus, frozen=True):
    """A virtual container was closed: nothing is called on its tab any more."""

    caller: PeerId
    service: str


# ----------------------------------------------------------------------------------------------------------------- events


class TabOffered(Transient, frozen=True):
    """Terms were offered. Binding only once they are taken."""

    terms: TabTerms
    at: int


class TabAgreed(Event, frozen=True):
    """Terms were taken, under both signatures. `frame`: the caller's."""

    terms: TabTerms
    at: int
    frame: bytes = b""


class CallLetIn(Transient, frozen=True):
    """A call was let in on a tab."""

    call_id: CallId
    tab_id: GoodTabId


class CallDropped(Transient, frozen=True):
    """A call is over, and costs nothing."""

    call_id: CallId


class CallWatched(Transient, frozen=True):
    """The call that a container worked on last is billed."""

    container_id: ContainerId
    call: LastCall


class FailureCounted(Transient, frozen=True):
    """A call of a peer costs nothing, since its container has failed."""

    caller: PeerId
    service: str
    container_id: ContainerId
    at: int


class CallBilled(Event, frozen=True):
    """A call is over, or taken back since its container failed right after. `calls`, `ran_ms`: all of its tab so far."""

    call_id: CallId
    tab_id: GoodTabId
    calls: Amount
    ran_ms: Amount
    at: int


class SumStated(Event, frozen=True):
    """A sum is asked for: `price` micro-credits in all."""

    tab_id: GoodTabId
    number: int
    price: Amount
    at: int


class SumRepeated(Transient, frozen=True):
    """The last sum was told again."""

    tab_id: GoodTabId
    at: int


class SumSigned(Event, frozen=True):
    """The peer owes so much of the last sum. `frame`: as it was signed."""

    tab_id: GoodTabId
    number: int
    price: Amount
    frame: bytes = b""


class TabOver(Event, frozen=True):
    """No more calls are let in on a tab."""

    tab_id: GoodTabId
    why: Line


class TabForgotten(Event, frozen=True):
    """Nothing is asked for a tab any more. `unsigned`: its last sum was not answered for a day."""

    tab_id: GoodTabId
    unsigned: bool = False


class KeptSaved(Event, frozen=True):
    """All that the events before have come to: whoever folds the log may begin with the last of these."""

    tabs: tuple[KeptTab, ...]


# ---------------------------------------------------------------------------------------------------------------- effects


class TurnAway(Effect, frozen=True):
    """Tell whoever calls that the call is not let in, and why."""

    call_id: CallId
    refusal: Refusal


# ----------------------------------------------------------------------------------------------------------------- evolve


def evolve(tabs: KeptTabs, event: Event) -> KeptTabs:
    """The state after `event`."""
    tabs = _evolved(tabs, event)
    return tabs if isinstance(event, Transient) else change(tabs, unsaved=tabs.unsaved + 1)


def saved(tabs: KeptTabs) -> KeptSaved:
    """All of the state as one event; of calls under way and offers nothing."""
    return KeptSaved(tuple(tabs.tabs.values()))


def _evolved(tabs: KeptTabs, event: Event) -> KeptTabs:  # noqa: PLR0911 - one case per kind of event
    match event:
        case TabOffered(terms=terms, at=at):
            return change(
                tabs, offers=remember(_in_place_of(tabs.offers, terms, at), terms.tab_id, Offer(terms, at), MOST_OFFERS)
            )
        case TabAgreed(terms=terms):
            there = {**tabs.tabs, terms.tab_id: KeptTab(terms)}
            return change(tabs, tabs=there, offers=without(tabs.offers, terms.tab_id))
        case CallLetIn(call_id=call_id, tab_id=tab_id):
            return change(tabs, under_way={**tabs.under_way, call_id: tab_id})
        case CallDropped(call_id=call_id):
            return change(tabs, under_way=without(tabs.under_way, call_id))
        case CallWatched(container_id=container_id, call=call):
            return change(tabs, last=remember(tabs.last, container_id, call, MOST_WATCHED))
        case FailureCounted():
            return _failed(tabs, event)
        case TabForgotten(tab_id=tab_id):
            return change(tabs, tabs=without(tabs.tabs, tab_id))
        case CallBilled() | SumStated() | SumRepeated() | SumSigned() | TabOver():
            there = {**tabs.tabs, event.tab_id: _after(tabs.tabs[event.tab_id], event)}
            left = without(tabs.under_way, event.call_id) if isinstance(event, CallBilled) else tabs.under_way
            return change(tabs, tabs=there, under_way=left, last=_unheld(tabs.last, event))
        case KeptSaved(tabs=kept):
            return change(tabs, tabs={tab.terms.tab_id: tab for tab in kept}, unsaved=0)
        case _:
            return tabs


def _unheld(last: Mapping[ContainerId, LastCall], event: Event) -> Mapping[ContainerId, LastCall]:
    """What no sum holds: those of a tab that is stated are held."""
    if not isinstance(event, SumStated):
        return last
    return {key: call for key, call in last.items() if call.tab_id != event.tab_id}


def _failed(tabs: KeptTabs, event: FailureCounted) -> KeptTabs:
    key = (event.caller, event.service)
    known = tabs.failures.get(key)
    is_old = known is None or event.at >= known.since + FAILURES_MS
    failures = Failures(1, event.at) if known is None or is_old else change(known, count=known.count + 1)
    kept = remember(tabs.failures, key, failures, MOST_WATCHED)
    return change(tabs, failures=kept, last=without(tabs.last, event.container_id))


def _in_place_of(offers: Mapping[TabId, Offer], new: TabTerms, at: int) -> Mapping[TabId, Offer]:
    """The offers beside a new one: not what is too old, and nothing else for the same calls."""
    new_for = (new.caller, new.service)
    return {
        key: each
        for key, each in offers.items()
        if at < each.at + OFFER_MS and (each.terms.caller, each.terms.service) != new_for
    }


def _after(tab: KeptTab, event: CallBilled | SumStated | SumRepeated | SumSigned | TabOver) -> KeptTab:
    match event:
        case CallBilled(calls=calls, ran_ms=ran_ms, at=at):
            after = change(tab, calls=calls, ran_ms=ran_ms, unstated_at=tab.unstated_at or at)
            settles_now = not tab.unstated_at or after.price - tab.price >= tab.terms.max_price // PARTS
            return change(after, settles_at=at + SETTLE_MS) if settles_now else after
        case SumStated(number=number, price=price, at=at):
            sum_ = {"number": number, "stated": price, "claimed": price - tab.stated}
            return change(tab, **sum_, stated_at=at, told_at=at, repeats=0, unstated_at=0)
        case SumRepeated(at=at):
            return change(tab, repeats=tab.repeats + 1, told_at=at)
        case SumSigned(number=number, price=price):
            return change(tab, signed_number=number, signed=price)
        case TabOver(why=why):
            return change(tab, why_over=why)
