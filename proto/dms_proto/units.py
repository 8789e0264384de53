"""Quantities are integers with their unit in the name; this file reads and prints them for people.

================  ==========================================  =====================
type              unit                                        written as
================  ==========================================  =====================
Millicores        1/1000 of a CPU core                        ``2``, ``500m``
Bytes             bytes (binary multiples)                    ``4GiB``, ``512MiB``
Millis            milliseconds, spans and Unix times          ``90s``, ``10m``, ``2h``
MicroCredits      1/1 000 000 credit                          ``0.02``, ``20m`` is not accepted
GpuMilli          1/1000 of one GPU                           ``1``, ``0.5``
================  ==========================================  =====================
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import ROUND_DOWN, Decimal
from typing import Final, NewType

Millicores = NewType("Millicores", int)
Bytes = NewType("Bytes", int)
Millis = NewType("Millis", int)
MicroCredits = NewType("MicroCredits", int)
GpuMilli = NewType("GpuMilli", int)

KIB: Final = 1024
MIB: Final = 1024**2
GIB: Final = 1024**3
SECOND: Final = 1000
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR
CREDIT: Final = 1_000_000
CORE: Final = 1000
GPU: Final = 1000

MAX_QUANTITY: Final = 2**53
"""Larger quantities are refused: they would not survive a JSON reader that uses doubles."""

_BYTE_UNITS: Final = {
    "": 1,
    "b": 1,
    "kib": KIB,
    "mib": MIB,
    "gib": GIB,
    "tib": 1024**4,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "ki": KIB,
    "mi": MIB,
    "gi": GIB,
    "ti": 1024**4,
}
_TIME_UNITS: Final = {"ms": 1, "s": SECOND, "m": MINUTE, "min": MINUTE, "h": HOUR, "d": 24 * HOUR}
_NUMBER: Final = re.compile(r"\s*(\d{1,18}(?:\.\d{1,9})?)\s*([A-Za-z]*)\s*", re.ASCII)


def parse_bytes(text: str | int) -> Bytes:
    """``"4GiB"``, ``"512Mi"``, ``"1.5GB"`` or a plain number of bytes.

    Raises:
        ValueError: not a size; the message says what is accepted.
    """
    return Bytes(_parse(text, _BYTE_UNITS, "a size such as 512MiB or 4GiB", format_bytes))


def parse_millis(text: str | int) -> Millis:
    """``"90s"``, ``"10m"``, ``"2h"``, ``"250ms"``; a plain number is seconds.

    Raises:
        ValueError: not a duration.
    """
    return Millis(_parse(text, _TIME_UNITS, "a duration such as 90s, 10m or 2h", format_millis, bare="s"))


def parse_millicores(text: str | float) -> Millicores:
    """``2`` or ``"0.5"`` cores, or ``"500m"`` millicores.

    Raises:
        ValueError: not a number of cores.
    """
    return Millicores(_parse(text, {"": CORE, "m": 1}, "a number of cores such as 2, 0.5 or 500m", format_cores))


def parse_credits(text: str | float) -> MicroCredits:
    """``"0.02"`` credits.

    Raises:
        ValueError: not an amount of credits.
    """
    return MicroCredits(_parse(text, {"": CREDIT}, "an amount of credits such as 0.02", format_credits))


def format_bytes(value: int) -> str:
    """``1536`` -> ``1.5 KiB``."""
    for unit, size in (("TiB", 1024**4), ("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        if abs(value) >= size:
            return f"{_short(Decimal(value) / size)} {unit}"
    return f"{value} B"


def format_cores(value: int) -> str:
    """``1500`` millicores -> ``1.5 cores``."""
    text = _short(Decimal(value) / CORE, "0.001")
    return f"{text} {_noun(text, 'core')}"


def format_count(number: int, one: str, many: str = "") -> str:
    """``1 node``, ``2 nodes``, ``0 nodes``; `many` is the plural where it is not `one` with an s. Both may run on: ``1 reply waits``."""
    return f"{number} {_noun(str(number), one, many)}"


def _noun(number: str, one: str, many: str = "") -> str:
    return one if number == "1" else many or f"{one}s"


def format_millis(value: int) -> str:
    """``90500`` -> ``1m 30.5s``."""
    if value < 0:
        return f"-{format_millis(-value)}"
    if value < SECOND:
        return f"{value} ms"
    if value < MINUTE:
        return f"{_short(Decimal(value) / SECOND)} s"
    if value < HOUR:
        return f"{value // MINUTE}m {_short(Decimal(value % MINUTE) / SECOND)}s"
    return f"{value // HOUR}h {value % HOUR // MINUTE}m"


def format_age(value: int) -> str:
    """``132930`` -> ``2 min``: one unit, cut; for how long ago something was, which nobody wants to know more precisely."""
    for size, word in ((DAY, "d"), (HOUR, "h"), (MINUTE, "min")):
        if value >= size:
            return f"{value // size} {word}"
    return f"{max(value, 0) // SECOND} s"


def format_credits(value: int) -> str:
    """``20000`` micro-credits -> ``0.02 credits``."""
    text = format(Decimal(value) / CREDIT, "f").rstrip("0").rstrip(".") if value % CREDIT else str(value // CREDIT)
    return f"{text} {_noun(text, 'credit')}"


def _parse(text: str | float, units: dict[str, int], wanted: str, show: Callable[[int], str], *, bare: str = "") -> int:
    match = _NUMBER.fullmatch(str(text))
    unit = (match[2].lower() or bare) if match else "?"
    if match is None or unit not in units:
        raise ValueError(f"{text!r} is not {wanted}")
    value = Decimal(match[1]) * units[unit]
    if value != value.to_integral_value():
        raise ValueError(f"{text!r} is finer than the smallest unit")
    if value > MAX_QUANTITY:
        raise ValueError(f"{text!r} is larger than the most there can be, {show(MAX_QUANTITY)}")
    return int(value)


def _short(value: Decimal, step: str = "0.01") -> str:
    # Cut, not rounded: 59.999 s must not read "60 s", nor a byte less than 1 TiB "1024 GiB".
    return format(value.quantize(Decimal(step), ROUND_DOWN).normalize(), "f")
