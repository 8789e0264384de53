"""One message at a time: what cannot be handled is left out of the turn, what cannot be done is left undone, and the rest goes on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from dms_actors.letters import Told
from dms_actors.machine_actor import MOST_IN_A_ROW, RETRY_MS, MachineActor
from dms_actors.mishaps import Mishaps
from dms_actors.ports import NewEvent, StoredEvent
from dms_actors.shell import Machine, Shell, Turn
from dms_proto.errors import InternalError, MachineError
from dms_proto.ids import PeerId
from dms_proto.machine import Decision, Effect, Event, Stimulus
from dms_proto.membership.machine import PeerLeft

NOW = 1_000
SOMEBODY = PeerId("somebody")


class Said(Stimulus, frozen=True):
    """Leads to an event; `then` is done once it is written."""

    name: str
    then: str = ""


class Do(Effect, frozen=True):
    """Something to be done; "break" cannot be."""

    what: str


def decide(_state: tuple[str, ...], stimulus: Said, _now: int) -> Decision:
    return Decision((PeerLeft(PeerId(stimulus.name), "said", NOW),), (Do(stimulus.then or stimulus.name),))


def evolve(state: tuple[str, ...], event: Event) -> tuple[str, ...]:
    assert isinstance(event, PeerLeft)
    return (*state, event.peer)


MACHINE: Machine[Any] = Machine(decide, evolve, lambda _state: None, lambda _state: ())  # type: ignore[arg-type]


class NoJournal:
    """Written elsewhere."""

    def append(self, events: Sequence[NewEvent]) -> None:
        raise NotImplementedError

    append_soon = append

    def read_stream(self, stream: str, *, since: str = "") -> Sequence[StoredEvent]:
        raise NotImplementedError


class Actor(MachineActor):
    """Decides first and fails after, as one does that has more to do than its machine.

    Attributes:
        done: what was.
        blamed: for what could not be.
        fault: raised for whoever is named "wait".
    """

    def __init__(self) -> None:
        self.shell = Shell(MACHINE, "stream", ())
        self.mishaps = Mishaps()
        super().__init__(NoJournal(), (self.shell,), self.mishaps)
        self.done: list[str] = []
        self.blamed: list[PeerId] = []
        self.fault: Exception | None = None

    def handle(self, turn: Turn, message: object, now: int) -> object:
        assert isinstance(message, Told)
        assert isinstance(message.stimulus, Said)
        name = message.stimulus.name
        turn.once_written(lambda: self.done.append(f"note {name}"))
        turn.apply(self.shell, message.stimulus, now, "")
        if name == "break":
            raise ValueError("it does")
        if name == "wait" and self.fault is not None:
            raise self.fault
        return name

    def perform(self, shell: Shell[Any], effect: Effect, cause_id: str) -> None:
        assert isinstance(effect, Do)
        if effect.what == "break":
            raise ValueError("it does")
        self.done.append(effect.what)

    def blame(self, peer: PeerId, now: int) -> None:
        self.blamed.append(peer)


def told(*names: str, then: str = "") -> list[Told]:
    return [Told(Said(name, then), by=SOMEBODY) for name in names]


@pytest.fixture
def actor() -> Actor:
    return Actor()


def test_of_a_message_that_breaks_nothing_stays_and_the_batch_goes_on(actor: Actor) -> None:
    draft: Any = actor.receive(told("a", "break", "b"), NOW)
    assert actor.shell.state == ("a", "b")
    assert len(draft.rows) == 2
    first, broken, last = draft.written()
    assert (first, last) == ("a", "b")
    assert isinstance(broken, InternalError)
    assert actor.done == ["note a", "note b", "a", "b"]
    assert actor.blamed == [SOMEBODY]


def test_it_is_not_among_what_is_tried_again_when_the_disk_was_full(actor: Actor) -> None:
    draft: Any = actor.receive(told("a", "break"), NOW)
    draft.refused(MachineError("disk_full", "no room"))
    again: Any = actor.receive([], NOW + RETRY_MS)
    again.written()
    assert (actor.shell.state, actor.mishaps.count) == (("a",), 1)


def test_an_effect_that_cannot_be_done_keeps_no_other_from_it(actor: Actor) -> None:
    draft: Any = actor.receive([*told("a", then="break"), *told("b")], NOW)
    draft.written()
    assert actor.shell.state == ("a", "b")
    assert actor.done == ["note a", "note b", "b"]
    assert actor.blamed == [SOMEBODY]
    assert actor.mishaps.last is not None
    assert (actor.mishaps.last.about, actor.mishaps.last.error) == ("Do", "ValueError: it does")


def test_what_the_machine_s_own_fault_kept_from_being_handled_is_nobody_s_and_comes_again(actor: Actor) -> None:
    actor.fault = MachineError("store_failed", "it does not answer")
    draft: Any = actor.receive(told("wait", "a"), NOW)
    assert draft.written()[0] is actor.fault
    assert (actor.shell.state, actor.blamed, actor.mishaps.count) == (("a",), [], 0)
    assert actor.deadline() == NOW + RETRY_MS

    actor.fault = None
    again: Any = actor.receive([], NOW + RETRY_MS)
    again.written()
    assert actor.shell.state == ("a", "wait")
    assert actor.deadline() is None


@pytest.mark.parametrize("fault", [OSError(28, "No space left on device"), MemoryError()])
def test_whoever_meets_a_full_disk_or_memory_is_not_blamed_for_it(actor: Actor, fault: Exception) -> None:
    actor.fault = fault
    draft: Any = actor.receive(told("wait", "a"), NOW)
    assert isinstance(draft.written()[0], InternalError)
    assert (actor.shell.state, actor.blamed, actor.mishaps.count) == (("a",), [], 1)


def test_when_nothing_can_be_handled_any_more_it_is_the_actor_that_is_wrong(actor: Actor) -> None:
    actor.receive(told(*["break"] * MOST_IN_A_ROW), NOW)
    actor.receive(told("a", "break"), NOW)
    with pytest.raises(ValueError, match="it does"):
        actor.receive(told(*["break"] * (MOST_IN_A_ROW + 1)), NOW)
