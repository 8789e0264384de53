"""One machine, driven by hand: stimuli in, events folded, effects at hand. For tests that tell a story step by step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from dms_proto.ids import PeerId
from dms_proto.machine import Decision, Effect, Event, Send, Stimulus, TimeCame, Transient
from dms_proto.messages import Message

S = TypeVar("S")
K = TypeVar("K")


class Driven(Generic[S]):
    """The live state of one machine, its log, and what it wanted done since the last look."""

    def __init__(
        self,
        decide: Callable[[S, Any, int], Decision],
        evolve: Callable[[S, Event], S],
        next_deadline: Callable[[S], int | None],
        state: S,
        now: int = 1_000_000,
    ) -> None:
        self._decide = decide
        self._evolve = evolve
        self._next_deadline = next_deadline
        self._new = state
        self.state = state
        self.now = now
        self.log: list[Event] = []
        self.effects: tuple[Effect, ...] = ()
        self.all_effects: list[Effect] = []
        self.events: tuple[Event, ...] = ()

    def tell(self, stimulus: Stimulus) -> Decision:
        """Gives a stimulus; `events` and `effects` are those it led to."""
        decision = self._decide(self.state, stimulus, self.now)
        for event in decision.events:
            self.state = self._evolve(self.state, event)
            if not isinstance(event, Transient):
                self.log.append(event)
        self.events, self.effects = decision.events, decision.effects
        self.all_effects += decision.effects
        return decision

    def wait(self, span: int) -> None:
        """Lets time pass, with every deadline met on the way; `events` and `effects` are all of them together."""
        until, events, effects = self.now + span, (), ()  # type: tuple[int, tuple[Event, ...], tuple[Effect, ...]]
        while (due := self._next_deadline(self.state)) is not None and due <= until:
            self.now = max(self.now, due)
            self.tell(TimeCame())
            events, effects = events + self.events, effects + self.effects
        self.now = until
        self.events, self.effects = events, effects

    def restart(self) -> S:
        """The state as it follows from the log; the machine goes on from it."""
        self.state = self._new
        for event in self.log:
            self.state = self._evolve(self.state, event)
        return self.state

    def sent(self, kind: type[K], to: PeerId | None = None) -> list[K]:
        """The messages of a kind among the last effects."""
        return [
            effect.message
            for effect in self.effects
            if isinstance(effect, Send) and isinstance(effect.message, kind) and to in (None, effect.peer)
        ]

    def sent_ever(self, kind: type[K]) -> list[K]:
        """The messages of a kind among all effects."""
        sends = (effect.message for effect in self.all_effects if isinstance(effect, Send))
        return [message for message in sends if isinstance(message, kind)]

    def sent_to(self, kind: type[Message]) -> list[PeerId]:
        """Who was sent a message of a kind."""
        return [effect.peer for effect in self.effects if isinstance(effect, Send) and isinstance(effect.message, kind)]

    def wanted(self, kind: type[K]) -> list[K]:
        """The last effects of a kind."""
        return [effect for effect in self.effects if isinstance(effect, kind)]

    def noted(self, kind: type[K]) -> list[K]:
        """The last events of a kind."""
        return [event for event in self.events if isinstance(event, kind)]
