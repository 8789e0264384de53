"""The fixed point in which terms value candidates."""

from __future__ import annotations

from typing import Final

SCALE: Final = 1_000_000
"""The value of a perfect candidate: values are millionths."""
