"""What all our actors share: a batch is applied to machines as one turn, drafted, and tried again if it could not be written."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Final

from dms_actors.behaviour import Address
from dms_actors.draft import Draft, Journal
from dms_actors.letters import TellAgain, Told
from dms_actors.ports import NewEvent
from dms_actors.shell import Shell, Turn
from dms_proto.errors import MachineError
from dms_proto.machine import Effect, TimeCame, earliest

log = logging.getLogger(__name__)

RETRY_MS: Final = 1_000
"""Pause before what could not be written down is tried again."""
MESSAGES_KEPT: Final = 1_000
"""Messages kept for the retry; with a full disk the oldest go, and their senders repeat them."""

TIME: Final = "time"
"""Cause of what a passed deadline leads to."""


class MachineActor(ABC):
    """A behaviour around one or more machine shells. Lives on its crew's thread."""

    def __init__(self, journal: Journal, shells: Sequence[Shell[Any]]) -> None:
        self.journal = journal
        self.shells = tuple(shells)
        self.me: Address | None = None
        self._unwritten: tuple[object, ...] = ()
        self._retry_at: int | None = None
        self._has_begun = False

    # -- for subclasses

    @abstractmethod
    def handle(self, turn: Turn, message: object, now: int) -> object:
        """Applies one message; returns the answer, if somebody waits for one."""

    @abstractmethod
    def perform(self, shell: Shell[Any], effect: Effect, cause_id: str) -> None:
        """Has one effect done. Never blocks, never raises for the world's fault."""

    def is_kept(self, message: object) -> bool:
        """Whether a message is handled again after its batch could not be written: nobody would say it again."""
        return isinstance(message, Told | TellAgain)

    def stands_alone(self, message: object) -> bool:
        """Whether the answer to a message is right although its batch could not be written."""
        del message
        return False

    def time_came(self, turn: Turn, shell: Shell[Any], now: int) -> None:
        """A deadline of one of the machines has passed. What a subclass does beside each decision it does here as well."""
        turn.apply(shell, TimeCame(), now, TIME)

    def begin(self, turn: Turn, now: int) -> None:
        """After the replay: resumes what was under way. Comes again when what it leads to could not be written down."""
        del now
        for shell in self.shells:
            turn.want(shell, shell.machine.resume(shell.state), "restart")

    # -- Behaviour

    def start(self, me: Address, *, is_new: bool) -> None:
        """Rebuilds the state from the log; the first batch resumes."""
        self.me = me
        if not is_new:
            for shell in self.shells:
                shell.replay(self.journal.read_stream(shell.stream))

    def receive(self, batch: Sequence[object], now: int) -> Sequence[object] | Draft:
        """Handles a batch as one turn."""
        turn = Turn()
        if not self._has_begun:
            self.begin(turn, now)
        retried, self._unwritten = self._unwritten, ()
        for message in retried:
            self.handle(turn, message, now)
        answers = [self.handle(turn, message, now) for message in batch]
        for shell in self.shells:
            due = shell.deadline()
            if due is not None and due <= now:
                self.time_came(turn, shell, now)
        draft = _TurnDraft(self, turn, (*retried, *batch), answers, now)
        return draft if turn.rows else draft.written()

    def turn_written(self, turn: Turn) -> None:
        """What a turn led to is in the log: it is done."""
        turn.perform(self.perform)
        self._has_begun, self._retry_at = True, None

    def turn_refused(self, turn: Turn, messages: Sequence[object], now: int) -> None:
        """Nothing of a turn has happened; what nobody would say again is tried again."""
        turn.undo()
        self._unwritten = tuple(message for message in messages if self.is_kept(message))[-MESSAGES_KEPT:]
        self._retry_at = now + RETRY_MS

    def deadline(self) -> int | None:
        """The earliest deadline of the machines; after a failed write not before the retry."""
        due = earliest(*(shell.deadline() for shell in self.shells))
        return due if self._retry_at is None else self._retry_at

    def stop(self) -> None:  # noqa: B027 - an actor has nothing to let go of: not abstract, and empty
        """Nothing to let go of: everything is in the log."""


class _TurnDraft:
    """A turn on its way into the log. Implements `draft.Draft`."""

    def __init__(
        self, actor: MachineActor, turn: Turn, messages: Sequence[object], answers: Sequence[object], now: int
    ) -> None:
        self.journal = actor.journal
        self.rows: Sequence[NewEvent] = turn.rows
        self._actor = actor
        self._turn = turn
        self._messages = messages
        self._answers = answers
        self._now = now

    def written(self) -> Sequence[object]:
        """See `Draft.written`."""
        self._actor.turn_written(self._turn)
        return self._answers

    def refused(self, error: Exception) -> Sequence[object]:
        """See `Draft.refused`. Any other error than a `MachineError` is a defect: it is raised, and the actor has failed."""
        if not isinstance(error, MachineError):
            raise error
        log.error("nothing was promised: %s", error)
        self._actor.turn_refused(self._turn, self._messages, self._now)
        batch = self._messages[len(self._messages) - len(self._answers) :]
        alone = self._actor.stands_alone
        return [answer if alone(message) else error for message, answer in zip(batch, self._answers, strict=True)]
