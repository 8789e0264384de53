"""Whether the owner has the machine. Pure: looks at the machine in, one word out, with the reason.

::

    FREE ──others use more than `cpu_millicores` in `LOOKS` looks in a row, somebody types, or no power──▶ TAKEN
    TAKEN ──nothing of that for `calm_ms`──▶ FREE

Others are all processes that are not this node's: a program the owner starts, a backup, a game. One look above the bound is no reason: a timer that
fires, a page that loads. What keeps the owner's machine taken is half the bound, so that use about the bound does not make the work here blink.
"""

from __future__ import annotations

from typing import Final

import msgspec

from dms_proto.units import MINUTE, SECOND, format_cores

LOOK_MS: Final = SECOND // 2
"""So often it is looked."""
LOOKS: Final = 2
"""Looks in a row that make use by others a reason: with the time until the first of them, 1.5 s at most after it began."""
AT_KEYS_MS: Final = 10 * SECOND
"""Who has typed within this time is there. Linux tells it of a terminal to 8 s only, but at once to the first key after that."""


class Rules(msgspec.Struct, frozen=True):
    """What the owner wants.

    Attributes:
        cpu_millicores: use by others from which the machine is the owner's; 0: theirs is never a reason.
        on_battery: whether a machine that is not plugged in is the owner's.
        at_keys: whether one at which somebody types is.
        calm_ms: how long nothing of that is to be seen before the machine is free again.
    """

    cpu_millicores: int = 1_000
    on_battery: bool = True
    at_keys: bool = False
    calm_ms: int = MINUTE


class Look(msgspec.Struct, frozen=True):
    """The machine at one moment.

    Attributes:
        at: milliseconds of any clock that does not go back.
        others_millicores: CPU used by processes that are not this node's, since the look before.
        unplugged: whether it runs on its battery; False where there is none, or nobody knows.
        idle_ms: since somebody last typed; None where nobody knows.
    """

    at: int
    others_millicores: int = 0
    unplugged: bool = False
    idle_ms: int | None = None


class Presence(msgspec.Struct, frozen=True):
    """Whether the machine is its owner's, as far as was seen.

    Attributes:
        because: why the machine is the owner's; empty while it is free.
        busy_looks: looks in a row at which others used too much.
        calm_since: since when nothing is to be seen of the owner, by the clock of the looks; -1 while something is.
    """

    because: str = ""
    busy_looks: int = 0
    calm_since: int = -1


def follow(presence: Presence, look: Look, rules: Rules) -> Presence:
    """What is known after one more look."""
    busy_looks = presence.busy_looks + 1 if _is_busy(look, rules.cpu_millicores) else 0
    because = _reason(look, rules, is_busy=busy_looks >= LOOKS)
    if not presence.because:
        return Presence(because, busy_looks)
    if because or _is_busy(look, rules.cpu_millicores // 2):
        return Presence(presence.because, busy_looks)
    calm_since = look.at if presence.calm_since < 0 else presence.calm_since
    if look.at - calm_since >= rules.calm_ms:
        return Presence()
    return Presence(presence.because, busy_looks, calm_since)


def _reason(look: Look, rules: Rules, *, is_busy: bool) -> str:
    if rules.on_battery and look.unplugged:
        return "the machine runs on its battery"
    if rules.at_keys and look.idle_ms is not None and look.idle_ms <= AT_KEYS_MS:
        return "somebody types at the machine"
    if is_busy:
        return f"other programs use {format_cores(look.others_millicores)}, from {format_cores(rules.cpu_millicores)} on they come first"
    return ""


def _is_busy(look: Look, bound: int) -> bool:
    return bound > 0 and look.others_millicores >= bound
