"""The tabs of others here: what their calls come to, what is asked for it, and when no more calls are let in. Stream "tabs_kept".

::

    asked ──▶ offered ──signed──▶ open ── calls, sums ──▶ over ──last sum signed──▶ gone
                 └─ for half a minute                      └─ not signed for a day ──▶ gone

One sum at a time is asked for: the next is stated when the last is signed. A signature over less than was stated ends the tab, and the rest is in
dispute, as with the receipt of an allocation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

from dms_proto.accounts.book import Book, answered, claim
from dms_proto.ids import Digest, PeerId, TabId
from dms_proto.machine import (
    IGNORED,
    Decision,
    Effect,
    Event,
    Row,
    Send,
    Stimulus,
    Table,
    TimeCame,
    earliest,
)
from dms_proto.messages import Clause, TabStated, TabTerms
from dms_proto.pool.refusals import Code, Refusal
from dms_proto.tabs.kept import (
    MOST_TABS,
    CallBilled,
    CallDropped,
    CallEntering,
    CallLeft,
    CallLetIn,
    CallWatched,
    ContainerFailed,
    FailureCounted,
    KeptTab,
    KeptTabs,
    LastCall,
    ServiceLeft,
    SignatureHeard,
    SumRepeated,
    SumSigned,
    SumStated,
    TabAgreed,
    TabAsked,
    TabForgotten,
    TabOffered,
    TabOver,
    TurnAway,
    change,
    evolve,
    saved,
)
from dms_proto.tabs.terms import (
    KEEP_MS,
    OFFER_MS,
    SETTLE_MS,
    UNSIGNED_MS,
    TabsPhase,
    entry_name,
    is_free,
    most_after,
    pause_ms,
    saving,
    terms_digest,
)
from dms_proto.units import format_credits


def decide(tabs: KeptTabs, stimulus: Stimulus, now: int) -> Decision:
    """What becomes of `stimulus` at `now` (Unix ms)."""
    decision = TABLE[tabs.phase, type(stimulus)].handler(tabs, stimulus, now)
    return saving(decision, tabs, evolve, saved)


def next_deadline(tabs: KeptTabs) -> int | None:
    """When a sum is due, or is to be told again, or given up."""
    at_work = frozenset(tabs.under_way.values())
    return earliest(*(_deadline(tab, at_work=tab_id in at_work) for tab_id, tab in tabs.tabs.items()))


def resume(tabs: KeptTabs) -> tuple[Effect, ...]:
    """Sums that are not signed are told again."""
    return tuple(Send(tab.terms.caller, tab.statement) for tab in tabs.tabs.values() if tab.is_unsigned)


def tab_of(tabs: KeptTabs, caller: PeerId, service: str) -> KeptTab | None:
    """The tab that is open for a peer's calls of a service."""
    theirs = (each for each in tabs.tabs.values() if (each.terms.caller, each.terms.service) == (caller, service))
    return next((each for each in theirs if not each.why_over), None)


def held(tabs: KeptTabs) -> Mapping[PeerId, int]:
    """What of each caller's credit is held for its tabs; 0 for whom has one that holds nothing."""
    at_work = Counter(tabs.under_way.values())
    total = Counter[PeerId]()
    for tab_id, tab in tabs.tabs.items():
        total[tab.terms.caller] += tab.held(at_work[tab_id])
    return total


def _deadline(tab: KeptTab, *, at_work: bool) -> int | None:
    if tab.is_unsigned:
        return tab.told_at + pause_ms(tab.repeats)
    if tab.why_over and not at_work:  # the process has ended with a call of it under way
        return tab.stated_at
    return tab.due_at if tab.price > tab.stated else None


def _asked(tabs: KeptTabs, stimulus: TabAsked, now: int) -> Decision:
    """A tab that is there already is told as it is: its caller may not have heard of it."""
    caller, wanted = stimulus.caller, stimulus.wanted
    known = tabs.tabs.get(wanted.tab_id)
    if known is not None:
        return Decision((), (Send(caller, known.statement),)) if known.terms.caller == caller else IGNORED
    why = stimulus.refused or _why_not(tabs, caller, stimulus.terms, stimulus.credit)
    if why:
        return Decision((), (Send(caller, TabStated(wanted.tab_id, 0, Digest(""), is_over=True, said=why)),))
    assert stimulus.terms is not None, "what is not refused is offered"
    terms = stimulus.terms
    offer = TabStated(terms.tab_id, 0, terms_digest(terms), offer=terms)
    return Decision((TabOffered(terms, now),), (Send(caller, offer),))


def _why_not(tabs: KeptTabs, caller: PeerId, terms: TabTerms | None, credit: int) -> str:
    """Why no tab is offered, or one that was offered is not agreed; empty: it is."""
    if terms is None or is_free(terms.tariff, terms.resources):
        return "its calls cost nothing"
    if len(tabs.tabs) >= MOST_TABS:
        return f"there are {MOST_TABS} tabs, as many as may be; try later"
    unpaid = [each for each in _of(tabs, caller, terms.service) if each.why_over and each.is_unsigned]
    if unpaid:
        return f"{unpaid[0].terms.tab_id}, the tab before, is over and its last sum is not signed"
    longest = most_after(terms, 1, 0)
    if longest > terms.max_price:
        most = format_credits(terms.max_price)
        return f"one call may cost {format_credits(longest)} and {most} is the most offered for all: offer more"
    room = credit + _let_go(tabs, tab_of(tabs, caller, terms.service))
    if terms.max_price > room:
        most, left = format_credits(terms.max_price), format_credits(max(0, room))
        return f"{most} may come to be owed, and {left} of credit are left: offer less, or pay what is owed"
    return ""


def _let_go(tabs: KeptTabs, tab: KeptTab | None) -> int:
    """What is held of the caller's credit for an open tab alone: not for the calls at work on it, which go on when another takes its place."""
    if tab is None:
        return 0
    at_work = _at_work(tabs, tab.terms.tab_id)
    return tab.held(at_work) - change(tab, why_over="another took its place").held(at_work)


def _at_work(tabs: KeptTabs, tab_id: TabId) -> int:
    return sum(each == tab_id for each in tabs.under_way.values())


def _of(tabs: KeptTabs, caller: PeerId, service: str) -> list[KeptTab]:
    return [each for each in tabs.tabs.values() if (each.terms.caller, each.terms.service) == (caller, service)]


def _heard(tabs: KeptTabs, stimulus: SignatureHeard, now: int) -> Decision:
    signed = stimulus.signed
    tab = tabs.tabs.get(signed.tab_id)
    if tab is None:
        return _taken(tabs, stimulus, now)
    if tab.terms.caller != stimulus.caller or signed.terms != terms_digest(tab.terms):
        return IGNORED
    if not tab.is_unsigned or signed.number != tab.number:
        return IGNORED
    accepted = min(max(0, signed.price - tab.signed), tab.claimed)
    is_all = signed.price >= tab.stated
    about, detail = entry_name(signed.tab_id, tab.number), f"price: stated {tab.stated}, signed {signed.price}"
    entry = answered(tab.terms.caller, "", about, tab.claimed, accepted, detail="" if is_all else detail)
    events: list[Event] = [SumSigned(signed.tab_id, tab.number, tab.signed + accepted, stimulus.frame)]
    if not is_all and not tab.why_over:
        events.append(TabOver(signed.tab_id, "its caller did not accept what was stated"))
    return _followed(tabs, events, entry, signed.tab_id, now)


def _taken(tabs: KeptTabs, stimulus: SignatureHeard, now: int) -> Decision:
    """Judged once more: what was offered at a time may be more than may be agreed together."""
    signed, offer = stimulus.signed, tabs.offers.get(stimulus.signed.tab_id)
    if offer is None or offer.terms.caller != stimulus.caller or now >= offer.at + OFFER_MS:
        return IGNORED
    terms = offer.terms
    if signed.number or signed.terms != terms_digest(terms):
        return IGNORED
    why = _why_not(tabs, terms.caller, terms, stimulus.credit)
    if why:
        return Decision((), (Send(terms.caller, TabStated(terms.tab_id, 0, signed.terms, is_over=True, said=why)),))
    before = tab_of(tabs, terms.caller, terms.service)
    ended = IGNORED if before is None else _end(tabs, before.terms.tab_id, "another took its place", now)
    agreed = TabAgreed(terms, now, stimulus.frame)
    return Decision((agreed, *ended.events), ended.effects).then(Send(terms.caller, KeptTab(terms).statement))


def _entering(tabs: KeptTabs, stimulus: CallEntering, now: int) -> Decision:
    if stimulus.call_id in tabs.under_way:
        return IGNORED
    refusal = _not_let_in(tabs, stimulus, now)
    if refusal is not None:
        return Decision((), (TurnAway(stimulus.call_id, refusal),))
    return Decision((CallLetIn(stimulus.call_id, stimulus.tab_id),))


def _not_let_in(tabs: KeptTabs, call: CallEntering, now: int) -> Refusal | None:
    """Why a call may not be worked on; what it may cost at its longest is held against all that may be owed."""
    tab = tabs.tabs.get(call.tab_id)
    if tab is None or tab.why_over or tab.terms.caller != call.caller:
        return Refusal(Code.NOT_AGREED, f"calls of {call.service} are paid, and there is no open tab for them")
    terms = tab.terms
    if (terms.service, terms.resources) != (call.service, call.resources):
        return Refusal(Code.NOT_AGREED, f"{call.service} is another since its price was agreed")
    if tab.is_unsigned and now >= tab.stated_at + UNSIGNED_MS:
        asked = format_credits(tab.stated - tab.signed)
        return Refusal(Code.UNSIGNED, f"{asked} for calls before it is not signed yet", wait_ms=pause_ms(tab.repeats))
    after = most_after(terms, _at_work(tabs, call.tab_id) + 1, tab.ran_ms)
    if after > terms.max_price:
        most, so_far = format_credits(terms.max_price), format_credits(tab.price)
        why = f"its tab has come to {so_far} of at most {most}, and with this call may come to {format_credits(after)}"
        nearest = f"a max price of {format_credits(after)}"
        return Refusal(Code.SPENT, why, (Clause("max_price", format_credits(after), most, nearest),))
    return None


def _left(tabs: KeptTabs, stimulus: CallLeft, now: int) -> Decision:
    tab_id = tabs.under_way.get(stimulus.call_id)
    if tab_id is None:
        return IGNORED
    tab = tabs.tabs.get(tab_id)
    if stimulus.ran_ms is None or tab is None:
        return Decision((CallDropped(stimulus.call_id),))
    container = stimulus.container_id
    if stimulus.has_failed and tabs.may_fail(tab, now):
        counted = FailureCounted(tab.terms.caller, tab.terms.service, container, now)
        return Decision((CallDropped(stimulus.call_id), counted))
    ran = min(stimulus.ran_ms, tab.terms.call_ms)
    billed = CallBilled(stimulus.call_id, tab_id, tab.calls + 1, tab.ran_ms + ran, now)
    watched = CallWatched(container, LastCall(stimulus.call_id, tab_id, ran, now))
    return _followed(tabs, (billed, watched), (), tab_id, now)


def _failed(tabs: KeptTabs, stimulus: ContainerFailed, now: int) -> Decision:
    """A container's connections end before its own end is seen: the call at which it failed looked as if it had come to its end."""
    call = tabs.last.get(stimulus.container_id)
    tab = None if call is None else tabs.tabs.get(call.tab_id)
    if call is None or tab is None or now >= call.at + SETTLE_MS or not tabs.may_fail(tab, now):
        return IGNORED
    back = CallBilled(call.call_id, call.tab_id, tab.calls - 1, tab.ran_ms - call.ran_ms, now)
    return Decision((back, FailureCounted(tab.terms.caller, tab.terms.service, stimulus.container_id, now)))


def _service_left(tabs: KeptTabs, stimulus: ServiceLeft, now: int) -> Decision:
    tab = tab_of(tabs, stimulus.caller, stimulus.service)
    return IGNORED if tab is None else _end(tabs, tab.terms.tab_id, "it was not used any more", now)


def _end(tabs: KeptTabs, tab_id: TabId, why: str, now: int) -> Decision:
    return _followed(tabs, (TabOver(tab_id, why),), (), tab_id, now)


def _followed(tabs: KeptTabs, events: Iterable[Event], booked: tuple[Book, ...], tab_id: TabId, now: int) -> Decision:
    """Events of one tab, and what follows from them at once: the next sum is due, or nothing more is asked."""
    events = list(events)
    for event in events:
        tabs = evolve(tabs, event)
    tab = tabs.tabs[tab_id]
    at_work = tab_id in tabs.under_way.values()
    effects: tuple[Effect, ...] = booked
    if _is_due(tab, now):
        stated = SumStated(tab_id, tab.number + 1, tab.price, now)
        events.append(stated)
        tab = evolve(tabs, stated).tabs[tab_id]
        about = entry_name(tab_id, tab.number)
        effects += (*claim(tab.terms.caller, "", about, tab.claimed), Send(tab.terms.caller, tab.statement))
    elif tab.why_over and not at_work and not tab.is_unsigned:
        events.append(TabForgotten(tab_id))
        effects += (Send(tab.terms.caller, tab.statement),)
    return Decision(tuple(events), effects)


def _is_due(tab: KeptTab, now: int) -> bool:
    if tab.is_unsigned or tab.price <= tab.stated:
        return False
    return bool(tab.why_over) or now >= tab.due_at


def _time(tabs: KeptTabs, _stimulus: TimeCame, now: int) -> Decision:
    events: list[Event] = []
    effects: list[Effect] = []
    at_work = frozenset(tabs.under_way.values())
    for tab_id, tab in tabs.tabs.items():
        due = _deadline(tab, at_work=tab_id in at_work)
        if due is None or now < due:
            continue
        if not tab.is_unsigned:
            found = _followed(tabs, (), (), tab_id, now)
        elif tab.why_over and now >= tab.stated_at + KEEP_MS:
            found = Decision((TabForgotten(tab_id, unsigned=True),))
        else:
            found = Decision((SumRepeated(tab_id, now),), (Send(tab.terms.caller, tab.statement),))
        events += found.events
        effects += found.effects
    return Decision(tuple(events), tuple(effects))


# ------------------------------------------------------------------------------------------------------------------ table

_ROWS: Final[dict[type[Stimulus], Row[KeptTabs]]] = {
    TabAsked: Row(_asked, "told the price, or why there is none; a tab that is there already is told as it is"),
    SignatureHeard: Row(
        _heard,
        "of an offer of the last half minute: agreed, if there is still credit for it, and the tab before it is over; "
        "of the last sum: booked, the rest in dispute and the tab over; of another: nothing",
    ),
    CallEntering: Row(
        _entering, "let in, if all that is at work could take as long as it may and no more would be owed than agreed"
    ),
    CallLeft: Row(
        _left,
        "counted, but for a few of a caller whose container failed; "
        "a sum is stated, if a tenth of what may be owed has come together, and its first call and the last long one ended two seconds ago",
    ),
    ContainerFailed: Row(
        _failed, "the call that it worked on last is taken back, if that has just ended and no sum holds it"
    ),
    ServiceLeft: Row(_service_left, "its tab is over, and its last sum stated"),
    TimeCame: Row(_time, "sums are stated, told again, or given up"),
}
TABLE: Final[Table[KeptTabs]] = {(TabsPhase.HELD, kind): row for kind, row in _ROWS.items()}
STIMULI: Final = frozenset(_ROWS) - {TimeCame}
"""The stimuli of this machine alone."""
