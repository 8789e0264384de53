"""The doorstep: who comes from where peers were muted waits, one after the other; nobody else does."""

from __future__ import annotations

import pytest

from dms.net.doorstep import FOR_EACH_S, LONGEST_S, SOURCES, Doorstep


def test_nobody_waits_where_nobody_is_muted() -> None:
    doorstep = Doorstep()
    doorstep.wait("there", 100, 0.0)
    assert doorstep.wait("here", 0, 0.0) == 0.0
    assert len(doorstep) == 1


def test_the_more_are_muted_the_longer_one_waits_up_to_a_bound() -> None:
    assert Doorstep().wait("here", 2, 7.0) == pytest.approx(2 * FOR_EACH_S)
    assert Doorstep().wait("here", 1_000, 7.0) == LONGEST_S


def test_connections_of_one_source_come_in_one_after_the_other() -> None:
    doorstep = Doorstep()
    waits = [doorstep.wait("here", 100, 0.0) for _ in range(3)]
    assert waits == [LONGEST_S, 2 * LONGEST_S, 3 * LONGEST_S]
    assert doorstep.wait("here", 100, 60.0) == LONGEST_S


def test_sources_are_forgotten_before_they_are_too_many() -> None:
    doorstep = Doorstep()
    for number in range(2 * SOURCES):
        doorstep.wait(str(number), 1, 0.0)
    assert len(doorstep) == SOURCES
