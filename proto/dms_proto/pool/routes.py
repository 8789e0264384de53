"""Which node gets a call: the first step, taken by the caller's node. Stream "calls".

1. This node goes before all others, then the others by their round trips, then those that were not measured yet.
2. They are asked in that order. Each answers for itself: that it has let the call in, or in its own words why not, such as that too many wait and for
   how long. Who was not asked has said nothing.
3. The first that lets the call in has it. Which of its containers then works on it is decided there (`pool.placement`).

What was known and said is written down with each call, so that the order can be computed again.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Final

import msgspec

from dms_proto.ids import PeerId
from dms_proto.machine import Decision, Event, Stimulus

CALLS_STREAM: Final = "calls"
MOST: Final = 32
"""Nodes that are told of with one call: the nearest."""
MOST_WORDS: Final = 400
"""Characters that are kept of what a node has said."""


class Rule(StrEnum):
    """By what the node was chosen."""

    NAMED = "named"
    """Its caller has named it."""
    OWN = "own"
    """It is the caller's."""
    NEAREST = "nearest"
    """Of those that let the call in, its round trip is the shortest known."""
    NONE = "none"
    """No node has let the call in."""


class KnownNode(msgspec.Struct, frozen=True, omit_defaults=True):
    """A node that offers the service, as its caller knew it.

    Attributes:
        is_own: it is the caller's node itself.
        rtt_us: of a message there and back; 0: not measured.
        said: its own words, why it did not let the call in; empty: it did, or was not asked.
    """

    peer: PeerId
    is_own: bool = False
    rtt_us: int = 0
    said: str = ""


class CallRouted(Event, frozen=True):
    """A call of this node's owner was let in by a node, or by none.

    Attributes:
        tunnel: its name; empty: none let it in.
        service: that was called.
        options: the nodes that offer it, in the order in which they were asked.
        provider: that has let it in; empty: none.
        rule: why that one.
        others: nodes beyond `MOST`, which are not told of.
    """

    tunnel: str
    service: str
    options: tuple[KnownNode, ...]
    provider: PeerId
    rule: Rule
    others: int = 0


class RouteTaken(Stimulus, frozen=True):
    """This is how a call found its node; `is_named`: its caller has named the node."""

    tunnel: str
    service: str
    options: tuple[KnownNode, ...]
    provider: PeerId
    is_named: bool = False


class Routes(msgspec.Struct, frozen=True):
    """The state: nothing. What was written down is for people."""


def nearest(options: Iterable[KnownNode]) -> tuple[KnownNode, ...]:
    """In the order in which they are asked."""
    return tuple(sorted(options, key=lambda each: (not each.is_own, not each.rtt_us, each.rtt_us, each.peer)))


def rule_of(options: tuple[KnownNode, ...], provider: PeerId, *, is_named: bool) -> Rule:
    """By what `provider` was chosen of those that were asked in this order."""
    if not provider:
        return Rule.NONE
    if is_named:
        return Rule.NAMED
    return Rule.OWN if any(each.is_own and each.peer == provider for each in options) else Rule.NEAREST


def decide(_routes: Routes, stimulus: Stimulus, _now: int) -> Decision:
    """What is written down of a call."""
    assert isinstance(stimulus, RouteTaken), "nothing else is told"
    options = tuple(msgspec.structs.replace(each, said=each.said[:MOST_WORDS]) for each in stimulus.options[:MOST])
    rule = rule_of(stimulus.options, stimulus.provider, is_named=stimulus.is_named)
    others = len(stimulus.options) - len(options)
    return Decision((CallRouted(stimulus.tunnel, stimulus.service, options, stimulus.provider, rule, others),))


def evolve(routes: Routes, _event: Event) -> Routes:
    """The state after an event."""
    return routes
