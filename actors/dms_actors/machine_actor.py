"""What all our actors share: a batch is applied to machines as one turn, drafted, and tried again if it could not be written.

::

    a message ──handle──▶ its part of the turn
                  └─raises──▶ that part is taken back, the message left out, its sender blamed (docs/decisions/0045); the batch goes on
    the turn ──written──▶ effects, each by itself: one that raises is left undone, as if the process had died before it
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Final

from dms_actors.behaviour import Address
from dms_actors.draft import Draft, Journal
from dms_actors.letters import TellAgain, Told
from dms_actors.mishaps import Mishap, Mishaps
from dms_actors.ports import NewEvent
from dms_actors.shell import Shell, Turn
from dms_proto.errors import InternalError, MachineError
from dms_proto.ids import PeerId
from dms_proto.machine import Effect, TimeCame, earliest

log = logging.getLogger(__name__)

RETRY_MS: Final = 1_000
"""Pause before what could not be written down is tried again."""
MESSAGES_KEPT: Final = 1_000
"""Messages kept for the retry; with a full disk the oldest go, and their senders repeat them."""
MOST_SAID: Final = 300
"""Characters that are told of an error; the log has the rest."""
OWN_FAULTS: Final = (OSError, MemoryError)
"""What a full disk or memory raises, whoever's message meets it."""
MOST_IN_A_ROW: Final = 64
"""Messages left out one after the other. After more it is not they that are wrong: the actor is built anew."""

TIME: Final = "time"
"""Cause of what a passed deadline leads to."""


class MachineActor(ABC):
    """A behaviour around one or more machine shells. Lives on its crew's thread."""

    def __init__(self, journal: Journal, shells: Sequence[Shell[Any]], mishaps: Mishaps | None = None) -> None:
        self.journal = journal
        self.shells = tuple(shells)
        self.me: Address | None = None
        self._mishaps = Mishaps() if mishaps is None else mishaps
        self._left_out = 0
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

    def speaker(self, message: object) -> PeerId | None:
        """The node whose message it is, as far as that is known before it is handled."""
        return message.by if isinstance(message, Told) else None

    def blame(self, peer: PeerId, now: int) -> None:  # noqa: B027 - not every actor hears peers
        """A peer has sent what cannot be handled."""

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
        turn = Turn(now)
        if not self._has_begun:
            self.begin(turn, now)
        retried, self._unwritten = self._unwritten, ()
        for message in retried:
            self._hear(turn, message)
        answers = [self._hear(turn, message) for message in batch]
        turn.speaker = None
        for shell in self.shells:
            due = shell.deadline()
            if due is not None and due <= now:
                self.time_came(turn, shell, now)
        draft = _TurnDraft(self, turn, batch, answers)
        return draft if turn.rows else draft.written()

    def _hear(self, turn: Turn, message: object) -> object:
        """Handles a message; one that cannot be handled has changed nothing, and whoever waits for the answer is told."""
        mark, turn.speaker, now = turn.mark(self.shells), self.speaker(message), turn.now
        try:
            answer = self.handle(turn, message, now)
        except MachineError as error:  # nobody's fault, and perhaps over soon
            turn.back_to(mark)
            log.error("%s is not handled now: %s", type(message).__name__, error)
            if self.is_kept(message):
                self._unwritten = (*self._unwritten, message)[-MESSAGES_KEPT:]
                self._retry_at = now + RETRY_MS
            return error
        except Exception as error:  # one message must not end what others rely on
            turn.back_to(mark)
            self._left_out += 1
            if self._left_out > MOST_IN_A_ROW:
                raise
            about = message.stimulus if isinstance(message, Told) else message
            self._spoiled(about, turn.speaker, error, now)
            return InternalError("internal", f"{self._name} could not handle it; the node's log says why")
        self._left_out = 0
        turn.messages.append(message)
        return answer

    def _spoiled(self, about: object, speaker: PeerId | None, error: Exception, now: int) -> None:
        said = f"{type(error).__name__}: {error}"[:MOST_SAID]
        self._mishaps.note(Mishap(self._name, type(about).__name__, said, speaker, now), error)
        if speaker is not None and not isinstance(error, OWN_FAULTS):
            self.blame(speaker, now)

    @property
    def _name(self) -> str:
        return self.me.name if self.me is not None else type(self).__name__

    def turn_written(self, turn: Turn) -> None:
        """What a turn led to is in the log: it is done. An effect that cannot be done is left undone until the next start, if it matters then."""
        turn.perform(self.perform, lambda effect, speaker, error: self._spoiled(effect, speaker, error, turn.now))
        self._has_begun, self._retry_at = True, self._retry_at if self._unwritten else None

    def turn_refused(self, turn: Turn) -> None:
        """Nothing of a turn has happened; what nobody would say again is tried again."""
        turn.undo()
        kept = (message for message in turn.messages if self.is_kept(message))
        self._unwritten = (*kept, *self._unwritten)[-MESSAGES_KEPT:]
        self._retry_at = turn.now + RETRY_MS

    def deadline(self) -> int | None:
        """The earliest deadline of the machines; after a failed write not before the retry."""
        due = earliest(*(shell.deadline() for shell in self.shells))
        return due if self._retry_at is None else self._retry_at

    def stop(self) -> None:  # noqa: B027 - an actor has nothing to let go of: not abstract, and empty
        """Nothing to let go of: everything is in the log."""


class _TurnDraft:
    """A turn on its way into the log. Implements `draft.Draft`."""

    def __init__(self, actor: MachineActor, turn: Turn, batch: Sequence[object], answers: Sequence[object]) -> None:
        self.journal = actor.journal
        self.rows: Sequence[NewEvent] = turn.rows
        self._actor = actor
        self._turn = turn
        self._batch = batch
        self._answers = answers

    def written(self) -> Sequence[object]:
        """See `Draft.written`."""
        self._actor.turn_written(self._turn)
        return self._answers

    def refused(self, error: Exception) -> Sequence[object]:
        """See `Draft.refused`. Any other error than a `MachineError` is a defect: it is raised, and the actor has failed."""
        if not isinstance(error, MachineError):
            raise error
        log.error("nothing was promised: %s", error)
        self._actor.turn_refused(self._turn)
        alone = self._actor.stands_alone
        return [answer if alone(message) else error for message, answer in zip(self._batch, self._answers, strict=True)]
