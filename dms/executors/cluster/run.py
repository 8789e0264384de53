"""One task on a machine of the cluster, as the node follows it: by its runner's files, and by what the engine says of its job."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Final

from dms.executors.cluster.engine import EngineJob
from dms.executors.cluster.files import RunDirectory
from dms.executors.cluster.handover import HandoverError, seal
from dms_actors.ports import (
    EgressRefused,
    ExecutorEvent,
    Exited,
    LogChunk,
    OpenSecrets,
    Preparing,
    Started,
    UsageSample,
)
from dms_proto.capability import Resources
from dms_proto.errors import MachineError, UserError
from dms_proto.tunnels import Target
from dms_proto.work import Ending, EndReason, Usage

LOOK_S: Final = 0.2
"""Between two looks at the runner's files."""
GONE_LOOKS: Final = 3
"""So often in a row the engine has to know no such job, before the run counts as lost: the last words of its runner may be on their way."""
SILENT_S: Final = 120.0
"""How long a runner may say nothing while its engine does not answer, before the run counts as lost. It tells each second what its task uses."""
STREAMS: Final = ("stdout", "stderr")


class PlacedRun:
    """Implements `dms_actors.ports.Run`; lives on the node's loop.

    Args:
        files: of the run.
        engine: its name.
        job_id: of the engine's job; empty while unknown.
        cancel: ends the engine's job.
        lead: gives a connection to something in it; see `Run.connect`.
        done: called once the end was delivered.
        secrets: opens those of the task, when its runner asks for them; None: it has none.
    """

    def __init__(
        self,
        files: RunDirectory,
        engine: str,
        job_id: str,
        *,
        cancel: Callable[[str], Awaitable[None]],
        lead: Callable[[Target], Awaitable[socket.socket]],
        done: Callable[[], None],
        secrets: OpenSecrets | None = None,
    ) -> None:
        self._files = files
        self._engine = engine
        self._job_id = job_id
        self._cancel = cancel
        self._lead = lead
        self._done = done
        self._secrets = secrets
        self._offsets = dict.fromkeys(STREAMS, 0)
        self._has_started = False
        self._waits_for = ""
        self._told_of_waiting = ""
        self._last = Usage()
        self._gone = 0
        self._heard = time.monotonic()
        self._why = ""
        self._ending: Ending | None = None

    def seen(self, job: EngineJob | None) -> None:
        """What the engine says now: its job; None: there is no such job. One that waits although it was started has lost its machine."""
        is_there = job is not None and (job.is_running or not self._has_started)
        self._gone = 0 if is_there else self._gone + 1
        self._why = ""
        if job is not None:
            self._job_id = job.id
            self._waits_for = "" if job.is_running else job.detail

    def unanswered(self, now: float) -> None:
        """The engine does not say how its jobs are. A run goes on without it, unless its runner is silent as well: it ended with its engine."""
        if self._has_started and now > self._heard + SILENT_S:
            self._why = f"{self._engine} does not answer, and the runner of job {self._job_id} has said nothing for {SILENT_S:.0f} s"
            self._gone = GONE_LOOKS

    async def events(self) -> AsyncIterator[ExecutorEvent]:
        """See `Run.events`."""
        while True:
            lost = self._gone >= GONE_LOOKS  # before the last look at the files: what was there then is heard
            for event in self._new_events():
                yield event
            if self._secrets is not None and (key := self._files.key()):
                await self._give(self._secrets, key)
            if self._ending is None and lost:
                self._ending = self._lost()
                await self._cancel(self._job_id)
            if self._ending is not None:
                yield Exited(self._ending)
                self._done()
                return
            await asyncio.sleep(LOOK_S)

    async def stop(self, grace_ms: int) -> None:
        """See `Run.stop`. A run that no runner has taken is taken away from the engine."""
        if self._ending is not None:
            return
        if self._files.claim("stopped"):
            self._ending = Ending(EndReason.CANCELLED, -1, "stopped before it was started")
            await self._cancel(self._job_id)
        else:
            await asyncio.to_thread(self._files.ask_to_stop, grace_ms)

    async def freeze(self, until_ms: int) -> None:
        """See `Run.freeze`: it cannot be. The engine's clock would go on, and what a machine has for others is the engine's to say."""
        raise MachineError("sandbox_failed", "a job on a cluster cannot be frozen")

    async def thaw(self) -> None:
        """See `Run.thaw`."""

    async def resize(self, resources: Resources) -> None:
        """See `Run.resize`: it cannot be. What an engine has given to a job stays as it was."""
        raise UserError("not_resizable", "what runs on a cluster keeps the size it was started with")

    async def connect(self, target: Target) -> socket.socket:
        """See `Run.connect`."""
        if self._ending is not None:
            raise UserError("not_running", "the job is over")
        if self._files.is_wanted():
            raise UserError("not_running", f"the job waits in the queue of {self._engine}", retryable=True)
        return await self._lead(target)

    async def _give(self, secrets: OpenSecrets, key: bytes) -> None:
        """Hands the secrets over and lets go of them. What cannot be opened any more, as after the node's key was changed, begins nothing."""
        self._secrets = None
        try:
            sealed = seal(self._files.path.name, secrets(), key)
        except (UserError, HandoverError) as error:
            reason = EndReason.BAD_PROGRAM if isinstance(error, UserError) else EndReason.PROVIDER_FAULT
            self._ending = Ending(reason, -1, str(error))
            await asyncio.to_thread(self._files.ask_to_stop, 0)
            await self._cancel(self._job_id)
        else:
            await asyncio.to_thread(self._files.give_secrets, sealed)

    def _new_events(self) -> Iterator[ExecutorEvent]:
        """Events come before output, since the runner writes of the start before it writes what follows it; and the end is kept to the last."""
        for event in self._files.new_events():
            self._heard = time.monotonic()
            match event:
                case Started():
                    self._has_started = True
                    yield Started(f"{self._engine}:{self._job_id}")
                case UsageSample(usage=usage):
                    self._last = usage
                    yield event
                case EgressRefused():
                    yield event
                case Exited(ending=ending):
                    self._ending = ending
        if self._has_started:
            for stream in STREAMS:
                while data := self._files.output(stream, self._offsets[stream]):
                    yield LogChunk(stream, self._offsets[stream], data)
                    self._offsets[stream] += len(data)
        elif self._waits_for != self._told_of_waiting:
            self._told_of_waiting = self._waits_for
            why = f": {self._waits_for}" if self._waits_for else ""
            yield Preparing(f"it waits in the queue of {self._engine}{why}")

    def _lost(self) -> Ending:
        self._files.claim("lost")
        complaint = self._files.complaint()
        why = self._why or f"{self._engine} knows job {self._job_id} no more, and its runner said nothing of an end"
        return Ending(EndReason.PROVIDER_FAULT, -1, f"{why}: {complaint}" if complaint else why, self._last)
