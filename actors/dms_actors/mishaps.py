"""Mishaps: messages and effects whose handling raised, which nothing that a peer sends may do. Each is left out, and told to the owner."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NamedTuple

from dms_proto.ids import PeerId

log = logging.getLogger(__name__)


class Mishap(NamedTuple):
    """One of them.

    Attributes:
        actor: whose.
        about: the message, or the effect, by its kind.
        error: what was raised, in a line.
        by: the node whose message it was, or from whose message it follows; None: nobody's.
        at: Unix ms.
    """

    actor: str
    about: str
    error: str
    by: PeerId | None
    at: int


def _nobody(_mishap: Mishap, _error: Exception) -> None:
    """The log is enough."""


class Mishaps:
    """Those of all actors of a node; outlives each of them. Written on their thread, read from any.

    Attributes:
        count: since the start.
        last: the last one.
    """

    def __init__(self, noticed: Callable[[Mishap, Exception], object] = _nobody) -> None:
        """`noticed` is called with each."""
        self.count = 0
        self.last: Mishap | None = None
        self._noticed = noticed

    def note(self, mishap: Mishap, error: Exception) -> None:
        """One more."""
        self.count, self.last = self.count + 1, mishap
        by = f" of {mishap.by}" if mishap.by else ""
        log.error("%s leaves out %s%s, which it cannot handle", mishap.actor, mishap.about, by, exc_info=error)
        self._noticed(mishap, error)
