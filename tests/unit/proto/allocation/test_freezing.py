"""An allocation gives way: frozen, thawed, evicted, at its provider."""

import pytest

from dms_proto.allocation.effects import StopRun
from dms_proto.allocation.freezing import (
    MOST_FROZEN_MS,
    AllocationFrozen,
    AllocationThawed,
    FreezeFailed,
    FreezeRun,
    FreezeWished,
    Prior,
    ThawRun,
    ThawWished,
)
from dms_proto.allocation.state import LifePhase
from dms_proto.allocation.stimuli import (
    CancelHeard,
    InputsArrived,
    Invoked,
    NodeRestarted,
    OutputsStored,
    RunExited,
    RunStarted,
    RunUsed,
)
from dms_proto.units import MINUTE, SECOND
from dms_proto.work import EndReason, Usage
from tests.unit.proto.allocation.test_allocation import REQUEST, REQUESTER, TASK, Work, ended

BACK = "other programs use 1.5 cores"
FREEZE = FreezeWished(Prior.OWNER, BACK, 10 * MINUTE, 1_000)
ONLINE = FreezeWished(Prior.ONLINE, "a call needs the machine", 5 * MINUTE, 500)


def frozen(*wishes: FreezeWished) -> Work:
    work = Work().to(LifePhase.RUNNING)
    for wish in wishes or (FREEZE,):
        work.tell(wish)
    return work


def test_a_run_is_frozen_and_its_requester_is_told_why_and_for_how_long() -> None:
    work = frozen()
    assert work.wanted(FreezeRun) == [FreezeRun(work.now + 10 * MINUTE)]
    assert (work.status().frozen, work.status().evict_after_ms) == (BACK, 10 * MINUTE)
    assert work.phase is LifePhase.RUNNING


def test_who_gave_way_before_it_started_is_owed_nothing_less_for_it() -> None:
    """Its executor cannot say how long it ran: what it stood still before is no time of the run that could be taken off."""
    work = Work().to(LifePhase.PREPARING)
    work.tell(FREEZE)
    work.wait(5 * MINUTE)
    work.tell(ThawWished(Prior.OWNER))
    work.to(LifePhase.RUNNING)
    work.wait(SECOND)
    work.tell(CancelHeard(REQUESTER, REQUEST))
    work.tell(NodeRestarted(adopted=False))
    assert work.state.ending is not None
    assert work.state.ending.usage.wall_ms >= 0
    assert work.state.price >= 0


def test_it_goes_on_when_the_reason_is_gone() -> None:
    work = frozen()
    work.wait(MINUTE)
    work.tell(ThawWished(Prior.OWNER))
    assert work.wanted(ThawRun) == [ThawRun()]
    assert (work.status().frozen, work.status().evict_after_ms) == ("", 0)
    assert work.state.frozen.before_ms == MINUTE


def test_a_repeated_wish_and_one_to_thaw_what_goes_on_change_nothing() -> None:
    work = frozen()
    work.tell(FREEZE)
    assert (work.events, work.effects) == ((), ())
    work.tell(ThawWished(Prior.OWNER))
    work.tell(ThawWished(Prior.OWNER))
    assert (work.events, work.effects) == ((), ())


def test_what_gives_way_to_two_goes_on_when_both_have_let_go() -> None:
    work = frozen(FREEZE, ONLINE)
    assert work.status().frozen == "other programs use 1.5 cores; a call needs the machine"
    work.tell(ThawWished(Prior.OWNER))
    assert work.wanted(ThawRun) == []
    assert work.status().frozen == "a call needs the machine"
    work.tell(ThawWished(Prior.ONLINE))
    assert work.wanted(ThawRun) == [ThawRun()]


def test_the_first_bound_that_is_over_evicts_with_the_shorter_grace_and_nothing_is_owed() -> None:
    work = frozen(FREEZE, ONLINE)
    work.wait(5 * MINUTE)
    assert work.wanted(StopRun) == [StopRun(500)]
    work.tell(RunExited(ended(EndReason.KILLED_BY_SIGNAL)))
    work.tell(OutputsStored())
    assert (work.reason, work.state.price) == (EndReason.EVICTED, 0)
    assert work.state.ending is not None
    assert work.state.ending.detail == f"it gave way: {BACK}; a call needs the machine"


def test_what_completes_in_its_grace_has_completed() -> None:
    work = frozen()
    work.wait(10 * MINUTE)
    work.tell(RunExited(ended(EndReason.COMPLETED)))
    work.tell(OutputsStored())
    assert work.reason is EndReason.COMPLETED
    assert work.state.price > 0


def test_all_freezes_together_are_bounded() -> None:
    work = frozen(FreezeWished(Prior.OWNER, BACK, MOST_FROZEN_MS - MINUTE, 1_000))
    work.wait(MOST_FROZEN_MS - 2 * MINUTE)
    work.tell(ThawWished(Prior.OWNER))
    work.tell(FREEZE)
    assert work.status().evict_after_ms == 2 * MINUTE


def test_what_has_no_time_left_is_evicted_without_being_frozen() -> None:
    work = frozen(FreezeWished(Prior.OWNER, BACK, 0, 1_000))
    assert (work.wanted(FreezeRun), work.wanted(StopRun)) == ([], [StopRun(1_000)])


def test_what_cannot_be_frozen_is_evicted() -> None:
    work = frozen()
    work.tell(FreezeFailed("no such kernel"))
    assert work.wanted(StopRun) == [StopRun(1_000)]
    assert work.state.stopping_for is EndReason.EVICTED


def test_that_it_could_not_be_frozen_is_old_news_once_it_has_gone_on() -> None:
    work = frozen()
    work.tell(ThawWished(Prior.OWNER))
    work.tell(FreezeFailed("no such kernel"))
    assert (work.events, work.effects) == ((), ())


@pytest.mark.parametrize("phase", [LifePhase.COMMITTED, LifePhase.PREPARING, LifePhase.STARTING])
def test_what_does_not_run_yet_is_told_frozen_and_is_as_soon_as_it_does(phase: LifePhase) -> None:
    work = Work().to(phase)
    work.tell(FREEZE)
    assert work.wanted(FreezeRun) == []
    assert work.status().frozen == BACK
    steps = {
        LifePhase.COMMITTED: Invoked(REQUESTER, REQUEST, TASK),
        LifePhase.PREPARING: InputsArrived(),
        LifePhase.STARTING: RunStarted("handle"),
    }
    for at, step in steps.items():
        if work.phase is at:
            work.tell(step)
    assert work.wanted(FreezeRun) == [FreezeRun(work.now + 10 * MINUTE)]


def test_what_does_not_run_yet_is_evicted_at_once_when_its_time_is_over() -> None:
    work = Work().to(LifePhase.PREPARING)
    work.tell(FREEZE)
    work.wait(10 * MINUTE)
    assert work.reason is EndReason.EVICTED
    assert work.state.ending is not None
    assert work.state.ending.detail == f"it gave way: {BACK}"


def test_a_bill_for_want_of_better_figures_leaves_the_freeze_out() -> None:
    work = Work().to(LifePhase.RUNNING)
    begun = work.now
    work.tell(FREEZE)
    work.wait(MINUTE)
    work.tell(ThawWished(Prior.OWNER))
    work.wait(30 * SECOND)
    work.tell(RunExited(ended(EndReason.COMPLETED, wall_ms=0)))
    work.tell(OutputsStored())
    assert work.state.ending is not None
    assert work.state.ending.usage.wall_ms == work.now - begun - MINUTE


def test_the_status_says_it_with_every_sample() -> None:
    work = frozen()
    work.tell(RunUsed(Usage(wall_ms=5)))
    assert work.status().frozen == BACK


def test_after_a_restart_of_the_node_an_adopted_run_stands_still_or_goes_on_as_it_should() -> None:
    work = frozen()
    work.tell(NodeRestarted(adopted=True))
    assert len(work.wanted(FreezeRun)) == 1
    work.tell(ThawWished(Prior.OWNER))
    work.tell(NodeRestarted(adopted=True))
    assert work.wanted(ThawRun) == [ThawRun()]


@pytest.mark.parametrize("phase", [LifePhase.STARTING, LifePhase.RUNNING])
def test_a_run_that_was_frozen_when_its_node_died_and_forgot_it_goes_on(phase: LifePhase) -> None:
    work = Work().to(phase)
    work.tell(NodeRestarted(adopted=True))
    assert work.wanted(ThawRun) == [ThawRun()]


def test_what_is_being_stopped_does_not_give_way() -> None:
    work = Work().to(LifePhase.STOPPING)
    work.tell(FREEZE)
    assert (work.events, work.effects) == ((), ())


def test_what_is_stopped_for_another_reason_ends_for_that() -> None:
    work = frozen()
    work.tell(CancelHeard(REQUESTER, REQUEST))
    work.tell(RunExited(ended(EndReason.KILLED_BY_SIGNAL)))
    work.tell(OutputsStored())
    assert work.reason is EndReason.CANCELLED


def test_the_state_follows_from_the_log() -> None:
    work = frozen()
    work.wait(MINUTE)
    work.tell(ThawWished(Prior.OWNER))
    work.tell(ONLINE)
    assert {AllocationFrozen, AllocationThawed} <= {type(event) for event in work.log}
    live = work.state
    assert work.restart() == live
