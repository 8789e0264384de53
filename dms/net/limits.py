"""Rates per peer, and what holds for one for a while, such as a ban. Pure: the time, in seconds of any steady clock, is an argument."""

from __future__ import annotations

from typing import Final

from dms.net.config import RateLimit

_MOST: Final = 4_096
"""Peers kept; beyond it the one whose time ends first is dropped, so that a crowd of identities cannot grow the table."""


class Bucket:
    """A token bucket: `rate` per second, at most `burst` at once."""

    __slots__ = ("_at", "_tokens", "burst", "rate")

    def __init__(self, rate: float, burst: float) -> None:
        self.rate = rate
        self.burst = burst
        self._tokens = burst
        self._at = 0.0

    def available(self, now: float) -> float:
        """Tokens there are at `now`. Time that runs backwards adds nothing."""
        if now > self._at:
            self._tokens = min(self.burst, self._tokens + (now - self._at) * self.rate)
            self._at = now
        return self._tokens

    def take(self, amount: float, now: float) -> bool:
        """Takes `amount`, or nothing and says no."""
        if self.available(now) < amount:
            return False
        self._tokens -= amount
        return True

    def spend(self, amount: float, now: float) -> float:
        """Takes `amount` even into debt; gives the seconds until the debt is paid. For pacing our own sending."""
        self.available(now)
        self._tokens -= amount
        return max(0.0, -self._tokens / self.rate)


class Meter:
    """Judges items against a `RateLimit`: those of one peer, or of all peers of one source. One per kind of traffic."""

    __slots__ = ("_bytes", "_frames")

    def __init__(self, limit: RateLimit) -> None:
        self._frames = Bucket(limit.frames_per_s, limit.frames_burst)
        self._bytes = Bucket(limit.bytes_per_s, limit.bytes_burst)

    def admit(self, size: int, now: float) -> bool:
        """Whether a frame of `size` bytes may pass."""
        return self._bytes.available(now) >= size and self._frames.take(1, now) and self._bytes.take(size, now)

    def is_full(self, now: float) -> bool:
        """Whether it could be forgotten without giving anything away."""
        buckets = (self._frames, self._bytes)
        return all(bucket.available(now) >= bucket.burst for bucket in buckets)


class Spans:
    """Peers for each of which the same holds for a while: that it is refused, or that it need not show any work."""

    __slots__ = ("_until",)

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def add(self, peer: str, seconds: float, now: float) -> None:
        """It holds for `peer` for `seconds` from `now`, whatever was said before; 0 ends it."""
        self._until.pop(peer, None)
        if seconds <= 0:
            return
        if len(self._until) >= _MOST:
            del self._until[min(self._until, key=self._until.__getitem__)]
        self._until[peer] = now + seconds

    def holds(self, peer: str, now: float) -> bool:
        """Whether it holds for `peer` at `now`."""
        until = self._until.get(peer)
        if until is None:
            return False
        if now >= until:
            del self._until[peer]
            return False
        return True

    def left(self, peer: str, now: float) -> float:
        """Seconds for which it still holds for `peer` at `now`; 0 if it does not."""
        return max(0.0, self._until.get(peer, now) - now)

    def running(self, now: float) -> tuple[tuple[str, float], ...]:
        """For whom it holds at `now`, each with the seconds that are left."""
        return tuple((peer, until - now) for peer, until in self._until.items() if until > now)

    def __len__(self) -> int:
        return len(self._until)


class Backoff:
    """Growing waits between attempts: doubled each time up to a ceiling. Jitter (0 to 1) is given by the caller."""

    __slots__ = ("_next", "first", "longest")

    def __init__(self, first: float, longest: float) -> None:
        self.first = first
        self.longest = longest
        self._next = first

    def next(self, jitter: float) -> float:
        """Seconds to wait now: between half and all of the current step."""
        step = self._next
        self._next = min(self.longest, step * 2)
        return step * (0.5 + jitter / 2)

    def reset(self) -> None:
        """An attempt worked: begin again with the shortest wait."""
        self._next = self.first
