"""Decide, write down, act: in that order, and none of it when it cannot be written down."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest

from dms_actors.draft import write
from dms_actors.events import to_row
from dms_actors.ports import NewEvent, StoredEvent
from dms_actors.shell import Machine, Shell, Turn
from dms_proto.errors import MachineError
from dms_proto.ids import PeerId
from dms_proto.machine import Decision, Effect, Event, Stimulus, TimeCame
from dms_proto.market.offer_state import PolicyChanged, WorkPaused, WorkResumed
from dms_proto.market.preferences import ProviderPolicy
from dms_proto.membership.machine import LookedAround, PeerLeft


class Count(msgspec.Struct, frozen=True):
    """A machine's state: how many events it has met, and the last."""

    events: int = 0
    last: Event | None = None


class Heard(Stimulus, frozen=True):
    """Leads to these events and effects."""

    events: tuple[Event, ...]
    effects: tuple[Effect, ...] = ()


class Do(Effect, frozen=True):
    """Something to be done."""

    name: str


def decide(_state: Count, stimulus: Stimulus, _now: int) -> Decision:
    assert isinstance(stimulus, Heard)
    return Decision(stimulus.events, stimulus.effects)


MACHINE: Machine[Count] = Machine(
    decide, lambda state, event: Count(state.events + 1, event), lambda state: state.events or None, lambda _state: ()
)
RELAXED = PeerLeft(PeerId("p"), "silent", 1)


class Journal:
    """Notes what it is asked; raises `fault` when there is one."""

    def __init__(self) -> None:
        self.story: list[str] = []
        self.fault: MachineError | None = None

    def append(self, events: Sequence[NewEvent]) -> None:
        self._note("append", events)

    def append_soon(self, events: Sequence[NewEvent]) -> None:
        self._note("soon", events)

    def read_stream(self, stream: str, *, since: str = "") -> Sequence[StoredEvent]:
        raise NotImplementedError

    def _note(self, how: str, events: Sequence[NewEvent]) -> None:
        if self.fault is not None:
            raise self.fault
        self.story.append(f"{how} {' '.join(row.kind for row in events)}")

    def perform(self, shell: Shell[Count], effect: Effect, cause_id: str) -> None:
        assert isinstance(effect, Do)
        self.story.append(f"do {effect.name} because {cause_id}")


def promise() -> Event:
    """An event on which somebody relies."""
    return PolicyChanged(ProviderPolicy())


def commit(turn: Turn, journal: Journal) -> None:
    """Writes a turn, and then does what it led to; or nothing of it."""
    try:
        write(journal, turn.rows)
    except MachineError:
        turn.undo()
        raise
    turn.perform(journal.perform)


@pytest.fixture
def journal() -> Journal:
    return Journal()


@pytest.fixture
def shell() -> Shell[Count]:
    return Shell(MACHINE, "stream", Count())


def test_events_are_written_before_effects_are_performed(journal: Journal, shell: Shell[Count]) -> None:
    turn = Turn()
    turn.apply(shell, Heard((promise(),), (Do("a"),)), 0, "one")
    turn.apply(shell, Heard((WorkResumed(),), (Do("b"),)), 0, "two")
    assert journal.story == []
    commit(turn, journal)
    assert journal.story == ["append PolicyChanged WorkResumed", "do a because one", "do b because two"]


def test_a_turn_without_a_promise_is_queued_and_not_waited_for(journal: Journal, shell: Shell[Count]) -> None:
    turn = Turn()
    turn.apply(shell, Heard((RELAXED,), (Do("a"),)), 0, "one")
    commit(turn, journal)
    assert journal.story == ["soon PeerLeft", "do a because one"]


def test_a_turn_without_events_writes_nothing(journal: Journal, shell: Shell[Count]) -> None:
    turn = Turn()
    turn.apply(shell, Heard((), (Do("a"),)), 0, "one")
    turn.want(shell, (Do("b"),), "restart")
    commit(turn, journal)
    assert journal.story == ["do a because one", "do b because restart"]


def test_transient_events_move_the_state_and_are_not_written(journal: Journal, shell: Shell[Count]) -> None:
    turn = Turn()
    turn.apply(shell, Heard((LookedAround(5), RELAXED)), 0, "one")
    commit(turn, journal)
    assert shell.state.events == 2
    assert journal.story == ["soon PeerLeft"]


def test_the_state_moves_on_at_once_so_that_the_next_stimulus_meets_it(shell: Shell[Count]) -> None:
    turn = Turn()
    turn.apply(shell, Heard((WorkPaused("busy"),)), 0, "one")
    assert shell.state == Count(1, WorkPaused("busy"))


@pytest.mark.parametrize("event", [promise(), RELAXED], ids=["promise", "relaxed"])
def test_what_cannot_be_written_down_has_not_happened(journal: Journal, shell: Shell[Count], event: Event) -> None:
    other = Shell(MACHINE, "other", Count(7))
    journal.fault = MachineError("disk_full", "no room")
    turn = Turn()
    turn.apply(shell, Heard((event,), (Do("a"),)), 0, "one")
    turn.apply(shell, Heard((WorkResumed(),), (Do("b"),)), 0, "two")
    turn.apply(other, Heard((WorkResumed(),)), 0, "three")
    with pytest.raises(MachineError):
        commit(turn, journal)
    assert shell.state == Count()
    assert other.state == Count(7)
    assert journal.story == []


def test_of_effects_of_a_sort_the_last_can_be_kept_in_its_place(journal: Journal, shell: Shell[Count]) -> None:
    turn = Turn()
    turn.apply(shell, Heard((promise(),), (Do("tell 1"), Do("other"), Do("tell 2"), Do("end"))), 5, "cause")
    turn.keep_last(lambda effect: isinstance(effect, Do) and effect.name.startswith("tell"))
    commit(turn, journal)
    assert journal.story[1:] == [f"do {name} because cause" for name in ("other", "tell 2", "end")]


def test_a_recorded_event_is_written_in_its_own_stream(journal: Journal) -> None:
    turn = Turn()
    turn.record("elsewhere", promise(), "supervision")
    commit(turn, journal)
    assert journal.story == ["append PolicyChanged"]


def test_the_state_is_the_fold_of_what_was_written(shell: Shell[Count]) -> None:
    events = (WorkPaused("busy"), WorkResumed())
    rows = [to_row("stream", event, "c") for event in events]
    stored = [StoredEvent(i, r.stream, i, r.kind, 0, r.cause_id, r.body) for i, r in enumerate(rows, 1)]
    assert shell.replay(stored) == 2
    assert shell.state == Count(2, WorkResumed())
    assert shell.deadline() == 2


def test_time_is_a_stimulus_like_others() -> None:
    seen: list[Stimulus] = []

    def note(state: Count, stimulus: Stimulus, _now: int) -> Decision:
        seen.append(stimulus)
        return Decision()

    shell = Shell(MACHINE._replace(decide=note), "stream", Count())
    Turn().apply(shell, TimeCame(), 5, "time")
    assert seen == [TimeCame()]


def test_what_is_remembered_beside_the_states_changes_once_it_is_written_and_not_before() -> None:
    turn, seen = Turn(), list[str]()
    turn.once_written(lambda: seen.append("written"))
    turn.once_undone(lambda: seen.append("undone"))
    assert seen == []
    turn.perform(lambda _shell, _effect, _cause: None)
    assert seen == ["written"]


def test_of_a_turn_that_was_not_written_nothing_is_remembered() -> None:
    turn, seen = Turn(), list[str]()
    turn.once_written(lambda: seen.append("written"))
    turn.once_undone(lambda: seen.append("undone"))
    turn.undo()
    assert seen == ["undone"]


def test_when_time_changes_something_is_worked_out_once_for_each_state() -> None:
    asked: list[int] = []

    def next_deadline(state: Count) -> int:
        asked.append(state.events)
        return state.events

    shell = Shell(MACHINE._replace(next_deadline=next_deadline), "stream", Count())
    assert (shell.deadline(), shell.deadline()) == (0, 0)
    Turn().apply(shell, Heard((RELAXED,)), 1, "cause")
    assert (shell.deadline(), shell.deadline()) == (1, 1)
    assert asked == [0, 1]
