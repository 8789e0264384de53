"""One actor of a crew: its behaviour, its mailbox's letters answered, and what happens when it raises.

::

    work(letters) ──▶ behaviour.receive ──answers──▶ answered
                           │   └──draft──▶ Pending ── written together with those of the others ──▶ finish ──▶ answered
                           └──raises──▶ everybody in the batch is told; built anew from the log (supervisor), or given up

Both runtimes drive the same members, so that supervision is the same on a thread and under a seed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple

from dms_actors.behaviour import Address, Behaviour, Forward
from dms_actors.draft import Draft, write
from dms_actors.mailbox import Letter
from dms_actors.supervisor import FailureRecord
from dms_proto.errors import DmsError, InternalError, MachineError

log = logging.getLogger(__name__)


class Pending(NamedTuple):
    """A member's draft that is not written yet."""

    member: Member
    letters: tuple[Letter, ...]
    draft: Draft


class Member:
    """One actor. Lives on its crew's thread.

    Args:
        me: its address.
        build: makes its behaviour; called again after a failure.
        clock: Unix ms.
        failed: called with the name when it is given up.
        is_new: nothing of it is in the log yet.
        noticed: called with what its behaviour raised.

    Attributes:
        is_over: it has been given up or has ended.
    """

    def __init__(
        self,
        me: Address,
        build: Callable[[], Behaviour],
        clock: Callable[[], int],
        failed: Callable[[str], object] | None,
        *,
        is_new: bool,
        noticed: Callable[[Exception], object],
    ) -> None:
        self.me = me
        self.name = me.name
        self.behaviour: Behaviour | None = None
        self.is_over = False
        self._build = build
        self._clock = clock
        self._failed = failed
        self._is_new = is_new
        self._noticed = noticed
        self._record = FailureRecord()
        self._why: Exception | None = None

    def work(self, letters: tuple[Letter, ...]) -> Pending | None:
        """Begins if it has not, and handles letters. What is pending has to be written; otherwise everybody has been answered."""
        try:
            if self.behaviour is None:
                self._begin()
            assert self.behaviour is not None
            outcome = self.behaviour.receive([letter.message for letter in letters], self._clock())
        except Exception as error:  # noqa: BLE001 - the edge of an actor
            return self._fail(letters, error)
        if isinstance(outcome, Sequence):
            _answer(letters, outcome)
            return None
        return Pending(self, letters, outcome)

    def finish(self, pending: Pending, error: Exception | None) -> Pending | None:
        """What was pending is written, or was refused with `error`. What begins anew because of it is pending again."""
        try:
            draft = pending.draft
            answers = draft.written() if error is None else draft.refused(error)
        except Exception as raised:  # noqa: BLE001 - the edge of an actor
            return self._fail(pending.letters, raised)
        _answer(pending.letters, answers)
        return None

    def deadline(self) -> int | None:
        """When it wakes by itself, Unix ms; at once, to begin anew, when its behaviour cannot say."""
        if self.behaviour is None:
            return None
        try:
            return self.behaviour.deadline()
        except Exception as error:  # noqa: BLE001 - the edge of an actor
            return self._clock() if self._breaks((), error) else None

    def end(self, letters: Sequence[Letter]) -> None:
        """The last thing: whoever still waits is told."""
        self.is_over = True
        _tell_all(letters, self._why if isinstance(self._why, DmsError) else has_ended(self.name))
        if self.behaviour is not None:
            try:
                self.behaviour.stop()
            except Exception as error:  # noqa: BLE001 - the edge of an actor
                self._noticed(error)

    def _begin(self) -> None:
        behaviour = self._build()
        behaviour.start(self.me, is_new=self._is_new)
        self.behaviour, self._is_new = behaviour, False

    def _fail(self, letters: tuple[Letter, ...], error: Exception) -> Pending | None:
        return self.work(()) if self._breaks(letters, error) else None

    def _breaks(self, letters: tuple[Letter, ...], error: Exception) -> bool:
        """Its behaviour has raised: everybody is told. Whether another is to be built; otherwise it is given up."""
        self._noticed(error)
        self._record = self._record.failed(self._clock())
        self.behaviour, self._why, self._is_new = None, error, False
        _tell_all(letters, InternalError("internal", f"{self.name} failed; the log says why"))
        if self._record.should_restart:
            return True
        log.error("actor %s is given up after %d failures", self.name, len(self._record.failures))
        self.is_over = True
        if self._failed is not None:
            self._failed(self.name)
        return False


def commit(pending: Sequence[Pending]) -> None:
    """Writes what is pending, in one transaction, and has it finished; what begins anew meanwhile as well.

    When one of several breaks a rule of the log, each is written by itself, so that the others do not suffer for it.
    """
    while pending:
        error: Exception | None = None
        try:
            write(pending[0].draft.journal, [row for one in pending for row in one.draft.rows])
        except Exception as raised:  # noqa: BLE001 - each draft says what it does about it
            error = raised
        if len(pending) > 1 and error is not None and not isinstance(error, MachineError | InternalError):
            for one in pending:
                commit((one,))
            return
        again = [one.member.finish(one, error) for one in pending]
        pending = [one for one in again if one is not None]


def has_ended(name: str) -> InternalError:
    """The answer to whoever asks an actor that is gone."""
    return InternalError("internal", f"{name} has ended", retryable=True)


def _answer(letters: Sequence[Letter], answers: Sequence[object]) -> None:
    for letter, answer in zip(letters, answers, strict=True):
        if letter.answer is None:
            continue
        if isinstance(answer, Forward):
            answer.address.pass_on(answer.message, letter.answer)
        else:
            letter.answer(answer)


def _tell_all(letters: Sequence[Letter], error: Exception) -> None:
    for letter in letters:
        if letter.answer is not None:
            letter.answer(error)
