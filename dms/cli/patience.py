"""When a command says what its job waits for: after a second, and again when that has changed, half a minute later at the earliest.

A job that waits asks again and again, and what it is told may differ each time, by a figure or more. Neither puts off what is to be said.
"""

from __future__ import annotations

from typing import Final

from dms.cli.progress import QUIET_S

AGAIN_S: Final = 30.0
"""Between two words about the same wait."""


class Patience:
    """Of one job. Seconds are of any clock that only goes forward."""

    def __init__(self) -> None:
        self._text = ""
        self._said = ""
        self._due: float | None = None
        self._earliest = 0.0

    @property
    def due(self) -> float | None:
        """When there is something to say; None: nothing as yet."""
        return self._due

    def waits(self, text: str, now: float) -> None:
        """The job waits, for this."""
        self._text = text
        if self._due is None and text != self._said:
            self._due = max(now + QUIET_S, self._earliest)

    def over(self) -> None:
        """It waits no longer: something of it was taken, or it has ended. The next wait is another."""
        self._text, self._said, self._due, self._earliest = "", "", None, 0.0

    def take(self, now: float) -> str:
        """What is to be said now; empty: nothing."""
        if self._due is None or now < self._due:
            return ""
        self._due, self._earliest = None, now + AGAIN_S
        told, self._said = self._said, self._text
        return "" if told == self._text else self._text
