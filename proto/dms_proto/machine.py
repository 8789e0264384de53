"""What every machine has in common: stimuli come in, events are remembered, effects are intentions.

A machine is two pure functions over a frozen state::

    decide(state, stimulus, now) -> Decision(events, effects)
    evolve(state, event)         -> state

`now` is Unix milliseconds. The shell (an actor, or the simulator) writes the events down first and performs the effects after; after a
restart it folds the events into the state and asks `resume(state)` for the effects not known to be done. Delivery is at least once, so
every stimulus may come twice, late, or after the end: each has a named, harmless outcome. `next_deadline(state)` says when to call again
with `TimeCame`.

Which stimulus is met by which handler in which phase is a table (`Table`), not code: tests walk it and the diagrams in
docs/concepts are drawn from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Generic, NamedTuple, TypeVar

import msgspec

from dms_proto.ids import PeerId
from dms_proto.messages import AnyMessage
from dms_proto.wire.scores import Offence

S = TypeVar("S")


class Event(msgspec.Struct, frozen=True, tag_field="event", tag=True, omit_defaults=True):
    """A fact, in the past tense. What is stored."""


class Transient(Event, frozen=True):
    """A fact that matters only while this process lives (a probe sent, a round-trip measured): folded, not stored."""


class Stimulus(msgspec.Struct, frozen=True):
    """Something that arrived: a message, an outcome, an owner's wish, or the time."""


class Effect(msgspec.Struct, frozen=True):
    """Something to be done, in the imperative. Never stored; derived from events again after a restart."""


class Send(Effect, frozen=True):
    """Send a message to one peer (which may be this node itself)."""

    peer: PeerId
    message: AnyMessage


class Blame(Effect, frozen=True):
    """Count an offence against a peer. `if_here`: only if it is connected; who is cut off may not be able to do otherwise."""

    peer: PeerId
    offence: Offence
    if_here: bool = False


class TimeCame(Stimulus, frozen=True):
    """The deadline announced by `next_deadline` has come. Coming too early or twice does nothing."""


class Decision(NamedTuple):
    """What follows from a stimulus: events to write down, then effects to perform."""

    events: tuple[Event, ...] = ()
    effects: tuple[Effect, ...] = ()

    def then(self, *effects: Effect) -> Decision:
        """The same with more effects after it."""
        return Decision(self.events, self.effects + effects)


IGNORED: Final = Decision()
"""The stimulus changes nothing: late, repeated, or about something that is over."""

Handler = Callable[[S, Any, int], Decision]


class Row(NamedTuple, Generic[S]):
    """One line of a machine's table."""

    handler: Handler[S]
    because: str
    """In words, for the generated documentation: what happens, or why nothing does."""


Table = Mapping[tuple[str, type[Stimulus]], Row[S]]


def ignore(because: str) -> Row[Any]:
    """A line of the table for a stimulus that is harmless in a phase, with the reason."""
    return Row(lambda _state, _stimulus, _now: IGNORED, because)


def earliest(*deadlines: int | None) -> int | None:
    """The earliest of the deadlines that exist."""
    return min((deadline for deadline in deadlines if deadline is not None), default=None)
