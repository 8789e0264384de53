"""`numbers`: the same text, but that numbers may differ a little; for tables, reports and JSON of what was computed in floating point."""

from __future__ import annotations

import math
import re
from itertools import zip_longest
from pathlib import Path
from typing import Final

from dms.comparing import Result, same_files

RELATIVE: Final = 1e-6
"""How far two numbers may be apart, as a share of the greater, where the parameter does not say."""
MOST_RELATIVE: Final = 0.1
MOST_SKIPPED: Final = 65_536
"""Bytes of a line that is not looked into where both are the same. What is longer may be made to be too long, and has to show it beside itself."""
_NUMBER: Final = re.compile(rb"((?<![\w.])[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?)")
_WHOLE: Final = re.compile(rb"[-+]?\d+")


class Numbers:
    """Made with ``RELATIVE`` or ``RELATIVE:ABSOLUTE``, such as ``1e-6`` or ``1e-6:1e-12``.

    Two numbers are the same when they are no further apart than the relative part of the greater, or than the absolute part (0 where it does not
    stand there), which is for what would be zero but for rounding. What both write without a point or an exponent is a count or a name: it has to
    be the same, as has all else, white space included.
    """

    def __init__(self, parameter: str) -> None:
        relative, _, absolute = parameter.partition(":")
        self._relative = _tolerance(relative or str(RELATIVE), MOST_RELATIVE)
        self._absolute = _tolerance(absolute or "0", math.inf)

    def same(self, left: Result, right: Result) -> bool:
        """See `ResultComparator`."""
        return same_files(left, right, self._same_file)

    def _same_file(self, left: Path, right: Path) -> bool:
        with left.open("rb") as one, right.open("rb") as other:
            return all(self._same_line(*lines) for lines in zip_longest(one, other, fillvalue=b""))

    def _same_line(self, left: bytes, right: bytes) -> bool:
        if left == right and len(left) <= MOST_SKIPPED:
            return True
        one, other = _NUMBER.split(left), _NUMBER.split(right)  # text, number, text …
        return one[::2] == other[::2] and all(map(self._near, one[1::2], other[1::2]))

    def _near(self, left: bytes, right: bytes) -> bool:
        if left == right:
            return True
        if _WHOLE.fullmatch(left) and _WHOLE.fullmatch(right):
            return False
        one, other = float(left), float(right)
        # What is too great for a float would all be the same infinity.
        is_finite = math.isfinite(one) and math.isfinite(other)
        return is_finite and math.isclose(one, other, rel_tol=self._relative, abs_tol=self._absolute)


def _tolerance(text: str, most: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= most or math.isinf(value):
        rule = f"from 0 to {most:g}" if math.isfinite(most) else "of 0 or more"
        raise ValueError(
            f"numbers takes a tolerance such as 1e-6, or two such as 1e-6:1e-12; {text!r} is no number {rule}"
        )
    return value
