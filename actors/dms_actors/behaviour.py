"""What an actor does, apart from where it runs.

A `Behaviour` takes batches of messages and answers them. All behaviours of a node run on one thread (`runtime.ThreadRuntime`, on pykka) or,
in tests, on the test's own in an order drawn from a seed (`testing.seeded.SeededRuntime`). It never waits for another actor. It may wait for
the event store, which never waits for it: to read its stream when it starts; what it wants written it hands over as a draft.

Messages go down by `Address.tell` and `Address.ask`; what children have to say goes up by `tell`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from dms_actors.draft import Draft


class Address(Protocol):
    """Where an actor can be written to. Immutable, usable from every thread."""

    name: str

    def tell(self, message: object) -> bool:
        """Puts a message into its mailbox. False: refused, the mailbox is full or the actor has ended."""
        ...

    def ask(self, message: object, timeout: float) -> Any:
        """Puts a message and waits for the answer. Only for callers that are no actors.

        Raises:
            MachineError: what the behaviour raised for it.
            InternalError: no answer within `timeout` seconds, or the actor has ended.
        """
        ...

    def pass_on(self, message: object, answer: Callable[[object], object]) -> None:
        """Puts a message; `answer` is called with what is answered to it, or with the error to raise at whoever asked."""
        ...

    def stop(self) -> None:
        """Ends it after what is in its mailbox already. Returns at once."""
        ...


class Forward(NamedTuple):
    """An answer: whoever asked is answered by another actor, which is asked this."""

    address: Address
    message: object


class Behaviour(Protocol):
    """What an actor does."""

    def start(self, me: Address, *, is_new: bool) -> None:
        """Called once before the first batch: rebuilds the state from the log. `is_new`: there is nothing of it in the log."""
        ...

    def receive(self, batch: Sequence[object], now: int) -> Sequence[object] | Draft:
        """Handles messages and gives one answer for each (None for those nobody waits on), or the draft that is to be written first.

        An `Exception` as answer is raised at the asker. Called with an empty batch after the start and when the deadline has come.
        """
        ...

    def deadline(self) -> int | None:
        """When `receive` is to be called with an empty batch (Unix ms)."""
        ...

    def stop(self) -> None:
        """Called once, last."""
        ...


class Runtime(Protocol):
    """Where actors run."""

    def clock(self) -> int:
        """Unix ms."""
        ...

    def spawn(
        self,
        name: str,
        build: Callable[[], Behaviour],
        failed: Callable[[str], object] | None = None,
        *,
        is_new: bool = False,
    ) -> Address:
        """Starts an actor.

        Args:
            name: for people.
            build: makes its behaviour; called again after a failure.
            failed: called with the name when the restart policy gives it up.
            is_new: nothing of it is in the log yet.
        """
        ...
