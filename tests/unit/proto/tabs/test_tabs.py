"""Tabs between two machines: what is agreed, billed, signed and refused, by honest ones and by others, and after either was killed."""

from __future__ import annotations

import random

import msgspec
import pytest

from dms_proto.ids import PeerId, TabId, tab_id
from dms_proto.messages import TabSigned, TabStated, TabWanted
from dms_proto.pool.records import CallId, ContainerId
from dms_proto.pool.refusals import Code
from dms_proto.sim.tabs import CALL_MS, CALLER, PROVIDER, SERVICE, SIZE, TARIFF, Pair, cost
from dms_proto.tabs import kept_machine, used_machine
from dms_proto.tabs.kept import CallEntering, CallLeft, ContainerFailed, SignatureHeard, TabAsked
from dms_proto.tabs.terms import (
    FAILURES_MS,
    FREE_FAILURES,
    KEEP_MS,
    OFFER_MS,
    OPENING_MS,
    SETTLE_MS,
    STATE_MS,
    UNSIGNED_MS,
    Ceiling,
    allowed_ms,
    terms_digest,
)
from dms_proto.tabs.used import (
    CallSeenIn,
    CallSeenOver,
    CallTried,
    StatementHeard,
    TabReady,
    TabRefused,
    TabTried,
)
from dms_proto.units import CREDIT, HOUR, MINUTE, SECOND

change = msgspec.structs.replace
MOST = Ceiling(10 * CREDIT, CREDIT)
STRANGER = PeerId("12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp")


def test_both_sign_the_same_terms_before_the_first_call() -> None:
    pair = Pair()
    tab = pair.agree()
    assert pair.ready == [""]
    assert pair.kept(tab).terms == pair.used(tab).terms
    assert not pair.provider.entries


def test_calls_add_up_and_are_signed_when_a_tenth_has_come_together() -> None:
    pair = Pair()
    tab = pair.agree(cost(2 * MINUTE))
    for _ in range(3):
        pair.call(tab, 3 * SECOND)
    assert (pair.kept(tab).calls, pair.kept(tab).ran_ms, pair.kept(tab).number) == (3, 9 * SECOND, 0)
    pair.call(tab, 3 * SECOND)
    assert pair.kept(tab).signed == pair.used(tab).signed == cost(12 * SECOND)
    assert pair.provider.balances.open == -pair.caller.balances.open == cost(12 * SECOND)


def test_a_small_sum_is_signed_after_a_while_and_the_rest_at_the_end() -> None:
    pair = Pair()
    tab = pair.agree()
    pair.call(tab, 2 * SECOND)
    pair.pass_time(STATE_MS)
    assert pair.used(tab).signed == cost(2 * SECOND)
    pair.call(tab, SECOND)
    pair.leave()
    assert tab not in pair.provider.state.tabs
    assert pair.used(tab).why_over
    assert pair.provider.balances.open == -pair.caller.balances.open == cost(3 * SECOND)


def test_a_tab_whose_end_was_lost_is_over_an_hour_after_its_last_call() -> None:
    pair = Pair(loses=lambda message: isinstance(message, TabStated) and message.is_over)
    tab = pair.agree()
    call = pair.begin(tab)
    pair.pass_time(2 * HOUR)
    pair.end(tab, call, 2 * HOUR)
    pair.pass_time(STATE_MS)
    pair.leave()
    assert tab not in pair.provider.state.tabs
    pair.pass_time(HOUR - STATE_MS - 1)
    pair.kill_caller()
    assert not pair.used(tab).why_over
    pair.pass_time(1)
    assert pair.used(tab).why_over
    assert not used_machine.stakes(pair.caller.state)
    pair.pass_time(KEEP_MS)
    assert not pair.caller.state.tabs


def test_calls_that_cost_nothing_yet_do_not_wake_the_provider_for_ever() -> None:
    pair = Pair()
    pair.call(pair.agree(), 0)
    pair.pass_time(HOUR)


def test_no_call_is_let_in_that_could_cost_more_than_the_most() -> None:
    most = cost(5 * CALL_MS)
    pair = Pair()
    tab = pair.agree(most)
    for _ in range(3):
        pair.begin(tab)
    pair.call(tab, CALL_MS)
    pair.begin(tab)
    assert not pair.turned_away
    pair.begin(tab)
    (refusal,) = pair.turned_away
    assert refusal.code is Code.SPENT
    assert refusal.nearest == "a max price of 0.1 credits"


def test_a_service_whose_one_call_may_cost_more_than_is_offered_is_not_offered() -> None:
    pair = Pair()
    tab = pair.agree(cost(CALL_MS) - 1)
    assert tab not in pair.caller.state.tabs
    assert pair.ready[0].startswith("one call may cost 0.016667 credits")


def test_a_call_of_another_peer_service_or_size_is_not_on_the_tab() -> None:
    pair = Pair()
    tab = pair.agree()
    for wrong in (
        {"caller": PROVIDER},
        {"service": "command/other"},
        {"resources": change(SIZE, cpu_millicores=2_000)},
    ):
        entering = CallEntering(pair.begin(tab), CALLER, tab, SERVICE, SIZE)
        pair.tell(pair.provider, change(entering, call_id="wrong", **wrong))
    assert [each.code for each in pair.turned_away] == [Code.NOT_AGREED] * 3


def test_no_more_is_agreed_than_may_come_to_be_owed_and_all_of_it_is_held() -> None:
    pair = Pair()
    pair.credit = CREDIT - 1
    assert pair.agree(CREDIT) not in pair.caller.state.tabs
    assert pair.ready == [
        "1 credit may come to be owed, and 0.999999 credits of credit are left: offer less, or pay what is owed"
    ]
    pair.credit = CREDIT
    tab = pair.agree(CREDIT)
    assert kept_machine.held(pair.provider.state) == {CALLER: CREDIT}
    pair.call(tab, SECOND)
    pair.credit = 0
    of_first = cost(allowed_ms(SECOND))
    second = pair.agree(CREDIT + of_first)  # in the place of the first, of which nothing was stated yet
    assert kept_machine.held(pair.provider.state) == {CALLER: CREDIT}
    pair.leave()
    assert second not in pair.provider.state.tabs
    assert not kept_machine.held(pair.provider.state)


def test_calls_at_work_on_a_tab_that_is_over_go_on_and_are_held_as_if_they_took_their_longest() -> None:
    pair = Pair()
    tab = pair.agree(CREDIT)
    first, second = pair.begin(tab), pair.begin(tab)
    pair.credit = 0  # beside the tab
    rest = CREDIT - cost(2 * CALL_MS)
    longest = cost(allowed_ms(2 * CALL_MS))
    pair.agree(longest + rest + 1)
    assert "0.966666 credits of credit are left" in pair.ready[-1]
    pair.agree(longest + rest)
    assert kept_machine.held(pair.provider.state) == {CALLER: CREDIT}
    pair.end(tab, first, SECOND)
    pair.end(tab, second, None)
    pair.pass_time(0)
    assert kept_machine.held(pair.provider.state) == {CALLER: rest}


def offered(pair: Pair, service: str = SERVICE) -> TabSigned:
    """An offer, with which its caller takes its time; gives the signature that takes it."""
    wanted = TabWanted(tab_id(len(pair.provider.log).to_bytes(8, "big") + service.encode()[-8:]), service, CREDIT)
    terms = pair.terms(wanted)
    pair.tell(pair.provider, TabAsked(CALLER, wanted, terms, "", pair.credit))
    return TabSigned(wanted.tab_id, 0, terms_digest(terms), 0)


def test_an_offer_is_judged_again_when_it_is_taken_and_who_took_it_hears_why_it_is_none() -> None:
    pair = Pair(loses=lambda message: isinstance(message, TabSigned))
    tab = pair.agree(CREDIT)
    signed = TabSigned(tab, 0, terms_digest(pair.used(tab).terms), 0)
    pair.tell(pair.provider, SignatureHeard(CALLER, signed, credit=CREDIT - 1))
    assert not pair.provider.state.tabs
    assert "0.999999 credits of credit are left" in pair.ready[-1]
    assert pair.used(tab).why_over == pair.ready[-1]


def test_an_offer_can_be_taken_for_half_a_minute() -> None:
    for after, is_agreed in ((OFFER_MS - 1, True), (OFFER_MS, False)):
        pair = Pair()
        signed = offered(pair)
        pair.now += after
        pair.tell(pair.provider, SignatureHeard(CALLER, signed, credit=CREDIT))
        assert bool(pair.provider.state.tabs) is is_agreed


def test_one_offer_is_kept_for_each_service_and_none_that_is_too_old() -> None:
    pair = Pair()
    first = offered(pair)
    pair.now += 1
    pair.agree(CREDIT)
    second, other = offered(pair), offered(pair, "command/other")
    assert list(pair.provider.state.offers) == [second.tab_id, other.tab_id]
    pair.tell(pair.provider, SignatureHeard(CALLER, first, credit=CREDIT))
    assert first.tab_id not in pair.provider.state.tabs
    pair.now += OFFER_MS
    last = offered(pair, "command/last")
    assert list(pair.provider.state.offers) == [last.tab_id]


BOX = ContainerId("c-1")


def fails_at(pair: Pair, tab: TabId, ms: int) -> None:
    """A call takes so long, and then its container fails."""
    call = pair.begin(tab)
    pair.now += ms
    pair.tell(pair.provider, CallLeft(call, ms, BOX, has_failed=True))
    pair.tell(pair.caller, CallSeenOver(tab, call))


def ends_in(pair: Pair, tab: TabId, ms: int) -> None:
    """A call takes so long in a container."""
    call = pair.begin(tab)
    pair.now += ms
    pair.tell(pair.provider, CallLeft(call, ms, BOX))
    pair.tell(pair.caller, CallSeenOver(tab, call))


def test_a_call_whose_container_fails_costs_nothing_but_not_again_and_again() -> None:
    pair = Pair()
    tab = pair.agree(CREDIT)
    for _ in range(FREE_FAILURES):
        fails_at(pair, tab, SECOND)
    assert (pair.kept(tab).calls, pair.kept(tab).price) == (0, 0)
    fails_at(pair, tab, SECOND)
    assert (pair.kept(tab).calls, pair.kept(tab).price) == (1, cost(SECOND))
    other = pair.agree(2 * CREDIT)
    fails_at(pair, other, SECOND)
    assert pair.kept(other).calls == 1
    pair.pass_time(FAILURES_MS)
    fails_at(pair, other, SECOND)
    assert pair.kept(other).calls == 1


def test_a_call_is_taken_back_if_its_container_is_seen_to_have_failed_right_after() -> None:
    pair = Pair()
    tab = pair.agree(10 * cost(CALL_MS))
    ends_in(pair, tab, SECOND)
    ends_in(pair, tab, CALL_MS)  # more than a tenth: it would be stated at once
    pair.now += SETTLE_MS - 1
    pair.tell(pair.provider, ContainerFailed(BOX))
    assert (pair.kept(tab).calls, pair.kept(tab).ran_ms) == (1, SECOND)
    pair.tell(pair.provider, ContainerFailed(BOX))
    pair.leave()
    assert pair.provider.balances.open == -pair.caller.balances.open == cost(SECOND)


def test_a_call_is_not_taken_back_later_nor_out_of_a_sum_nor_again_and_again() -> None:
    pair = Pair()
    tab = pair.agree(10 * cost(CALL_MS))
    ends_in(pair, tab, CALL_MS)
    pair.now += SETTLE_MS
    pair.tell(pair.provider, ContainerFailed(BOX))
    pair.pass_time(0)
    assert pair.kept(tab).signed == cost(CALL_MS)
    ends_in(pair, tab, SECOND)
    pair.agree(20 * cost(CALL_MS))
    pair.tell(pair.provider, ContainerFailed(BOX))
    assert pair.provider.balances.open == -pair.caller.balances.open == cost(CALL_MS + SECOND)
    tab = pair.agree(CREDIT)
    for _ in range(FREE_FAILURES + 1):
        ends_in(pair, tab, SECOND)
        pair.tell(pair.provider, ContainerFailed(BOX))
    assert pair.kept(tab).calls == 1


@pytest.mark.parametrize(
    ("lie", "why"),
    [
        (lambda stated: change(stated, price=stated.price + 10_000), "are stated, and what was agreed comes to"),
        (lambda stated: change(stated, ran_ms=9 * HOUR, price=CREDIT), "9h 0m at work are stated"),
        (lambda stated: change(stated, calls=99, price=CREDIT, ran_ms=HOUR), "99 calls are stated, and 1 were let in"),
    ],
)
def test_more_than_was_seen_is_not_signed_and_ends_the_tab(lie: object, why: str) -> None:
    pair = Pair()
    tab = pair.agree(CREDIT)
    pair.lie = lambda stated: lie(stated) if stated.number else stated  # type: ignore[operator]
    pair.call(tab, 30 * SECOND)
    pair.leave()
    assert why in pair.used(tab).why_over
    assert pair.used(tab).signed <= cost(34 * SECOND)
    assert -pair.caller.balances.open == pair.caller.balances.expense == pair.used(tab).signed


def test_how_long_a_call_waited_is_not_paid_but_for_the_word_on_its_way() -> None:
    for seen_in_after, ran, is_signed in ((50 * SECOND, 50 * SECOND, False), (OPENING_MS, 50 * SECOND, True)):
        pair = Pair()
        tab, call = pair.agree(), CallId("call")
        pair.tell(pair.caller, CallTried(tab, call, MOST))
        pair.tell(pair.provider, CallEntering(call, CALLER, tab, SERVICE, SIZE))
        pair.now += seen_in_after
        pair.tell(pair.caller, CallSeenIn(tab, call))
        pair.now += 50 * SECOND - seen_in_after
        pair.end(tab, call, ran)
        pair.leave()
        assert pair.used(tab).in_doubt is not is_signed
        assert pair.used(tab).signed == cost(ran if is_signed else allowed_ms(OPENING_MS))


def test_a_call_that_was_not_seen_to_be_let_in_costs_two_seconds_at_the_most() -> None:
    pair = Pair()
    tab, call = pair.agree(), CallId("call")
    pair.tell(pair.caller, CallTried(tab, call, MOST))
    pair.tell(pair.provider, CallEntering(call, CALLER, tab, SERVICE, SIZE))
    pair.now += 40 * SECOND
    pair.end(tab, call, 40 * SECOND)
    pair.leave()
    assert pair.used(tab).signed == cost(allowed_ms(OPENING_MS))


def test_terms_dearer_than_the_owner_pays_are_not_signed_and_it_hears_what_they_are() -> None:
    for rate, is_agreed in ((CREDIT, True), (CREDIT - 1, False)):
        pair = Pair()
        pair.most_an_hour = rate
        tab = pair.agree()
        assert (tab in pair.caller.state.tabs) is (tab in pair.provider.state.tabs) is is_agreed
        dear = "an hour at work costs 1 credit there, and 0.999999 credits is the most that is accepted"
        assert pair.ready == ["" if is_agreed else dear]


def test_no_call_is_made_on_a_tab_that_is_dearer_than_the_call_may_be() -> None:
    pair = Pair()
    tab = pair.agree()
    tried = CallTried(tab, CallId("call"), Ceiling(CREDIT, CREDIT - 1))
    assert "an hour at work costs 1 credit" in used_machine.why_not_called(pair.caller.state, tried)
    pair.tell(pair.caller, tried)
    assert not pair.used(tab).under_way


def test_calls_of_a_service_come_to_no_more_than_the_most_at_all_nodes_together() -> None:
    pair = Pair()
    tab = pair.agree()
    pair.call(tab, CALL_MS)
    here = pair.used(tab)
    there = change(here, terms=change(here.terms, tab_id=tab_id(bytes([1] * 16)), provider=CALLER))
    other = change(here, terms=change(here.terms, tab_id=tab_id(bytes([2] * 16)), service="command/other"))
    pair.caller.state = change(pair.caller.state, tabs={each.terms.tab_id: each for each in (here, there, other)})
    after = cost(allowed_ms(CALL_MS)) + cost(allowed_ms(2 * CALL_MS))
    for most, is_made in ((after, True), (after - 1, False)):
        tried = CallTried(there.terms.tab_id, CallId("call"), Ceiling(most, CREDIT))
        assert bool(used_machine.why_not_called(pair.caller.state, tried)) is not is_made
        assert bool(used_machine.decide(pair.caller.state, tried, pair.now).events) is is_made
    assert "at all nodes together" in used_machine.why_not_called(pair.caller.state, tried)
    spent = 2 * cost(allowed_ms(CALL_MS))  # so no other node is asked for a tab on which no call could be made
    for most, is_asked in ((spent + 1, True), (spent, False)):
        wanted = TabTried(tab_id(bytes([3] * 16)), CALLER, STRANGER, SERVICE, Ceiling(most, CREDIT))
        assert bool(used_machine.decide(pair.caller.state, wanted, pair.now).events) is is_asked


def test_who_only_asks_hears_the_terms_and_agrees_to_nothing() -> None:
    pair = Pair()
    pair.most_an_hour = CREDIT - 1
    asked = TabTried(tab_id(bytes([3] * 16)), CALLER, PROVIDER, SERVICE, Ceiling(CREDIT, CREDIT - 1), only_asks=True)
    pair.tell(pair.caller, asked)
    (ready,) = (each for each in pair.caller.said if isinstance(each, TabReady))
    assert ready.offer is not None
    assert (ready.offer.provider, ready.offer.tariff) == (PROVIDER, TARIFF)
    assert ready.why.startswith("an hour at work costs 1 credit")
    assert not pair.caller.state.tabs
    assert not pair.provider.state.tabs


def test_what_is_only_asked_for_is_not_at_stake() -> None:
    pair = Pair(loses=lambda message: isinstance(message, TabStated))
    pair.tell(
        pair.caller, TabTried(tab_id(bytes([3] * 16)), CALLER, PROVIDER, SERVICE, Ceiling(CREDIT, 0), only_asks=True)
    )
    assert pair.caller.state.wanted
    assert not used_machine.stakes(pair.caller.state)


def test_a_sum_for_a_call_waits_until_it_is_known_whether_it_was_let_in() -> None:
    pair = Pair()
    for is_let_in in (False, True):
        tab = pair.agree(2 * CREDIT if is_let_in else CREDIT)
        call = CallId("call")
        pair.tell(pair.caller, CallTried(tab, call, MOST))
        early = TabStated(tab, 1, terms_digest(pair.used(tab).terms), 1, 20 * SECOND, cost(20 * SECOND))
        pair.tell(pair.caller, StatementHeard(PROVIDER, early))
        assert (pair.used(tab).number, pair.used(tab).why_over) == (0, "")
        if is_let_in:
            pair.tell(pair.caller, CallSeenIn(tab, call))
            pair.now += 30 * SECOND
        else:
            pair.tell(pair.caller, CallSeenOver(tab, call, let_in=False))
        pair.tell(pair.caller, StatementHeard(PROVIDER, early))
        assert pair.used(tab).signed == (cost(20 * SECOND) if is_let_in else 0)
        assert bool(pair.used(tab).why_over) != is_let_in


def test_a_provider_makes_no_more_disputes_than_there_are_calls() -> None:
    pair = Pair()
    tab = pair.agree(CREDIT)
    pair.signs = lambda signed: signed if not signed.number else None
    lied, later = pair.begin(tab), pair.begin(tab)
    for number in range(1, 50):
        calls = 1 if number < 10 else number
        pair.now += SECOND
        lie = TabStated(tab, number, terms_digest(pair.used(tab).terms), calls, HOUR, number * CREDIT // 50)
        pair.tell(pair.caller, StatementHeard(PROVIDER, lie))
    assert len(pair.caller.entries) == pair.used(tab).number == 1
    pair.tell(pair.caller, CallSeenOver(tab, lied))
    before, signed = pair.used(tab).stated, pair.used(tab).signed
    pair.now += 20 * SECOND
    pair.tell(pair.caller, CallSeenOver(tab, later))
    honest = TabStated(tab, 2, terms_digest(pair.used(tab).terms), 2, HOUR, before + cost(10 * SECOND))
    pair.tell(pair.caller, StatementHeard(PROVIDER, honest))
    assert pair.used(tab).signed == signed + cost(10 * SECOND)


def test_a_tab_that_is_over_is_at_stake_until_all_of_it_is_stated() -> None:
    pair = Pair()
    tab = pair.agree(CREDIT)
    call = pair.begin(tab)
    pair.now += 20 * SECOND
    pair.leave()
    pair.tell(pair.caller, TabRefused(tab))
    assert used_machine.stakes(pair.caller.state) == {tab: (PROVIDER, cost(allowed_ms(CALL_MS)))}
    pair.tell(pair.caller, CallSeenOver(tab, call))
    assert used_machine.stakes(pair.caller.state) == {tab: (PROVIDER, cost(23 * SECOND))}
    pair.tell(pair.provider, CallLeft(call, 20 * SECOND))
    assert pair.used(tab).signed == cost(20 * SECOND)
    assert not used_machine.stakes(pair.caller.state)
    more = TabStated(tab, 2, terms_digest(pair.used(tab).terms), 1, 22 * SECOND, cost(22 * SECOND))
    pair.tell(pair.caller, StatementHeard(PROVIDER, more))
    assert pair.used(tab).signed == cost(20 * SECOND)


def test_the_tabs_of_a_day_come_to_no_more_together_than_the_owner_would_pay() -> None:
    most = cost(10 * CALL_MS)
    pair = Pair()
    before = 0
    for _ in range(4):
        tab = pair.agree(most)
        assert pair.used(tab).terms.max_price == most - before
        pair.call(tab, CALL_MS)
        pair.call(tab, CALL_MS)
        pair.leave()
        assert pair.used(tab).signed == cost(2 * CALL_MS)
        before += pair.used(tab).signed
    pair.begin(pair.agree(most))
    assert not pair.turned_away
    pair.agree(most)
    assert pair.ready[-1].endswith(
        "offer more (calls of the last day there come to 0.151392 credits of at most 0.166667 credits)"
    )
    pair.agree(before)
    assert (
        pair.ready[-1] == "calls of the last day there come to 0.151392 credits of at most 0.133336 credits: offer more"
    )
    pair.agree(2 * most)
    assert pair.ready[-1] == ""
    pair.leave()
    pair.pass_time(KEEP_MS + HOUR)
    pair.agree(most)
    assert pair.ready[-1] == ""


def test_no_tab_follows_one_that_ended_in_doubt_unless_more_is_offered() -> None:
    pair = Pair()
    tab = pair.agree(CREDIT)
    pair.lie = lambda stated: change(stated, calls=99, ran_ms=HOUR, price=CREDIT) if stated.number else stated
    pair.call(tab, 30 * SECOND)
    pair.leave()
    assert pair.used(tab).in_doubt
    pair.agree(CREDIT)
    assert pair.ready[-1].startswith(
        f"{tab}, a tab before, is in doubt: 99 calls are stated, and 1 were let in; more than 1 credit is"
    )
    pair.agree(2 * CREDIT)
    assert pair.ready[-1] == ""


def test_what_is_not_accepted_is_in_dispute_and_ends_the_tab() -> None:
    pair = Pair()
    tab = pair.agree(CREDIT)
    first, second = pair.begin(tab), pair.begin(tab)
    pair.now += 10 * SECOND
    pair.tell(pair.provider, CallLeft(first, CALL_MS))  # five sixths of it made up
    pair.pass_time(STATE_MS - 30 * SECOND)
    pair.end(tab, second, None)
    pair.now += SECOND
    pair.signs = lambda signed: change(signed, price=cost(10 * SECOND)) if signed.number else signed
    pair.pass_time(STATE_MS)
    balances = pair.provider.balances
    assert (balances.open, balances.disputed) == (cost(10 * SECOND), cost(CALL_MS) - cost(10 * SECOND))
    assert tab not in pair.provider.state.tabs
    pair.begin(tab)
    assert pair.turned_away[-1].code is Code.NOT_AGREED


def test_who_does_not_sign_is_not_let_in_for_long_and_gets_no_other_tab() -> None:
    pair = Pair()
    tab = pair.agree()
    pair.signs = lambda signed: signed if not signed.number else None
    pair.call(tab, SECOND)
    pair.pass_time(STATE_MS + SECOND)
    pair.begin(tab)
    assert not pair.turned_away
    pair.pass_time(UNSIGNED_MS)
    pair.begin(tab)
    assert [each.code for each in pair.turned_away] == [Code.UNSIGNED]
    pair.leave()
    pair.agree()
    assert "its last sum is not signed" in pair.ready[-1]
    pair.signs = lambda signed: signed
    pair.pass_time(10 * MINUTE)
    pair.agree()
    assert pair.ready[-1] == ""


def test_what_is_never_signed_stays_claimed() -> None:
    pair = Pair()
    tab = pair.agree()
    pair.signs = lambda signed: signed if not signed.number else None
    pair.call(tab, SECOND)
    pair.leave()
    pair.pass_time(KEEP_MS + HOUR)
    assert not pair.provider.state.tabs
    assert pair.provider.balances.claimed == cost(SECOND)


def test_a_higher_most_is_another_tab() -> None:
    pair = Pair()
    first = pair.agree(CREDIT)
    pair.call(first, SECOND)
    second = pair.agree(2 * CREDIT)
    assert list(pair.provider.state.tabs) == [second]
    assert pair.used(first).signed == cost(SECOND)


def test_nobody_else_signs_and_nothing_else_is_signed() -> None:
    pair = Pair()
    tab = pair.agree()
    pair.signs = lambda signed: signed if not signed.number else None
    pair.call(tab, SECOND)
    pair.pass_time(STATE_MS)
    right = TabSigned(tab, 1, terms_digest(pair.kept(tab).terms), cost(SECOND))
    for caller, signed in (
        (PROVIDER, right),
        (CALLER, change(right, terms=terms_digest(change(pair.kept(tab).terms, max_price=1)))),
        (CALLER, change(right, number=2)),
    ):
        pair.tell(pair.provider, SignatureHeard(caller, signed))
        assert pair.kept(tab).is_unsigned
    pair.tell(pair.provider, SignatureHeard(CALLER, right))
    assert not pair.kept(tab).is_unsigned
    forged = TabStated(tab, 2, right.terms, 1, SECOND, CREDIT)
    pair.tell(pair.caller, StatementHeard(CALLER, forged))
    assert pair.used(tab).number == 1


def test_an_offer_of_something_else_is_not_taken() -> None:
    pair = Pair()

    def dearer(stated: TabStated) -> TabStated:
        return stated if stated.offer is None else change(stated, offer=change(stated.offer, max_price=2 * CREDIT))

    pair.lie = dearer
    tab = pair.agree(CREDIT)
    assert pair.ready == ["it offers something else than was asked for"]
    assert tab not in pair.caller.state.tabs


def test_a_call_under_way_when_its_caller_is_killed_may_have_taken_until_then() -> None:
    pair = Pair()
    tab = pair.agree()
    call = pair.begin(tab)
    pair.now += 50 * SECOND
    pair.kill_caller()
    pair.tell(pair.provider, CallLeft(call, 50 * SECOND))
    pair.leave()
    assert pair.used(tab).signed == cost(50 * SECOND)
    assert not pair.provider.balances.disputed


def test_a_call_under_way_when_its_provider_is_killed_costs_nothing() -> None:
    pair = Pair()
    tab = pair.agree()
    pair.call(tab, SECOND)
    pair.begin(tab)
    pair.leave()
    pair.kill_provider()
    pair.pass_time(MINUTE)
    assert not pair.provider.state.tabs
    assert pair.provider.balances.open == cost(SECOND)


@pytest.mark.parametrize("seed", range(30))
def test_nothing_is_paid_twice_or_lost_whatever_is_lost_or_killed(seed: int) -> None:
    rng = random.Random(seed)
    pair = Pair(loses=lambda message: rng.random() < 0.3)
    worked = 0
    for _ in range(40):
        found = pair.caller.state.tabs
        tab = next((key for key, each in found.items() if not each.why_over), None) or pair.agree(CREDIT // 4)
        if tab in pair.provider.state.tabs and tab in pair.caller.state.tabs:
            call, ms = pair.begin(tab), rng.randrange(CALL_MS)
            pair.now += ms
            if call in pair.provider.state.under_way:
                pair.end(tab, call, ms)
                worked += ms
        step = rng.random()
        if step < 0.15:
            pair.kill_provider()
        elif step < 0.3:
            pair.kill_caller()
        elif step < 0.4:
            pair.leave()
        else:
            pair.pass_time(rng.randrange(MINUTE))
        for each in pair.caller.state.tabs.values():
            assert each.signed <= each.terms.max_price
        assert sum(each.signed for each in pair.caller.state.tabs.values()) <= CREDIT // 4
    pair.loses = lambda _message: False
    pair.leave()
    pair.pass_time(2 * HOUR)
    ours, theirs = pair.provider.balances, pair.caller.balances
    assert not pair.provider.state.tabs
    assert (ours.claimed, ours.disputed) == (0, 0)
    assert ours.open == -theirs.open
    assert cost(worked) <= ours.open <= cost(worked) + pair.made  # each tab is rounded up once
