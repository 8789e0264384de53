"""Old event bodies brought to today's form when they are read; the file keeps what was written, for the hash covers it.

The form of a kind is a number from 1 that grows by one with each change of its body that a reader with defaults cannot bridge (a field
renamed, a unit changed). Each row records the form it was written in. `STEPS` holds a function per (kind, from form); they are applied one
after the other until the newest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

Upcast = Callable[[bytes], bytes]
"""From the body of one form to the body of the next. Pure."""

STEPS: Final[dict[tuple[str, int], Upcast]] = {}
"""(kind, form it turns into form + 1) -> how. A released step is never edited."""


class Upcaster:
    """Knows the newest form of each kind and how to get there. Immutable, used on any thread.

    Args:
        steps: as `STEPS`; for each kind the forms run from 1 without gaps.

    Raises:
        ValueError: a kind's steps have a gap.
    """

    def __init__(self, steps: Mapping[tuple[str, int], Upcast] = STEPS) -> None:
        self._steps = dict(steps)
        self._newest: dict[str, int] = {}
        for kind, form in sorted(self._steps):
            if form != self._newest.get(kind, 1):
                raise ValueError(f"{kind} has a step from form {form} but none to it")
            self._newest[kind] = form + 1

    @property
    def forms(self) -> Mapping[str, int]:
        """The form in which bodies of a kind are written now; 1 for kinds that are not here."""
        return self._newest

    def body(self, kind: str, form: int, body: bytes) -> bytes:
        """`body`, written in `form`, as today's form. A form newer than known is given as it is: its reader has to refuse it."""
        while step := self._steps.get((kind, form)):
            body = step(body)
            form += 1
        return body
