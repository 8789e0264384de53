"""Chance in the simulator: always from a seed, so that everything can be had again."""

from __future__ import annotations

from random import Random


def chance(*names: object) -> Random:
    """A generator of its own for each purpose: what one draws does not move the others."""
    return Random(" ".join(map(str, names)))  # noqa: S311 - nothing here is secret
