"""Frames with one peer: the stream we opened, its queue, and the streams the peer opened. All plain calls on the trio thread.

Bytes go from the pipe to the socket, and from the socket to the pipe, within one task step each: nothing here waits. When the peer's window
is full the rest stays queued (the node is told by withheld credit); when the node is slow, arriving bytes stay in the stream (the peer is
told by its window).
"""

from __future__ import annotations

import struct
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

import trio

from dms.net import frames
from dms.net.config import NetConfig
from dms.net.counters import Counters
from dms.net.frames import Greeting, Kind
from dms.net.limits import Bucket
from dms.net.pipe import Credit, Rtt, Sent, Splitter, ToNode, cost
from dms_proto.units import format_count
from dms_proto.wire.scores import Offence

if TYPE_CHECKING:
    from dms.net.guards.yamux_stream import SafeStream

BATCH: Final = 256 * 1024
"""Bytes joined into one write."""
PACE: Final = 0.8
"""Share of the frame limit that we use ourselves, so that an honest sender is never above its peer's limit."""
ASKS_ON: Final = 32
"""Frames a peer sends while it takes nothing of what waits for it, at which that is no accident: a node that hangs neither reads nor sends."""
UNREAD_S: Final = 1.0
"""For so long it must have taken nothing, too."""
SLOW_AFTER_S: Final = 0.05
"""Who has taken nothing for so long, though something waits, is read slowly."""
SLOW_S: Final = 0.02
"""Pause between two items then. It is read on, since two that each wait for the other to read would wait for ever."""
RTT_WEIGHT: Final = 0.25
"""Weight of the newest round trip in the smoothed one (RFC 6298 uses 1/8; pings are rare here)."""

_PING: Final = struct.Struct(">Q")


class LinkOwner(Protocol):
    """What a link needs from the table of peers."""

    config: NetConfig
    counters: Counters

    def may_hear(self, peer: str) -> bool:
        """Whether the node takes more of a peer now."""
        ...

    def hear(self, peer: str, frame: bytes) -> None:
        """Collects a frame of a peer for the node."""
        ...

    def pause(self, inbound: Inbound) -> None:
        """A stream is to be read on when the node takes more of its peer."""
        ...

    def post(self, message: ToNode) -> None:
        """Collects a message for the node."""
        ...

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        """Calls `call` after a time."""
        ...

    def on_outbound(self, link: Link) -> None:
        """The outbound stream was answered, or ended."""
        ...

    def judge(self, peer: str, size: int, now: float) -> Offence | None:
        """Whether an item of a peer passes; else what it is."""
        ...

    def on_queued(self) -> None:
        """A frame was queued to a peer."""
        ...

    def on_work_wanted(self, link: Link, bits: int) -> None:
        """A peer asks for proof of work before it welcomes us."""
        ...

    def lacking_work(self, peer: str, stamp: bytes) -> tuple[int, int] | None:
        """The bits that a peer has shown and those that are wanted, if it has shown too few."""
        ...

    def let_go(self, link: Link) -> None:
        """A peer takes nothing of what it is sent: its connections are closed."""
        ...

    def blame(self, peer: str, offence: Offence) -> None:
        """A peer did what it should not; one time too many, and its connections are closed."""
        ...


class Link:
    """One peer.

    Attributes:
        peer: base58.
        is_up: the node has been told that the peer can be reached.
        welcome: the peer's greeting, once it answered ours on the present stream.
        attached_at: when the present stream was opened.
        refusal: why the peer refused us, if it did.
        said_bye: the peer announced its end.
        rtt_us: smoothed round trip; 0 before the first answer.
        unanswered: pings sent since anything was heard.
        inbound: the frame streams the peer opened, oldest first.
    """

    def __init__(self, peer: str, owner: LinkOwner) -> None:
        self.peer = peer
        self.is_up = False
        self.welcome: Greeting | None = None
        self.refusal = ""
        self.said_bye = False
        self.rtt_us = 0
        self.unanswered = 0
        self.attached_at = 0.0
        self.inbound: dict[Inbound, None] = {}
        self.outbound: SafeStream | None = None
        self._owner = owner
        self._answers = Splitter(frames.MAX_GREETING)
        self._queue: deque[bytes] = deque()
        self._queued_cost = 0
        self._rest = memoryview(b"")
        self._rest_cost = 0
        self._credit = Credit(owner.config.queue_bytes)
        limit = owner.config.frame_limit
        self._pace_frames = Bucket(limit.frames_per_s * PACE, limit.frames_burst * PACE)
        self._pace_bytes = Bucket(limit.bytes_per_s * PACE, limit.bytes_burst * PACE)
        self._is_pausing = False
        self._taken_at = 0.0
        self._heard_since = 0
        self._is_asked = False

    @property
    def queued_bytes(self) -> int:
        """What waits for the peer to take it."""
        return self._queued_cost + self._rest_cost

    def is_stuck(self, seconds: float, now: float) -> bool:
        """Whether something has waited so long without the peer taking any of it: it does not read."""
        return bool(self._rest) and now - self._taken_at > seconds

    def heard(self, now: float) -> bool:
        """Counts a frame of the peer. False: it goes on asking and takes nothing of what it is sent."""
        self._heard_since = self._heard_since + 1 if self._rest else 0
        return self._heard_since < ASKS_ON or not self.is_stuck(UNREAD_S, now)

    def admits(self, body: bytes, now: float) -> bool:
        """Judges an item of the peer, of whatever kind and on whichever stream. One too many and it is banned."""
        excess = self._owner.judge(self.peer, max(0, len(body) - 1), now)
        if excess is None:
            return True
        self._owner.counters.add("refused.rate" if excess is Offence.FLOODED else "refused.source_rate")
        self._owner.blame(self.peer, excess)
        return False

    # -------------------------------------------------------------------------------------------------------- outbound

    def attach(self, stream: SafeStream, hello: Greeting) -> None:
        """Takes a newly opened stream, greets on it, and reads what came before: a peer need not wait for our greeting, or send more."""
        self.outbound = stream
        self.attached_at = trio.current_time()
        self.welcome = None
        self._is_asked = False
        self._answers = Splitter(frames.MAX_GREETING)
        stream.write_some(memoryview(frames.greeting(Kind.HELLO, hello)))
        stream.muxed_conn.flush()
        stream.on_change = self._outbound_changed
        self._outbound_changed()

    def greet_again(self, stream: SafeStream, hello: Greeting) -> None:
        """The same greeting with what was asked for, if the stream is still ours."""
        if self.outbound is stream and self.welcome is None:
            stream.write_some(memoryview(frames.greeting(Kind.HELLO, hello)))
            stream.muxed_conn.flush()

    def detach(self) -> None:
        """Lets go of the outbound stream; what was queued stays for the next one."""
        if self.outbound is not None:
            self.outbound.on_change = None
            self.outbound.break_off()
            self.outbound = self.welcome = None
        self._acknowledge(self._rest_cost)
        self._rest, self._rest_cost = memoryview(b""), 0

    def enqueue(self, frame: bytes) -> None:
        """Queues a frame; `pump` sends it."""
        self._queue.append(frames.frame(frame))
        self._queued_cost += cost(frame)
        self._owner.on_queued()

    def pump(self) -> None:
        """Sends what is queued as far as the peer's window and our own pace admit."""
        stream = self.outbound
        if stream is None or self.welcome is None or self._is_pausing:
            return
        while self._rest or self._queue:
            if not self._rest:
                self._taken_at = trio.current_time()
                if not self._next_batch():
                    break
            sent = stream.write_some(self._rest)
            if sent:
                self._taken_at = trio.current_time()
                self._heard_since = 0
            self._owner.counters["bytes.out"] += sent
            self._rest = self._rest[sent:]
            if self._rest:
                break
            self._acknowledge(self._rest_cost)
            self._rest_cost = 0
        stream.muxed_conn.flush()

    def discard(self) -> None:
        """Gives up what is queued: the peer is gone."""
        self._owner.counters["dropped.no_peer"] += len(self._queue)
        self._queue.clear()
        self._queued_cost = 0

    def ping(self) -> None:
        """Asks for a sign of life."""
        if self.outbound is not None and self.welcome is not None and not self._rest:
            self.outbound.write_some(memoryview(frames.item(Kind.PING, _PING.pack(time.monotonic_ns()))))
            self.outbound.muxed_conn.flush()
        self.unanswered += 1

    def say_bye(self, why: str) -> None:
        """Announces our end, if the stream takes it now."""
        if self.outbound is not None and self.welcome is not None and not self._rest:
            self.outbound.write_some(memoryview(frames.reason(Kind.BYE, why)))
            self.outbound.muxed_conn.flush()

    def _next_batch(self) -> bool:
        """Joins queued frames into `_rest`; False while we keep to our pace."""
        parts: list[bytes] = []
        size = 0
        while self._queue and size < BATCH:
            parts.append(self._queue.popleft())
            size += len(parts[-1])
        taken = size + len(parts) * (cost(b"") - frames.HEAD_BYTES)
        self._queued_cost -= taken
        self._rest, self._rest_cost = memoryview(b"".join(parts)), taken
        self._owner.counters["frames.out"] += len(parts)
        now = trio.current_time()
        delay = max(self._pace_frames.spend(len(parts), now), self._pace_bytes.spend(size, now))
        if delay > 0:
            self._is_pausing = True
            self._owner.later(delay, self._resume)
        return not self._is_pausing

    def _resume(self) -> None:
        self._is_pausing = False
        self.pump()

    def _acknowledge(self, amount: int) -> None:
        if owed := self._credit.owe(amount):
            self._owner.post(Sent(self.peer, owed))

    def _outbound_changed(self) -> None:
        stream = self.outbound
        if stream is None:
            return
        try:
            now = trio.current_time()
            for body in self._answers.feed(stream.take()):
                if self._is_awaited(body) or self.admits(body, now):
                    self._on_answer(body)
                if self.outbound is not stream:
                    return  # banned for it, or the greeting was refused
        except ValueError:
            self._owner.counters.add("refused.malformed")
            self._owner.blame(self.peer, Offence.MALFORMED)
            stream.break_off()
        if self.outbound is stream and (stream.is_reset or stream.received_end):
            self._owner.on_outbound(self)
        else:
            self.pump()

    def _is_awaited(self, body: bytes) -> bool:
        """The one welcome of a stream, and one demand before it, pass whatever the peer sent elsewhere: without them the link could not come up."""
        return self.welcome is None and (body[:1] == b"\x02" or (body[:1] == b"\x07" and not self._is_asked))

    def _on_answer(self, body: bytes) -> None:
        match body[:1]:
            case b"\x02" if self.welcome is None:
                self.welcome = frames.read_greeting(body[1:])
                if self.welcome is None:
                    raise ValueError("unreadable greeting")
                self._owner.on_outbound(self)
            case b"\x03":
                self.refusal = frames.read_reason(body[1:])
                self._owner.on_outbound(self)
            case b"\x07" if self.welcome is None and not self._is_asked:
                self._is_asked = True
                self._owner.on_work_wanted(self, frames.read_work(body[1:]) or 0)
            case b"\x05" if len(body) == 1 + frames.PING_BYTES and self.unanswered:
                self._on_pong(_PING.unpack_from(body, 1)[0])

    def _on_pong(self, sent_ns: int) -> None:
        self.unanswered = 0
        rtt = max(1, (time.monotonic_ns() - sent_ns) // 1000)
        if rtt > self._owner.config.keepalive_s * 4_000_000:
            return  # not one of our pings: the peer made it up
        self.rtt_us = round(self.rtt_us + (rtt - self.rtt_us) * RTT_WEIGHT) if self.rtt_us else rtt
        self._owner.post(Rtt(self.peer, self.rtt_us))


class Inbound:
    """A frame stream that the peer opened.

    Attributes:
        stream: the stream; it is read here and answered on.
        is_greeted: the greeting was accepted.
        settled: set when it was, or when the stream ended before.
        closed: set when the stream is over.
    """

    def __init__(self, stream: SafeStream, link: Link, owner: LinkOwner, welcome: Greeting) -> None:
        self.stream = stream
        self.is_greeted = False
        self.settled = trio.Event()
        self.closed = trio.Event()
        self._link = link
        self._owner = owner
        self._welcome = welcome
        self._splitter = Splitter(frames.MAX_GREETING)
        self._unread: deque[bytes] = deque()
        self._is_reading = False
        self._slow_until = 0.0
        self._has_asked = False

    @property
    def peer(self) -> str:
        """Whose it is."""
        return self._link.peer

    def changed(self) -> None:
        """Reads what arrived, unless the link is not up yet or enough of the peer waits for the node."""
        stream = self.stream
        if self.closed.is_set():
            return
        try:
            if not self.is_greeted:
                self._unread.extend(self._splitter.feed(stream.take()))
                if self._unread:
                    self._on_hello(self._unread.popleft())
            if self.is_greeted and self._link.is_up and not self._is_reading:
                self._is_reading = True  # a ban changes the stream while an item of it is judged
                try:
                    self._read_items()
                finally:
                    self._is_reading = False
        except ValueError:
            self._owner.counters.add("refused.oversized")
            self._owner.blame(self._link.peer, Offence.OVERSIZED)
            self._give_up()
        if stream.is_reset or stream.received_end:
            self.settled.set()
            self.closed.set()

    def _read_items(self) -> None:
        now = trio.current_time()
        if now < self._slow_until:
            return
        while self._owner.may_hear(self.peer):
            if not self._unread:
                self._unread.extend(self._splitter.feed(self.stream.take()))
            if not self._unread:
                return
            self._on_item(self._unread.popleft(), now)
            if self.closed.is_set():
                return  # banned for that item: what lies behind it in the same read is not looked at
            if self._link.is_stuck(SLOW_AFTER_S, now):
                self._slow_until = now + SLOW_S
                self._owner.later(SLOW_S, self.changed)
                return
        self._owner.pause(self)

    def _on_item(self, body: bytes, now: float) -> None:
        if not self._link.admits(body, now):
            return
        kind = body[0] if body else -1
        if kind == Kind.FRAME:
            self._on_frame(body[1:], now)
        elif kind == Kind.PING and len(body) == 1 + frames.PING_BYTES:
            self._answer(frames.item(Kind.PONG, body[1:]))
        elif kind == Kind.BYE:
            self._link.said_bye = True

    def _on_frame(self, frame: bytes, now: float) -> None:
        if not self._link.heard(now):
            self._owner.let_go(self._link)
            return
        self._owner.counters["frames.in"] += 1
        self._owner.counters["bytes.in"] += len(frame)
        self._owner.hear(self._link.peer, frame)

    def _on_hello(self, body: bytes) -> None:
        greeting = frames.read_greeting(body[1:]) if body[:1] == bytes([Kind.HELLO]) else None
        if greeting is None:
            self._owner.counters.add("refused.malformed")
            self._owner.blame(self._link.peer, Offence.MALFORMED)
            self._give_up()
        elif greeting.network != self._welcome.network:
            self._owner.counters.add("refused.version")
            self._link.refusal = f"we speak {self._welcome.network}, you speak {greeting.network[:50]}"
            self._answer(frames.reason(Kind.REFUSED, self._link.refusal))
        elif lacking := self._owner.lacking_work(self._link.peer, greeting.work):
            self._ask_for_work(*lacking)
        else:
            self._splitter.max_body = frames.MAX_ITEM
            self.is_greeted = True
            self.settled.set()
            self._answer(frames.greeting(Kind.WELCOME, self._welcome))

    def _ask_for_work(self, shown: int, wanted: int) -> None:
        """Once; who then shows too little is refused and told so."""
        if self._has_asked:
            self._owner.counters.add("refused.work")
            self._link.refusal = f"proof of work: {format_count(shown, 'bit')} shown, {wanted} wanted"
            self._answer(frames.reason(Kind.REFUSED, self._link.refusal))
        else:
            self._has_asked = True
            self._answer(frames.work_wanted(wanted))

    def _give_up(self) -> None:
        self.settled.set()
        self.closed.set()
        self.stream.break_off()

    def _answer(self, data: bytes) -> None:
        """Answers on the same stream. A peer that leaves no window for answers does without."""
        if self.stream.send_left >= len(data):
            self.stream.write_some(memoryview(data))
            self.stream.muxed_conn.flush()
