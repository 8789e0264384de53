"""The tabs of this node at others: what it has agreed to pay for calls, what it has seen of them, and what it signs. Stream "tabs_used".

::

    wanted ──offer──▶ signed: open ── calls, sums ──▶ over ──▶ forgotten after a day

A stated sum is compared with what was seen here of the calls that were let in: from two seconds before the word of that came, or from when the call
was asked for, to its end. How long it waited is not paid. What is beyond
that is not signed, and the tab is over then: no more calls are made on it. While it is open whether a call was let in, such a sum waits: its
provider tells it again.

What all calls of a service within a day may come to, at all its providers together, is looked at before each of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from dms_proto.accounts.book import charge
from dms_proto.ids import PeerId, TabId
from dms_proto.machine import (
    IGNORED,
    Decision,
    Effect,
    Row,
    Send,
    Stimulus,
    Table,
    TimeCame,
    earliest,
)
from dms_proto.messages import TabSigned, TabStated, TabTerms, TabWanted
from dms_proto.pool.records import CallId
from dms_proto.tabs.terms import (
    KEEP_MS,
    OPENING_MS,
    UNUSED_MS,
    Ceiling,
    TabsPhase,
    allowed_ms,
    entry_name,
    owed,
    rate_of,
    saving,
    terms_digest,
)
from dms_proto.tabs.used import (
    CallAdmitted,
    CallBegun,
    CallSeen,
    CallSeenIn,
    CallSeenOver,
    CallsLost,
    CallTried,
    StatementHeard,
    SumAnswered,
    TabDeclined,
    TabEnded,
    TabGivenUp,
    TabReady,
    TabRefused,
    TabsDropped,
    TabSought,
    TabTaken,
    TabTried,
    UsedTab,
    UsedTabs,
    evolve,
    saved,
)
from dms_proto.units import format_credits, format_millis


def decide(tabs: UsedTabs, stimulus: Stimulus, now: int) -> Decision:
    """What becomes of `stimulus` at `now` (Unix ms)."""
    decision = TABLE[tabs.phase, type(stimulus)].handler(tabs, stimulus, now)
    return saving(decision, tabs, evolve, saved)


def next_deadline(tabs: UsedTabs) -> int | None:
    """When a tab that is not used is over, and one that is over may be forgotten."""
    return earliest(*map(_deadline, tabs.tabs.values()))


def _deadline(tab: UsedTab) -> int | None:
    if tab.why_over:
        return tab.over_at + KEEP_MS
    return None if tab.under_way else tab.used_at + UNUSED_MS


def resume(_tabs: UsedTabs) -> tuple[Effect, ...]:
    """Nothing: a sum whose signature was lost is told again."""
    return ()


def open_tab(tabs: UsedTabs, provider: PeerId, service: str) -> UsedTab | None:
    """The tab on which a service of a provider is called now."""
    return next((each for each in _there(tabs, provider, service) if not each.why_over), None)


def asked_for(tabs: UsedTabs, tried: TabTried) -> int:
    """Over how much a tab may be, so that all there that are remembered come to no more than their owner would pay; none: no tab may be."""
    tab_ids = (key for key, each in tabs.wanted.items() if _place(each.tried) == _place(tried) and key != tried.tab_id)
    wanted = sum(tabs.wanted[key].at_stake for key in tab_ids)
    return tried.most.price - wanted - sum(map(_comes_to, _there(tabs, tried.provider, tried.service)))


def why_not_called(tabs: UsedTabs, tried: CallTried) -> str:
    """What of the owner's ceiling a call on a tab could go past, if all that is under way takes as long as it may; empty: nothing."""
    tab = tabs.tabs.get(tried.tab_id)
    if tab is None:
        return ""
    service = tab.terms.service
    after = _anywhere(tabs, service) - _comes_to(tab) + _comes_to(tab, more=1)
    return _too_much(service, after, tried.most) if after > tried.most.price else _too_dear(tab.terms, tried.most)


def _anywhere(tabs: UsedTabs, service: str) -> int:
    """What calls of a service may come to at all nodes together, if no more are made."""
    return sum(_comes_to(each) for each in tabs.tabs.values() if each.terms.service == service)


def _too_much(service: str, after: int, most: Ceiling) -> str:
    what = f"calls of {service} within a day may come to {format_credits(after)} at all nodes together"
    return f"{what}, and {format_credits(most.price)} is the most: offer more"


def _too_dear(terms: TabTerms, most: Ceiling) -> str:
    """Why terms are not accepted; empty: they are."""
    rate = rate_of(terms)
    if rate <= most.rate:
        return ""
    return f"an hour at work costs {format_credits(rate)} there, and {format_credits(most.rate)} is the most that is accepted"


def _there(tabs: UsedTabs, provider: PeerId, service: str) -> list[UsedTab]:
    return [each for each in tabs.tabs.values() if _place(each.terms) == (provider, service)]


def _place(what: TabTerms | TabTried) -> tuple[PeerId, str]:
    return what.provider, what.service


def at_stake(tab: UsedTab) -> int:
    """What may still come to be owed on a tab, beside what was signed."""
    return _after_end(tab) if tab.why_over else tab.terms.max_price - tab.signed


def _after_end(tab: UsedTab, more: int = 0) -> int:
    """The same, if no calls are made on it any more, or only so many."""
    calls = len(tab.under_way) + more
    longest = allowed_ms(tab.seen_ms + calls * tab.terms.call_ms)
    return 0 if tab.is_stated and not more else max(0, owed(tab.terms, tab.seen + calls, longest) - tab.signed)


def _comes_to(tab: UsedTab, more: int = 0) -> int:
    """What a tab may come to in all, if no calls are made on it any more, or only so many."""
    return tab.signed + _after_end(tab, more)


def _took(tab: UsedTab, call_id: CallId, now: int) -> int:
    """How long a call took that ends now: no longer than was agreed."""
    return min(tab.terms.call_ms, max(0, now - tab.under_way[call_id]))


def stakes(tabs: UsedTabs) -> Mapping[TabId, tuple[PeerId, int]]:
    """What may come to be owed on each tab beside what was signed, and to whom; what is asked for counts already."""
    there = {key: (tab.terms.provider, stake) for key, tab in tabs.tabs.items() if (stake := at_stake(tab))}
    wanted = {key: (each.tried.provider, each.at_stake) for key, each in tabs.wanted.items() if each.at_stake}
    return {**wanted, **there}


def _tried(tabs: UsedTabs, stimulus: TabTried, _now: int) -> Decision:
    asked = asked_for(tabs, stimulus)
    why = _why_not(tabs, stimulus, asked)
    if why:
        return Decision((), (TabReady(stimulus.tab_id, why),))
    wanted = TabWanted(stimulus.tab_id, stimulus.service, asked)
    return Decision((TabSought(stimulus, asked),), (Send(stimulus.provider, wanted),))


def _why_not(tabs: UsedTabs, tried: TabTried, asked: int) -> str:
    """Why no tab is asked for; empty: one is. After a doubt its owner has to say more than before: a lie is not to pay off again."""
    doubted = [
        each for each in _there(tabs, tried.provider, tried.service) if each.in_doubt and tried.most.price <= each.most
    ]
    if doubted:
        last = doubted[-1]
        return f"{last.terms.tab_id}, a tab before, is in doubt: {last.why_over}; more than {format_credits(last.most)} is needed for another"
    if asked <= 0:
        return f"{_spent(tried, asked)}: offer more"
    anywhere = _anywhere(tabs, tried.service)
    return _too_much(tried.service, anywhere, tried.most) if anywhere >= tried.most.price else ""


def _spent(tried: TabTried, asked: int) -> str:
    """In words, what of the most tabs before take."""
    before, most = format_credits(tried.most.price - asked), format_credits(tried.most.price)
    return f"calls of the last day there come to {before} of at most {most}"


def _heard(tabs: UsedTabs, stimulus: StatementHeard, now: int) -> Decision:
    stated = stimulus.stated
    tab = tabs.tabs.get(stated.tab_id)
    if tab is None:
        return _offered(tabs, stimulus, now)
    if tab.terms.provider != stimulus.provider or stated.terms != terms_digest(tab.terms):
        return IGNORED
    over = _over(tab, stated.said, now) if stated.is_over else ()
    if stated.number == tab.number + 1 and _is_new(tab, stated):
        return _answered(tab, stimulus, now)
    if stated.number != tab.number:
        return IGNORED
    told = _signature(tab, tab.number, tab.signed) if stated.number else TabReady(tab.terms.tab_id, stated.said)
    return Decision(over, (told,))


def _offered(tabs: UsedTabs, stimulus: StatementHeard, now: int) -> Decision:
    """Signed only if it is what was asked for."""
    stated, sought = stimulus.stated, tabs.wanted.get(stimulus.stated.tab_id)
    if sought is None or sought.tried.provider != stimulus.provider or stated.number:
        return IGNORED
    tried = sought.tried
    terms = stated.offer
    if terms is None:
        return _declined(stated.tab_id, stated.said or "it gave no reason", sought)
    asked = (tried.tab_id, tried.me, tried.provider, tried.service, sought.asked)
    if asked != (terms.tab_id, terms.caller, terms.provider, terms.service, terms.max_price):
        return _declined(stated.tab_id, "it offers something else than was asked for", sought)
    too_dear = _too_dear(terms, tried.most)
    if tried.only_asks or too_dear:
        return Decision((TabDeclined(terms.tab_id),), (TabReady(terms.tab_id, too_dear, terms),))
    if asked_for(tabs, tried) < sought.asked:
        return _declined(stated.tab_id, "more was called on the tab before meanwhile: call again", sought)
    before = open_tab(tabs, terms.provider, terms.service)
    ended = () if before is None else _over(before, "another took its place", now)
    signature = TabSigned(terms.tab_id, 0, terms_digest(terms), 0)
    taken = TabTaken(terms, now, stimulus.frame, tried.most.price)
    return Decision((taken, *ended), (Send(terms.provider, signature),))


def _declined(tab_id: TabId, why: str, sought: TabSought) -> Decision:
    """Where tabs before take some of the most, that is said: it may be why."""
    is_less = sought.asked < sought.tried.most.price
    said = f"{why} ({_spent(sought.tried, sought.asked)})" if is_less else why
    return Decision((TabDeclined(tab_id),), (TabReady(tab_id, said),))


def _is_new(tab: UsedTab, stated: TabStated) -> bool:
    """Whether a sum is more than the one before, of a tab on which more may be asked.

    After a doubt only if it is for more calls that there were: each lie would be one more dispute.
    """
    if tab.why_over and tab.is_stated:
        return False
    return stated.price > tab.stated and (not tab.in_doubt or tab.calls < stated.calls <= tab.let_in)


def _answered(tab: UsedTab, stimulus: StatementHeard, now: int) -> Decision:
    stated, terms = stimulus.stated, tab.terms
    claimed = stated.price - tab.stated
    more, doubt = _judged(tab, stated, claimed, now)
    if doubt and len(tab.admitted) < len(tab.under_way):
        return IGNORED
    signed = tab.signed + more
    about = entry_name(terms.tab_id, stated.number)
    booked = charge(terms.provider, "", about, more, doubt, refused=claimed - more)
    answer = SumAnswered(
        terms.tab_id,
        terms.provider,
        stated.number,
        stated.price,
        signed,
        stated.calls,
        stated.ran_ms,
        stimulus.frame,
    )
    over = _over(tab, doubt or stated.said, now, in_doubt=bool(doubt)) if doubt or stated.is_over else ()
    return Decision((answer, *over), (*booked, _signature(tab, stated.number, signed)))


def _judged(tab: UsedTab, stated: TabStated, claimed: int, now: int) -> tuple[int, str]:
    """How much of what is asked beyond the sum before is owed by what was seen here, and why that is not all of it; empty: it is."""
    seen_ms = tab.seen_ms + sum(_took(tab, call_id, now) for call_id in tab.admitted)
    ran_ms, calls = min(stated.ran_ms, allowed_ms(seen_ms)), min(stated.calls, tab.let_in)
    fair = owed(tab.terms, calls, ran_ms)
    more = min(claimed, max(0, min(stated.price, fair) - tab.signed))
    if tab.signed + more >= stated.price:
        return more, ""
    if calls < stated.calls:
        return more, f"{stated.calls} calls are stated, and {tab.let_in} were let in"
    if ran_ms < stated.ran_ms:
        return (
            more,
            f"{format_millis(stated.ran_ms)} at work are stated, and the calls took {format_millis(seen_ms)} here",
        )
    return more, f"{format_credits(stated.price)} are stated, and what was agreed comes to {format_credits(fair)}"


def _signature(tab: UsedTab, number: int, price: int) -> Send:
    return Send(tab.terms.provider, TabSigned(tab.terms.tab_id, number, terms_digest(tab.terms), price))


def _over(tab: UsedTab, why: str, now: int, *, in_doubt: bool = False) -> tuple[TabEnded, ...]:
    """Why it is over stays; a doubt comes on top."""
    if tab.why_over and (tab.in_doubt or not in_doubt):
        return ()
    return (TabEnded(tab.terms.tab_id, why or "its provider has ended it", now, in_doubt),)


def _call_tried(tabs: UsedTabs, stimulus: CallTried, now: int) -> Decision:
    tab = tabs.tabs.get(stimulus.tab_id)
    if tab is None or stimulus.call_id in tab.under_way or why_not_called(tabs, stimulus):
        return IGNORED
    return Decision((CallBegun(stimulus.tab_id, stimulus.call_id, now),))


def _call_in(tabs: UsedTabs, stimulus: CallSeenIn, now: int) -> Decision:
    tab = tabs.tabs.get(stimulus.tab_id)
    if tab is None or stimulus.call_id not in tab.under_way or stimulus.call_id in tab.admitted:
        return IGNORED
    since = max(tab.under_way[stimulus.call_id], now - OPENING_MS)
    return Decision((CallAdmitted(stimulus.tab_id, stimulus.call_id, since),))


def _call_over(tabs: UsedTabs, stimulus: CallSeenOver, now: int) -> Decision:
    tab = tabs.tabs.get(stimulus.tab_id)
    if tab is None or stimulus.call_id not in tab.under_way:
        return IGNORED
    took = _took(tab, stimulus.call_id, now)
    if stimulus.call_id not in tab.admitted:
        took = min(took, OPENING_MS)
    return Decision((CallSeen(stimulus.tab_id, stimulus.call_id, took, stimulus.let_in, now),))


def _refused(tabs: UsedTabs, stimulus: TabRefused, now: int) -> Decision:
    tab = tabs.tabs.get(stimulus.tab_id)
    return IGNORED if tab is None else Decision(_over(tab, "its provider takes no more calls on it", now))


def _given_up(tabs: UsedTabs, stimulus: TabGivenUp, _now: int) -> Decision:
    return Decision((TabDeclined(stimulus.tab_id),)) if stimulus.tab_id in tabs.wanted else IGNORED


def _lost(tabs: UsedTabs, _stimulus: CallsLost, now: int) -> Decision:
    """They may have taken as long as until now: who is paid for them shall not lose by our crash."""
    seen = (
        CallSeen(tab_id, call_id, _took(tab, call_id, now), at=now)
        for tab_id, tab in tabs.tabs.items()
        for call_id in tab.under_way
    )
    return Decision(tuple(seen))


def _time(tabs: UsedTabs, _stimulus: TimeCame, now: int) -> Decision:
    due = {key: tab for key, tab in tabs.tabs.items() if (at := _deadline(tab)) is not None and now >= at}
    unused = (event for tab in due.values() for event in _over(tab, "no call was made on it for an hour", now))
    old = tuple(key for key, tab in due.items() if tab.why_over)
    return Decision((*unused, *((TabsDropped(old),) if old else ())))


# ------------------------------------------------------------------------------------------------------------------ table

_ROWS: Final[dict[type[Stimulus], Row[UsedTabs]]] = {
    TabTried: Row(
        _tried,
        "asked for over what tabs there of the last day leave, if those at all nodes leave anything; not after a doubt, unless for more than before",
    ),
    StatementHeard: Row(
        _heard,
        "an offer of what was asked for is signed if it is not too dear, and the tab before it is over; a sum is signed as far as it follows from "
        "what was seen of calls that were let in, else the tab is over, but not while it is open whether one was; "
        "after that only one for more calls is answered; "
        "the last once more is signed once more",
    ),
    CallTried: Row(
        _call_tried,
        "its time runs from here on; not begun if with it, and all under way as long as it may take, calls of the service could come to more than "
        "is paid within a day, or if an hour of it costs more",
    ),
    CallSeenIn: Row(_call_in, "it may be asked for; of the time before, two seconds at the most count"),
    CallSeenOver: Row(
        _call_over,
        "its time is what may be asked for: two seconds at the most if it was not seen to be let in; of one that was not let in nothing may be",
    ),
    TabRefused: Row(_refused, "no more calls are made on it"),
    TabGivenUp: Row(_given_up, "forgotten, if there is no agreement yet"),
    CallsLost: Row(_lost, "what was under way is over, and may have taken until now"),
    TimeCame: Row(
        _time, "a tab on which no call was made for an hour is over; one that was over for a day is forgotten"
    ),
}
TABLE: Final[Table[UsedTabs]] = {(TabsPhase.HELD, kind): row for kind, row in _ROWS.items()}
STIMULI: Final = frozenset(_ROWS) - {TimeCame}
"""The stimuli of this machine alone."""
