"""The tabs of this node at others, as they are remembered: the state, what is met, what is written down. Stream "tabs_used"."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from dms_proto.ids import PeerId, TabId
from dms_proto.machine import (
    Effect,
    Event,
    Stimulus,
    Transient,
)
from dms_proto.market.ledger import remember, without
from dms_proto.messages import TabStated, TabTerms
from dms_proto.pool.records import CallId
from dms_proto.rules import Amount, GoodPeerId, GoodTabId, Line
from dms_proto.tabs.terms import Ceiling, TabsPhase, owed

USED_STREAM: Final = "tabs_used"
MOST_WANTED: Final = 256
"""Tabs that were asked for and not offered yet; the oldest are forgotten first."""
change = msgspec.structs.replace


class UsedTab(msgspec.Struct, frozen=True):
    """A tab at another node.

    Attributes:
        terms: as agreed.
        most: micro-credits in all that its owner would pay there, tabs before it included.
        used_at: Unix ms when that was, or when a call on it last began or ended.
        seen: calls that were let in and are over, and `seen_ms`, how long they took here.
        under_way: calls, each with Unix ms from when its time counts: when it was asked for, or shortly before it was let in.
        admitted: those of them that were let in, as far as is known.
        number, signed: of the last sum that was answered, and micro-credits in all that are owed.
        stated, calls, ran_ms: what its provider stated then.
        why_over: why no more calls are made on it; empty: it is open.
        in_doubt: it is over since more was stated than was owed.
        over_at: Unix ms.
    """

    terms: TabTerms
    used_at: int = 0
    seen: int = 0
    seen_ms: int = 0
    under_way: Mapping[CallId, int] = {}
    admitted: frozenset[CallId] = frozenset()
    number: int = 0
    signed: int = 0
    stated: int = 0
    calls: int = 0
    ran_ms: int = 0
    why_over: str = ""
    in_doubt: bool = False
    over_at: int = 0
    most: int = 0

    @property
    def let_in(self) -> int:
        """Calls that may be asked for."""
        return self.seen + len(self.admitted)

    @property
    def is_stated(self) -> bool:
        """Whether its provider has asked for all that there was; what it states when it is told again may be of before its last call."""
        is_whole = self.in_doubt or self.stated == owed(self.terms, self.calls, self.ran_ms)
        return not self.under_way and self.calls >= self.seen and is_whole


class UsedTabs(msgspec.Struct, frozen=True):
    """The state.

    Attributes:
        tabs: agreed, and not forgotten.
        wanted: asked for, each with whom and for what.
        unsaved: events written since all of it was last written as one.
    """

    tabs: Mapping[TabId, UsedTab] = {}
    wanted: Mapping[TabId, TabSought] = {}
    unsaved: int = 0
    phase: TabsPhase = TabsPhase.HELD


# ---------------------------------------------------------------------------------------------------------------- stimuli


class TabTried(Stimulus, frozen=True):
    """The owner wants to call a service of another node.

    Attributes:
        most: that is paid.
        only_asks: what it would cost; nothing is agreed.
    """

    tab_id: TabId
    me: PeerId
    provider: PeerId
    service: str
    most: Ceiling
    only_asks: bool = False


class StatementHeard(Stimulus, frozen=True):
    """A provider offers a tab, or states what one has come to. `frame`: as it was signed."""

    provider: PeerId
    stated: TabStated
    frame: bytes = b""


class CallTried(Stimulus, frozen=True):
    """A call on a tab is about to be asked for. `most`: that its owner pays for it and for those before it."""

    tab_id: TabId
    call_id: CallId
    most: Ceiling


class CallSeenIn(Stimulus, frozen=True):
    """The provider has let a call in."""

    tab_id: TabId
    call_id: CallId


class CallSeenOver(Stimulus, frozen=True):
    """A call is over here. `let_in`: the provider has let it in."""

    tab_id: TabId
    call_id: CallId
    let_in: bool = True


class TabRefused(Stimulus, frozen=True):
    """A provider knows a tab no longer."""

    tab_id: TabId


class TabGivenUp(Stimulus, frozen=True):
    """Nobody waits for the offer of a tab any more."""

    tab_id: TabId


class CallsLost(Stimulus, frozen=True):
    """The node's process is new: no call is under way any more."""


# ----------------------------------------------------------------------------------------------------------------- events


class TabSought(Transient, frozen=True):
    """A tab was asked for, over so many micro-credits at the most."""

    tried: TabTried
    asked: int

    @property
    def at_stake(self) -> int:
        """Micro-credits that may come to be owed, once it is offered."""
        return 0 if self.tried.only_asks else self.asked


class TabTaken(Event, frozen=True):
    """Terms were signed. `frame`: the provider's offer; `most`: what its owner would pay there, tabs before it included."""

    terms: TabTerms
    at: int
    frame: bytes = b""
    most: int = 0


class TabDeclined(Transient, frozen=True):
    """There is no tab."""

    tab_id: TabId


class CallBegun(Event, frozen=True):
    """A call on a tab is asked for."""

    tab_id: GoodTabId
    call_id: CallId
    at: int


class CallAdmitted(Transient, frozen=True):
    """A call on a tab was let in. `since`: Unix ms from when its time counts."""

    tab_id: TabId
    call_id: CallId
    since: int


class CallSeen(Event, frozen=True):
    """A call on a tab is over. `ms`: how long it took here, no more than was agreed; it was not `let_in`: nothing is owed for it."""

    tab_id: GoodTabId
    call_id: CallId
    ms: Amount
    let_in: bool = True
    at: int = 0


class SumAnswered(Event, frozen=True):
    """A sum was answered: so much is owed in all.

    Attributes:
        number: of the sum.
        stated, calls, ran_ms: by its provider.
        signed: micro-credits that are owed in all.
        frame: what was stated, as it was signed.
    """

    tab_id: GoodTabId
    provider: GoodPeerId
    number: int
    stated: Amount
    signed: Amount
    calls: Amount
    ran_ms: Amount
    frame: bytes = b""


class TabEnded(Event, frozen=True):
    """No more calls are made on a tab. `in_doubt`: since more was stated than was owed."""

    tab_id: GoodTabId
    why: Line
    at: int
    in_doubt: bool = False


class TabsDropped(Event, frozen=True):
    """Tabs that were over for long are forgotten."""

    tab_ids: tuple[GoodTabId, ...]


class UsedSaved(Event, frozen=True):
    """All that the events before have come to: whoever folds the log may begin with the last of these."""

    tabs: tuple[UsedTab, ...]


# ---------------------------------------------------------------------------------------------------------------- effects


class TabReady(Effect, frozen=True):
    """Tell whoever waits that a tab is open, or (`why`) that there is none. `offer`: the terms, where only these were asked for."""

    tab_id: TabId
    why: str = ""
    offer: TabTerms | None = None


# ----------------------------------------------------------------------------------------------------------------- evolve


def evolve(tabs: UsedTabs, event: Event) -> UsedTabs:
    """The state after `event`."""
    tabs = _evolved(tabs, event)
    return tabs if isinstance(event, Transient) else change(tabs, unsaved=tabs.unsaved + 1)


def saved(tabs: UsedTabs) -> UsedSaved:
    """All of the state as one event; of tabs that are not agreed nothing."""
    return UsedSaved(tuple(tabs.tabs.values()))


def _evolved(tabs: UsedTabs, event: Event) -> UsedTabs:  # noqa: PLR0911 - one case per kind of event
    match event:
        case TabSought(tried=tried):
            return change(tabs, wanted=remember(tabs.wanted, tried.tab_id, event, MOST_WANTED))
        case TabDeclined(tab_id=tab_id):
            return change(tabs, wanted=without(tabs.wanted, tab_id))
        case TabTaken(terms=terms, at=at, most=most):
            wanted = without(tabs.wanted, terms.tab_id)
            return change(tabs, tabs={**tabs.tabs, terms.tab_id: UsedTab(terms, at, most=most)}, wanted=wanted)
        case TabsDropped(tab_ids=tab_ids):
            return change(tabs, tabs={key: tab for key, tab in tabs.tabs.items() if key not in tab_ids})
        case CallBegun() | CallAdmitted() | CallSeen() | SumAnswered() | TabEnded():
            tab = tabs.tabs[event.tab_id]
            return change(tabs, tabs={**tabs.tabs, event.tab_id: _after(tab, event)})
        case UsedSaved(tabs=used):
            return change(tabs, tabs={tab.terms.tab_id: tab for tab in used}, unsaved=0)
        case _:
            return tabs


def _after(tab: UsedTab, event: CallBegun | CallAdmitted | CallSeen | SumAnswered | TabEnded) -> UsedTab:
    match event:
        case CallBegun(call_id=call_id, at=at):
            return change(tab, used_at=at, under_way={**tab.under_way, call_id: at})
        case CallAdmitted(call_id=call_id, since=since):
            return change(tab, admitted=tab.admitted | {call_id}, under_way={**tab.under_way, call_id: since})
        case CallSeen(call_id=call_id, ms=ms, let_in=let_in, at=at):
            left = {"under_way": without(tab.under_way, call_id), "admitted": tab.admitted - {call_id}}
            return change(
                tab, **left, used_at=max(tab.used_at, at), seen=tab.seen + let_in, seen_ms=tab.seen_ms + ms * let_in
            )
        case SumAnswered(number=number, stated=stated, signed=signed, calls=calls, ran_ms=ran_ms):
            return change(tab, number=number, stated=stated, signed=signed, calls=calls, ran_ms=ran_ms)
        case TabEnded(why=why, at=at, in_doubt=in_doubt):
            return change(tab, why_over=why, over_at=at, in_doubt=in_doubt)
