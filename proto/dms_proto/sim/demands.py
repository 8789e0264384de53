"""What is demanded of a simulated world, and how it is told that it does not hold."""

from __future__ import annotations


class Violation(AssertionError):  # noqa: N818 - a broken invariant, not an error of a caller
    """An invariant does not hold. `name` says which, `detail` how."""

    def __init__(self, name: str, detail: str) -> None:
        super().__init__(f"{name}: {detail}")
        self.name = name
        self.detail = detail


def demand(holds: bool, name: str, detail: str) -> None:
    """Raises `Violation` unless it holds."""
    if not holds:
        raise Violation(name, detail)
