"""The thin shell around machines: decide, write down, act — in that order, for a whole batch at once.

A behaviour holds one or more `Shell`s, each the live state of one machine over one stream. For each stimulus the machine decides and the
state moves on; events and effects pile up in a `Turn`. At the end of the batch all events are written in one append, together with those of
other actors of the crew; then the effects are performed. If the append fails nothing was promised: the states go back to where they were.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from dms_actors.events import from_row, is_stored, to_row
from dms_actors.ports import NewEvent, StoredEvent
from dms_proto.accounts.book import Book
from dms_proto.accounts.machine import ACCOUNTS_STREAM, Posted
from dms_proto.ids import PeerId
from dms_proto.machine import Decision, Effect, Event, Stimulus

S = TypeVar("S")


class Machine(NamedTuple, Generic[S]):
    """The functions of one machine."""

    decide: Callable[[S, Stimulus, int], Decision]
    evolve: Callable[[S, Event], S]
    next_deadline: Callable[[S], int | None]
    resume: Callable[[S], tuple[Effect, ...]]


class Shell(Generic[S]):
    """The live state of one machine over one stream."""

    def __init__(self, machine: Machine[S], stream: str, state: S) -> None:
        self.machine = machine
        self.stream = stream
        self.state = state
        self._due: tuple[S | None, int | None] = None, None

    def replay(self, rows: Sequence[StoredEvent]) -> int:
        """Folds what was written down; returns how many events there were."""
        for row in rows:
            self.state = self.machine.evolve(self.state, from_row(row))
        return len(rows)

    def deadline(self) -> int | None:
        """When time alone changes something (Unix ms). Asked before and after each batch, which most often leaves the state as it was."""
        if self._due[0] is not self.state:
            self._due = self.state, self.machine.next_deadline(self.state)
        return self._due[1]


class Mark(NamedTuple):
    """A turn before one message of it."""

    states: tuple[tuple[Shell[Any], Any], ...]
    rows: int
    effects: int
    once_written: int
    once_undone: int


class _Wanted(NamedTuple):
    shell: Shell[Any]
    effect: Effect
    cause_id: str
    speaker: PeerId | None


def _raised(_effect: Effect, _speaker: PeerId | None, error: Exception) -> None:
    raise error


class Turn:
    """What one batch leads to.

    Attributes:
        rows: to be written down before the effects are performed.
        messages: what was handled in it.
        speaker: the node whose message is being handled; None: nobody's.
        now: Unix ms.
    """

    def __init__(self, now: int = 0) -> None:
        self.now = now
        self._before: dict[int, tuple[Shell[Any], Any]] = {}
        self.rows: list[NewEvent] = []
        self.messages: list[object] = []
        self.speaker: PeerId | None = None
        self._effects: list[_Wanted] = []
        self._once_written: list[Callable[[], object]] = []
        self._once_undone: list[Callable[[], object]] = []

    def apply(self, shell: Shell[S], stimulus: Stimulus, now: int, cause_id: str) -> Decision:
        """Lets a machine decide; its state moves on at once, everything else waits. What it books is written with its events."""
        decision = shell.machine.decide(shell.state, stimulus, now)
        if decision.events:
            self._before.setdefault(id(shell), (shell, shell.state))
        for event in decision.events:
            shell.state = shell.machine.evolve(shell.state, event)
            if is_stored(event):
                self.rows.append(to_row(shell.stream, event, cause_id))
        self.rows += [
            to_row(ACCOUNTS_STREAM, Posted(effect.entry), cause_id)
            for effect in decision.effects
            if isinstance(effect, Book)
        ]
        self.want(shell, decision.effects, cause_id)
        return decision

    def record(self, stream: str, event: Event, cause_id: str) -> None:
        """Adds an event of a stream whose actor is gone."""
        self.rows.append(to_row(stream, event, cause_id))

    def want(self, shell: Shell[Any], effects: Sequence[Effect], cause_id: str) -> None:
        """Adds effects; by themselves those that follow from the state, not from a stimulus (after a restart)."""
        self._effects.extend(_Wanted(shell, effect, cause_id, self.speaker) for effect in effects)

    def once_written(self, change: Callable[[], object]) -> None:
        """Adds a change of what is remembered beside the states; made before the effects, and not at all if nothing was written."""
        self._once_written.append(change)

    def once_undone(self, revert: Callable[[], object]) -> None:
        """Adds what takes such a change back, where it has to show already in the rest of the turn."""
        self._once_undone.append(revert)

    def keep_last(self, is_one: Callable[[Effect], bool]) -> None:
        """Of the effects of a sort wants only the last: it makes the ones before it needless."""
        ours = [wanted for wanted in self._effects if is_one(wanted.effect)]
        if len(ours) > 1:
            self._effects = [wanted for wanted in self._effects if wanted is ours[-1] or not is_one(wanted.effect)]

    def mark(self, shells: Sequence[Shell[Any]]) -> Mark:
        """Where the turn is now, and the states of `shells` with it."""
        states = tuple((shell, shell.state) for shell in shells)
        return Mark(states, len(self.rows), len(self._effects), len(self._once_written), len(self._once_undone))

    def back_to(self, mark: Mark) -> None:
        """Takes back all that came since; what came before stays. Nothing of it is written or done yet."""
        for revert in reversed(self._once_undone[mark.once_undone :]):
            revert()
        for shell, state in mark.states:
            shell.state = state
        del self.rows[mark.rows :], self._effects[mark.effects :]
        del self._once_written[mark.once_written :], self._once_undone[mark.once_undone :]

    def undo(self) -> None:
        """Nothing was written: the states are again as before the batch."""
        for revert in self._once_undone:
            revert()
        for shell, state in self._before.values():
            shell.state = state

    def perform(
        self,
        perform: Callable[[Shell[Any], Effect, str], None],
        failed: Callable[[Effect, PeerId | None, Exception], object] = _raised,
    ) -> None:
        """Everything is written: performs the effects, in order. `failed` is told of each that raises, and from whose message it follows."""
        for change in self._once_written:
            change()
        for shell, effect, cause_id, speaker in self._effects:
            try:
                perform(shell, effect, cause_id)
            except Exception as error:  # noqa: BLE001 - the others are promised as well
                failed(effect, speaker, error)
