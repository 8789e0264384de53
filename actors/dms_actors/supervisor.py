"""What happens when an actor's behaviour raises: it is built anew from the event store, a few times, and then given up loudly.

A single message that cannot be handled does not come this far (`machine_actor`).

A restart loses nothing that was written down: behaviours hold no state of their own beyond the fold of their stream. The batch that failed
is not tried again: whatever in it broke the behaviour would break it again, and its senders repeat what matters.
"""

from __future__ import annotations

from typing import Final

import msgspec

RESTARTS: Final = 3
WINDOW_MS: Final = 60_000


class RestartPolicy(msgspec.Struct, frozen=True):
    """How often a behaviour may fail: `restarts` times within `window_ms`."""

    restarts: int = RESTARTS
    window_ms: int = WINDOW_MS


class FailureRecord(msgspec.Struct, frozen=True):
    """The failures of one actor within the window."""

    policy: RestartPolicy = RestartPolicy()
    failures: tuple[int, ...] = ()

    def failed(self, now: int) -> FailureRecord:
        """Adds a failure at `now` (Unix ms)."""
        recent = tuple(at for at in self.failures if at > now - self.policy.window_ms)
        return msgspec.structs.replace(self, failures=(*recent, now))

    @property
    def should_restart(self) -> bool:
        """Whether the policy allows another try."""
        return len(self.failures) <= self.policy.restarts
