"""Tabs: running accounts of calls, one for each service that one node calls at another. What both sides work out alike. Pure.

A tab is agreed as an allocation is, by one digest under two signatures, and states its sum now and then. Each side has its own machine of it: the
provider `kept_machine`, who calls `used_machine`.
"""

from __future__ import annotations

from collections.abc import Callable, Sized
from enum import StrEnum
from functools import reduce
from typing import Final, Protocol, TypeVar

import msgspec

from dms_proto.capability import Price, Resources
from dms_proto.ids import Digest, TabId, digest_of
from dms_proto.machine import Decision, Event
from dms_proto.messages import TabTerms
from dms_proto.units import HOUR, SECOND
from dms_proto.wire import encoding


class TabsPhase(StrEnum):
    """There is one: each tab is open or over by itself."""

    HELD = "held"


TAB_DOMAIN: Final = b"dms/tab/1\0"
PARTS: Final = 10
"""A sum is stated when a tenth of all that may be owed has come together …"""
STATE_MS: Final = 60 * SECOND
"""… or after this long."""
UNSIGNED_MS: Final = 10 * SECOND
"""How long a stated sum may be unsigned before no more calls are taken on the tab."""
REPEAT_MS: Final = SECOND
LONGEST_REPEAT_MS: Final = 5 * 60 * SECOND
"""Between two tellings of a sum that is not signed: the first pause, and the longest after twice as long each time."""
OFFER_MS: Final = 30 * SECOND
"""How long offered terms can be taken."""
SETTLE_MS: Final = 2 * SECOND
"""How long after a call's end its container may be seen to have failed, which takes it back. A sum of an open tab is not stated sooner."""
FREE_FAILURES: Final = 3
FAILURES_MS: Final = HOUR
"""So many of a caller's calls of a service cost nothing within so long if their container fails. What is beyond that is paid."""
KEEP_MS: Final = 24 * HOUR
"""How long the last sum of a tab is told without an answer, and by whom it is paid remembered."""
UNUSED_MS: Final = HOUR
"""How long a tab stays open at its caller without a call. Its provider ends it sooner, but tells that once: the word may be lost."""
SAVE_EVERY: Final = 5_000
"""Events after which all tabs are written as one, so that a restart folds about as many."""
OPENING_MS: Final = 2 * SECOND
"""How much of the time before a call is seen to be let in counts at its caller: its provider may have counted on while the word was on its way, or
this node busy."""
SLACK_MS: Final = 2 * SECOND
SLACK_PARTS: Final = 20
"""How far the time that a provider states may be above what was seen here: so much, and a twentieth. Clocks and messages are not exact."""


class Ceiling(msgspec.Struct, frozen=True):
    """The most that an owner pays for calls of a service, in micro-credits.

    Attributes:
        price: for all within a day, wherever they are made.
        rate: for an hour at work, with what is paid once.
    """

    price: int
    rate: int


class AllTabs(Protocol):
    """The state of either side."""

    @property
    def tabs(self) -> Sized:
        """All of them."""
        ...

    @property
    def unsaved(self) -> int:
        """Events written since all of it was last written as one."""
        ...


S = TypeVar("S", bound=AllTabs)


def saving(decision: Decision, tabs: S, evolve: Callable[[S, Event], S], saved: Callable[[S], Event]) -> Decision:
    """The decision, with all tabs written as one behind its events when that is due."""
    if tabs.unsaved + len(decision.events) < max(SAVE_EVERY, len(tabs.tabs)):
        return decision
    return Decision((*decision.events, saved(reduce(evolve, decision.events, tabs))), decision.effects)


def terms_digest(terms: TabTerms) -> Digest:
    """The name of what is agreed: what both sign."""
    packed = encoding.pack(msgspec.to_builtins(terms, builtin_types=(bytes,), order="deterministic"))
    return digest_of(TAB_DOMAIN + packed)


def owed(terms: TabTerms, calls: int, ran_ms: int) -> int:
    """Micro-credits for so many calls that were at work so long together; never more than was agreed."""
    return min(terms.max_price, terms.tariff.cost(terms.resources, ran_ms)) if calls else 0


def most_after(terms: TabTerms, calls: int, ran_ms: int) -> int:
    """What it comes to, whatever was agreed, if so many calls more take as long as they may."""
    return terms.tariff.cost(terms.resources, ran_ms + calls * terms.call_ms)


def rate_of(terms: TabTerms) -> int:
    """What an hour at work costs, with what is paid once."""
    return terms.tariff.cost(terms.resources, HOUR)


def is_free(tariff: Price, resources: Resources) -> bool:
    """Whether calls cost nothing, so that nothing has to be agreed."""
    return not tariff.cost(resources, HOUR)


def allowed_ms(seen_ms: int) -> int:
    """The longest that a provider may say calls were at work, of which so much was seen here."""
    return seen_ms + seen_ms // SLACK_PARTS + SLACK_MS


def entry_name(tab_id: TabId, number: int) -> str:
    """What an entry of the accounts is about that rests on a sum."""
    return f"{tab_id}.{number}"


def pause_ms(repeats: int) -> int:
    """How long to wait before a sum is told once more."""
    return min(LONGEST_REPEAT_MS, REPEAT_MS << min(repeats, 10))
