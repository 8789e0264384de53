"""When a command says what its job waits for."""

from __future__ import annotations

from dms.cli.patience import AGAIN_S, Patience
from dms.cli.progress import QUIET_S


def test_what_keeps_changing_is_said_all_the_same_and_not_each_time() -> None:
    patience, said = Patience(), []
    for tenth in range(1200):
        now = tenth / 10
        patience.waits(f"other programs use {tenth} cores", now)
        if text := patience.take(now):
            said.append((now, text))
    assert said[0] == (QUIET_S, f"other programs use {QUIET_S * 10:.0f} cores")
    assert [now for now, _ in said] == [QUIET_S + n * AGAIN_S for n in range(4)]


def test_what_stays_the_same_is_said_once() -> None:
    patience = Patience()
    patience.waits("busy", 0)
    assert patience.take(QUIET_S / 2) == ""
    assert patience.take(QUIET_S) == "busy"
    patience.waits("busy", 100)
    assert (patience.due, patience.take(1000)) == (None, "")


def test_a_wait_that_is_over_at_once_is_not_worth_a_word() -> None:
    patience = Patience()
    patience.waits("busy", 0)
    patience.over()
    assert (patience.due, patience.take(QUIET_S)) == (None, "")


def test_the_next_wait_is_said_like_the_first() -> None:
    patience = Patience()
    patience.waits("busy", 0)
    assert patience.take(QUIET_S) == "busy"
    patience.over()
    patience.waits("busy", 2)
    assert patience.take(2 + QUIET_S) == "busy"


def test_what_changed_back_meanwhile_is_not_said_again() -> None:
    patience = Patience()
    patience.waits("busy", 0)
    assert patience.take(QUIET_S) == "busy"
    patience.waits("silent", 2)
    patience.waits("busy", 3)
    assert patience.take(QUIET_S + AGAIN_S) == ""
    assert patience.due is None
