"""So many requests of a node seek at a time; the others wait for their turn, by class, priority and age, and no kind keeps another from seeking."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from dms_proto import ids
from dms_proto.capability import Capability, JobClass, Resources
from dms_proto.ids import RequestId
from dms_proto.market.auction_effects import Conclude
from dms_proto.market.auction_events import RequestOpened, TurnAwaited
from dms_proto.market.auction_fold import evolve
from dms_proto.market.auction_state import Auction, SearchPhase, SlotPhase
from dms_proto.market.auction_stimuli import CancelAsked, TurnPending
from dms_proto.market.seekers import SHARE, Seekers, turn_in_words
from dms_proto.sim.requester import Requester, terms
from dms_proto.units import CORE, SECOND
from dms_proto.work import EndReason

change = msgspec.structs.replace
SMALL = Capability(resources=Resources(CORE))
LARGE = Capability(resources=Resources(8 * CORE))
BATCH = Capability(resources=Resources(CORE), job_classes=(JobClass.BATCH,))


def name(number: int) -> RequestId:
    return ids.request_id(number.to_bytes(16, "big"))


def submitted(number: int, **changed: Any) -> Auction:
    """A request that has called its first round, submitted after those of smaller numbers."""
    return evolve(Auction(), RequestOpened(terms(request_id=name(number), **changed), number))


def placed(auction: Auction) -> Auction:
    """The same with a provider for every slot."""
    return change(
        auction,
        search=SearchPhase.IDLE,
        slots=tuple(change(slot, phase=SlotPhase.HELD) for slot in auction.slots),
    )


def submit(seekers: Seekers, *numbers: int, **changed: Any) -> list[RequestId]:
    """Gives those whose turn it is at once."""
    return [id_ for number in numbers for id_ in seekers.note(name(number), submitted(number, **changed))]


def place(seekers: Seekers, number: int, **changed: Any) -> tuple[RequestId, ...]:
    """A request has found its providers; gives those whose turn has come by that."""
    return seekers.note(name(number), placed(submitted(number, **changed)))


def test_so_many_seek_and_the_others_wait_in_the_order_in_which_they_came() -> None:
    seekers = Seekers(5)
    assert submit(seekers, *range(7)) == [name(number) for number in range(4)]  # four fifths: of one kind
    assert [seekers.ahead(name(number)) for number in range(7)] == [None] * 4 + [0, 1, 2]
    assert seekers.waiting() == {name(4): 0, name(5): 1, name(6): 2}

    assert place(seekers, 2) == (name(4),)
    assert [seekers.ahead(name(number)) for number in (4, 5, 6)] == [None, 0, 1]


def test_one_that_is_over_before_its_turn_makes_room_for_nobody() -> None:
    seekers = Seekers(1)
    assert submit(seekers, 0, 1, 2) == [name(0)]
    assert seekers.forget(name(1)) == ()
    assert seekers.waiting() == {name(2): 0}
    assert seekers.forget(name(0)) == (name(2),)


def test_a_kind_that_finds_no_room_keeps_no_other_from_seeking() -> None:
    seekers = Seekers(10)
    submit(seekers, *range(100), needs=LARGE)
    assert len(seekers) == 8
    assert submit(seekers, 100, needs=SMALL) == [name(100)]
    assert submit(seekers, 101, needs=LARGE, priority=1) == [name(101)]
    assert submit(seekers, 102, needs=LARGE) == []


def test_what_is_online_comes_first_then_priority_then_age() -> None:
    seekers = Seekers(1)
    submit(seekers, 0)
    order = [(1, BATCH, 9), (2, SMALL, 0), (3, SMALL, 1), (4, LARGE, 0), (5, BATCH, 0)]
    for number, needs, priority in order:
        submit(seekers, number, needs=needs, priority=priority)
    assert list(seekers.waiting()) == [name(number) for number in (3, 2, 4, 1, 5)]

    assert place(seekers, 0) == (name(3),)
    assert place(seekers, 3, needs=SMALL, priority=1) == (name(2),)


def test_a_request_whose_slots_come_back_is_next() -> None:
    seekers = Seekers(1)
    submit(seekers, 0)
    place(seekers, 0)
    submit(seekers, 1, 2)
    assert seekers.note(name(0), submitted(0)) == ()
    assert list(seekers.waiting()) == [name(0), name(2)]


def test_after_a_restart_those_seek_that_did_before_it_and_no_others() -> None:
    before = [change(submitted(number), search=SearchPhase.WAITING, round=0) for number in range(3)]
    requests = [*before, *(submitted(number) for number in range(3, 6))]
    seekers = Seekers(3)
    for number, request in enumerate(requests):
        seekers.resume(name(number), request)
    assert [id_ for number, request in enumerate(requests) for id_ in seekers.note(name(number), request)] == []
    assert len(seekers) == 3
    assert list(seekers.waiting()) == [name(3), name(4), name(5)]


@given(
    st.integers(1, 8),
    st.lists(
        st.tuples(st.sampled_from(("submit", "place", "end")), st.integers(0, 12), st.integers(0, 2)), max_size=60
    ),
)
def test_whatever_happens_there_are_never_more_and_nobody_waits_while_there_is_room(
    most: int, steps: list[tuple[str, int, int]]
) -> None:
    seekers, kinds = Seekers(most), dict[int, int]()
    for step, number, kind in steps:
        kinds.setdefault(number, kind)
        changed = {"priority": kinds[number]}
        match step:
            case "submit":
                submit(seekers, number, **changed)
            case "place":
                place(seekers, number, **changed)
            case _:
                seekers.forget(name(number))
        assert len(seekers) <= most
        waiting = seekers.waiting()
        for priority in {kinds[n] for n in kinds if name(n) in waiting}:
            alike = [n for n in kinds if kinds[n] == priority and name(n) not in waiting]
            assert len(seekers) == most or len(alike) >= SHARE * (most - len(seekers))
        for one, other in pairwise(waiting):
            assert seekers.ahead(one) == waiting[other] - 1


# ---------------------------------------------------------------------------------------------- the request that waits


def waiting_for_its_turn(**changed: Any) -> Requester:
    requester = Requester(**changed)
    requester.submit()
    requester.tell(TurnPending(0, 412))
    return requester


def test_it_says_how_many_are_before_it_once() -> None:
    requester = waiting_for_its_turn()
    assert requester.noted(TurnAwaited) == [TurnAwaited(0, 412)]
    assert requester.state.why == turn_in_words(412) == "waits for its turn: 412 of this node's jobs are before it"

    requester.tell(TurnPending(0, 412))
    assert requester.noted(TurnAwaited) == []


def test_it_can_be_cancelled() -> None:
    requester = waiting_for_its_turn()
    requester.tell(CancelAsked())
    assert requester.reason is EndReason.CANCELLED
    assert requester.wanted(Conclude)


def test_its_deadline_holds() -> None:
    requester = Requester(deadline_at=1_000_000 + 30 * SECOND)
    requester.submit()
    requester.tell(TurnPending(0, 3))
    requester.wait(30 * SECOND)
    assert requester.reason is EndReason.DEADLINE


def test_it_is_waited_for_longer_than_capacity_would_be() -> None:
    requester = waiting_for_its_turn(queue_ms=SECOND)
    requester.wait(60 * SECOND)
    assert requester.reason is None
    requester.asks("a")
    requester.hold("a")
    assert requester.winner == "a"


def test_that_a_round_waits_which_went_out_changes_nothing() -> None:
    requester = waiting_for_its_turn().asks("a")
    before = requester.state
    requester.tell(TurnPending(0, 1))
    assert requester.state is before
