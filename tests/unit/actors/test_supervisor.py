"""When a behaviour that failed is built anew, and when it is given up."""

from __future__ import annotations

from dms_actors.supervisor import FailureRecord, RestartPolicy

POLICY = RestartPolicy(restarts=2, window_ms=1_000)


def failing_at(*times: int) -> FailureRecord:
    record = FailureRecord(POLICY)
    for at in times:
        record = record.failed(at)
    return record


def test_an_actor_is_restarted_as_often_as_the_policy_says() -> None:
    assert [failing_at(*range(count)).should_restart for count in range(5)] == [True, True, True, False, False]


def test_failures_that_lie_further_back_than_the_window_are_forgotten() -> None:
    assert failing_at(0, 1, 2_000).should_restart
    assert failing_at(0, 1, 2_000).failures == (2_000,)


def test_failures_within_the_window_count() -> None:
    assert not failing_at(0, 1, 999).should_restart


def test_a_clock_that_steps_back_does_not_forget_failures() -> None:
    assert not failing_at(5_000, 4_999, 3).should_restart
