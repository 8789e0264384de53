"""How our long-running processes collect garbage: rarely, and never what is there for good.

By default CPython looks through the youngest objects after 700 allocations, and time and again through all of them, a hundred thousand in a node
that has just started: 8 % of its CPU under load (perf). Messages, events and states are trees without cycles, so next to nothing is found.
"""

from __future__ import annotations

import gc
from typing import Final

THRESHOLDS: Final = (10_000, 20, 50)
"""Allocations, young collections, middle collections before the next older generation is looked through."""


def settle() -> None:
    """Called once everything is there that stays: it is looked through a last time and then left alone."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
