"""The requester's hands: mirrors logs, fetches outputs. Implements `dms_actors.world.Collector`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final, NamedTuple

from dms.executors.outputs import why_too_much
from dms.node.arrivals import fetch_blob
from dms.node.comparing import Comparing
from dms.node.datasets import Datasets
from dms.node.doings import Doings
from dms.node.hands import Hands
from dms.node.holders import Teller
from dms.node.logs import STREAMS, LogStore
from dms.node.post import NodePost
from dms.store.blobs import BlobStore
from dms_actors.loop_calls import LoopCalls
from dms_actors.ports import Network
from dms_proto.data.chunks import Content
from dms_proto.errors import DmsError, MachineError
from dms_proto.ids import AllocationId, Digest, PeerId, RequestId
from dms_proto.machine import Stimulus
from dms_proto.market.auction_effects import Compare
from dms_proto.market.auction_stimuli import Collected
from dms_proto.market.auction_terms import Given
from dms_proto.messages import AllocationMessage, AllocationStatus, HoldersWanted
from dms_proto.messages.kinds import DOING
from dms_proto.units import format_count
from dms_proto.work import Task

log = logging.getLogger(__name__)

TRIES: Final = 5
"""Times a missing piece of a log is asked for in vain before the provider counts as lost with it."""


class Pace(NamedTuple):
    """How long a missing log is waited for.

    Attributes:
        wait_s: seconds without a byte before it is asked for again.
        pause_s: the same once something came: what the provider's queue took has arrived, and there is room for more.
        own_s: seconds in which this node's own disk may become able to keep the results. Their provider has them for a day.
        own_pause_s: seconds between two tries meanwhile.
        slowest: bytes per second at the least, as for inputs (`data.transfer.SLOWEST_BYTES_PER_MS`): a provider that drips is not waited for.
    """

    wait_s: float = 3.0
    own_s: float = 300.0
    own_pause_s: float = 5.0
    pause_s: float = 0.25
    slowest: int = 64_000


PACE: Final = Pace()


class _Failed(NamedTuple):
    """Why results are not here; empty: they are. `ours`: this node cannot keep them, whoever gives them."""

    why: str = ""
    ours: bool = False


class _Expected(NamedTuple):
    request_id: RequestId
    provider: PeerId
    task: Task
    log_bytes: int
    """Most that the job may write: what a provider sends beyond it is not kept."""


class Collector:
    """One per node."""

    def __init__(
        self,
        *,
        calls: LoopCalls,
        me: PeerId,
        blobs: BlobStore,
        datasets: Datasets,
        logs: LogStore,
        network: Network,
        post: NodePost,
        teller: Teller,
        tell: Callable[[RequestId, Stimulus], None],
        pace: Pace = PACE,
    ) -> None:
        self._pace = pace
        self._hands = Hands(calls)
        self._comparing = Comparing(blobs, logs)
        self._compared: set[RequestId] = set()
        """Requests whose results are being compared, or have been."""
        self._me = me
        self._blobs = blobs
        self._datasets = datasets
        self.logs = logs
        self.doings = Doings()
        self._network = network
        self._post = post
        self._teller = teller
        self._tell = tell
        self._expected: dict[AllocationId, _Expected] = {}
        self._of_request: dict[RequestId, list[AllocationId]] = {}
        self._asked: dict[tuple[AllocationId, str], float] = {}
        """When a gap in a stream was last asked to be filled, on the loop's clock."""
        self._unwritten: dict[AllocationId, str] = {}
        """Why bytes of a log that came could not be written."""

    # -------------------------------------------------------------------------------------------------- Collector, any thread

    def expect(self, request_id: RequestId, provider: PeerId, allocation_id: AllocationId, task: Task) -> None:
        """See `world.Collector`."""
        self._expected[allocation_id] = _Expected(request_id, provider, task, task.limits.log_bytes)
        self._of_request.setdefault(request_id, []).append(allocation_id)

    def forget(self, request_id: RequestId) -> None:
        """See `world.Collector`."""
        self._compared.discard(request_id)
        for allocation_id in self._of_request.pop(request_id, ()):
            over = self._expected.pop(allocation_id, None)
            if over is not None:
                self._hands.call(self.had, over.provider, over.task)
            self.doings.forget(allocation_id)
            self._unwritten.pop(allocation_id, None)
            for stream in STREAMS:
                self._asked.pop((allocation_id, stream), None)

    def is_complete(self, status: AllocationStatus) -> bool:
        """See `world.Collector`."""
        is_whole = self.logs.known(status.allocation_id, status.log_bytes) == status.log_digests
        return not status.outputs and is_whole and not any(self._missing(status))

    def collect(self, request_id: RequestId, provider: PeerId, status: AllocationStatus) -> None:
        """See `world.Collector`."""
        self._hands.start(lambda: self._collect(request_id, provider, status), f"collect {status.allocation_id}")

    def compare(self, request_id: RequestId, wanted: Compare) -> None:
        """See `world.Collector`."""
        self._compared.add(request_id)
        self._hands.start(lambda: self._compare_results(request_id, wanted), f"compare {request_id}")

    def is_here(self, given: Given) -> bool:
        """See `world.Collector`."""
        return self._comparing.is_here(given)

    # ------------------------------------------------------------------------------------------------------------- on the loop

    def may_read(self, peer: PeerId, digest: Digest) -> bool:
        """Whether a blob is an input of an allocation that this peer runs for us, or belongs to one."""
        expected = tuple(self._expected.values())  # one step: orchestrators add and remove on the actors' thread
        return any(one.provider == peer and self._datasets.is_of(one.task, digest) for one in expected)

    def providers(self) -> set[PeerId]:
        """The nodes that have work of this one."""
        return {expected.provider for expected in tuple(self._expected.values())}

    def holders_wanted(self, peer: PeerId, asked: HoldersWanted) -> None:
        """Answers the provider of an allocation of ours that asks who else has what it reads."""
        expected = self._expected.get(asked.allocation_id)
        if expected is not None and (expected.provider, expected.request_id) == (peer, asked.request_id):
            with_it = (self._expected.get(each) for each in self._of_request.get(expected.request_id, ()))
            beside = [other.provider for other in with_it if other is not None]
            task = expected.task
            self._hands.start(lambda: self._teller.answer(peer, asked, task, beside), f"holders for {peer}")

    def had(self, provider: PeerId, task: Task) -> None:
        """Takes note of a node that had a task of ours."""
        self._teller.note(provider, task)

    def log_arrived(self, peer: PeerId, message: AllocationMessage) -> None:
        """Keeps log bytes from the provider of an allocation of ours; asks again where there is a gap."""
        expected = self._expected.get(message.allocation_id)
        if expected is None or expected.provider != peer:
            return
        if message.channel == DOING:
            self._heard_doing(message)
        if message.channel not in STREAMS:
            return
        if not self.logs.end(message.allocation_id, message.channel):
            self.had(peer, expected.task)  # it has begun, so what it reads is there
        other = self.logs.end(message.allocation_id, STREAMS[message.channel == STREAMS[0]])
        if message.offset + len(message.data) + other > expected.log_bytes:
            log.warning("peer %s sends more of a log than the job may write: not kept", peer)
            return
        try:
            is_joined = self.logs.append(message.allocation_id, message.channel, message.offset, message.data)
        except OSError as error:
            self._not_written(message.allocation_id, error)
            return
        if not is_joined:
            self._ask_to_fill(expected, message.allocation_id, message.channel)

    def _not_written(self, allocation_id: AllocationId, error: OSError) -> None:
        """It is asked for again at the end of the run."""
        why = f"its log cannot be written: {error.strerror}"
        if self._unwritten.get(allocation_id) != why:
            log.warning("%s: %s", allocation_id, why)
        self._unwritten[allocation_id] = why

    def _heard_doing(self, message: AllocationMessage) -> None:
        self.doings.said(message.allocation_id, message.data)
        if message.allocation_id not in self._expected:
            self.doings.forget(message.allocation_id)  # its request ended in this moment, on the actors' thread

    def _ask_to_fill(self, expected: _Expected, allocation_id: AllocationId, stream: str) -> None:
        """Asks once for what every message that comes meanwhile shows to be missing."""
        now, key = asyncio.get_running_loop().time(), (allocation_id, stream)
        if now - self._asked.get(key, -self._pace.pause_s) >= self._pace.pause_s:
            self._asked[key] = now
            self._ask_for(expected, allocation_id, stream)

    async def close(self) -> None:
        """Gives up what is under way."""
        await self._hands.close()
        self.logs.close()

    def _missing(self, status: AllocationStatus) -> tuple[bool, bool]:
        out, err = self.logs.lengths(status.allocation_id)
        return out < status.log_bytes[0], err < status.log_bytes[1]

    def _ask_for(self, expected: _Expected, allocation_id: AllocationId, stream: str) -> None:
        offset = self.logs.length(allocation_id, stream)
        wanted = AllocationMessage(expected.request_id, allocation_id, f"want:{stream}", offset)
        self._post.send_now(expected.provider, wanted)

    async def _collect(self, request_id: RequestId, provider: PeerId, status: AllocationStatus) -> None:
        failed = await self._had(provider, status)
        clock = asyncio.get_running_loop().time
        until = clock() + self._pace.own_s
        while failed.ours and clock() < until and status.allocation_id in self._expected:
            log.warning("results of %s wait: %s; free some space", status.allocation_id, failed.why)
            await asyncio.sleep(self._pace.own_pause_s)
            failed = await self._had(provider, status)
        self._tell(request_id, Collected(status.allocation_id, failed.why, failed.ours))

    async def _had(self, provider: PeerId, status: AllocationStatus) -> _Failed:
        """Brings what is not here yet."""
        try:
            failed = why_too_much(status.outputs) or await self._fetch_logs(status)
            for output in status.outputs:
                failed = failed or await self._bring(provider, Content(output.digest, output.size, output.chunks))
        except MachineError as error:
            return _Failed(error.message, ours=True)
        return _Failed(failed)

    async def _compare_results(self, request_id: RequestId, wanted: Compare) -> None:
        said = await self._comparing.compare(request_id, wanted, lambda: request_id in self._compared)
        if said is not None:
            self._tell(request_id, said)

    async def _bring(self, provider: PeerId, output: Content) -> str:
        """Fetches one output, unless it is here; then it is as its provider says, too: the next attempt is to fetch it by that.

        Raises:
            MachineError: this node cannot.
        """
        if self._blobs.use(output.digest) is None:
            return await self._fetch(provider, output)
        if provider == self._me:
            return ""
        try:
            here = Content(output.digest, self._blobs.size(output.digest))
            if output.chunks:
                here = await asyncio.to_thread(self._blobs.put_list, output.digest)
        except MachineError:
            raise
        except DmsError as error:
            return error.message
        return "" if here == output else f"{output.digest} is here, and is not as its provider says"

    async def _fetch(self, provider: PeerId, output: Content) -> str:
        """Fetches one output.

        Raises:
            MachineError: this node cannot.
        """
        if provider == self._me:
            return "it is not in this node's own blob store"
        try:
            await fetch_blob(self._network, self._blobs, (provider,), output)
        except MachineError:
            raise
        except DmsError as error:
            return error.message
        return ""

    async def _fetch_logs(self, status: AllocationStatus) -> str:
        """Asks for what is missing until it is here. The provider sends as much as its queue takes, so that a long log comes in many pieces.

        Raises:
            MachineError: what comes cannot be written.
        """
        self._unwritten.pop(status.allocation_id, None)
        expected = self._expected.get(status.allocation_id)
        if expected is None:
            return "it is expected no more"
        if sum(status.log_bytes) > expected.log_bytes:
            return f"its log is said to have {format_count(sum(status.log_bytes), 'byte')}, more than the job may write"
        clock = asyncio.get_running_loop().time
        missing_bytes = sum(status.log_bytes) - sum(self.logs.lengths(status.allocation_id))
        until = clock() + TRIES * self._pace.wait_s + missing_bytes / self._pace.slowest
        tries = TRIES
        while tries and clock() < until:
            missing = [stream for stream, is_short in zip(STREAMS, self._missing(status), strict=True) if is_short]
            if not missing:
                return await self._compare(status)
            for stream in missing:
                self._ask_for(expected, status.allocation_id, stream)
            tries = TRIES if await self._has_grown(status, until) else tries - 1
        if (why := self._unwritten.get(status.allocation_id)) is not None:
            raise MachineError("store_failed", why)
        return "parts of its log are missing"

    async def _compare(self, status: AllocationStatus) -> str:
        """Whether what the provider has signed is what it sent."""
        there = await self.logs.digests(status.allocation_id, status.log_bytes)
        differ = [name for name, ours, stated in zip(STREAMS, there, status.log_digests, strict=True) if ours != stated]
        return f"its {' and '.join(differ)} is not what it has signed" if differ else ""

    async def _has_grown(self, status: AllocationStatus, until: float) -> bool:
        """Returns when the logs are whole, or grow no longer, or at `until` on the loop's clock; whether anything came."""
        has_grown, wait = False, self._pace.wait_s
        while any(self._missing(status)) and asyncio.get_running_loop().time() < until:
            try:
                async with asyncio.timeout(wait):
                    await self.logs.growth(status.allocation_id).wait()
            except TimeoutError:
                return has_grown
            has_grown, wait = True, self._pace.pause_s
        return has_grown
