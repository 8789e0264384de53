from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from dms.executors.cluster.engine import EngineJob
from dms.executors.cluster.files import RunDirectory, Spec
from dms.executors.cluster.run import GONE_LOOKS, SILENT_S, PlacedRun
from dms_actors.ports import Exited, Started, UsageSample
from dms_proto.capability import NOTHING
from dms_proto.errors import UserError
from dms_proto.tunnels import Target, ToPort
from dms_proto.work import EndReason, Task, Usage


class Placed:
    """A run that a runner has begun."""

    def __init__(self, path: Path) -> None:
        self.files = RunDirectory(path)
        self.files.create(Spec(path.name, NOTHING, Task("sandbox")))
        self.cancelled: list[str] = []
        self.run = PlacedRun(self.files, "dask", "7", cancel=self._cancel, lead=self._lead, done=lambda: None)
        self.events = self.run.events()
        self.files.claim("machine")
        self.files.tell(Started(""))

    async def _lead(self, target: Target) -> socket.socket:
        raise UserError("not_listening", str(target))

    async def _cancel(self, job_id: str) -> None:
        self.cancelled.append(job_id)


@pytest.fixture
def placed(tmp_path: Path) -> Placed:
    return Placed(tmp_path / "a-1")


async def test_a_job_that_waits_again_after_it_was_started_is_lost_and_taken_out_of_the_queue(placed: Placed) -> None:
    assert isinstance(await anext(placed.events), Started)
    for _ in range(GONE_LOOKS):
        placed.run.seen(EngineJob("7", is_running=False, detail="no worker has room for it"))

    last = await anext(placed.events)

    assert isinstance(last, Exited)
    assert last.ending.reason is EndReason.PROVIDER_FAULT
    assert "knows job 7 no more" in last.ending.detail
    assert placed.cancelled == ["7"]


async def test_a_run_whose_engine_and_runner_are_silent_is_lost(placed: Placed) -> None:
    placed.run.unanswered(time.monotonic() + 10 * SILENT_S)  # nothing was heard of a start: it may wait
    assert isinstance(await anext(placed.events), Started)
    placed.run.unanswered(time.monotonic() + SILENT_S - 1)
    placed.files.tell(UsageSample(Usage(wall_ms=1_000)))
    assert isinstance(await anext(placed.events), UsageSample)

    placed.run.unanswered(time.monotonic() + SILENT_S + 1)
    last = await anext(placed.events)

    assert isinstance(last, Exited)
    assert last.ending.reason is EndReason.PROVIDER_FAULT
    assert last.ending.detail == "dask does not answer, and the runner of job 7 has said nothing for 120 s"
    assert last.ending.usage.wall_ms == 1_000


async def test_an_engine_that_answers_again_has_the_say(placed: Placed) -> None:
    assert isinstance(await anext(placed.events), Started)
    placed.run.unanswered(time.monotonic() + SILENT_S + 1)
    placed.run.seen(EngineJob("7", is_running=True))
    placed.files.tell(UsageSample(Usage(wall_ms=1_000)))
    assert isinstance(await anext(placed.events), UsageSample)


async def test_nothing_leads_into_what_waits_or_is_over(placed: Placed) -> None:
    with pytest.raises(UserError, match="port=80"):
        await placed.run.connect(ToPort(80))
    claim = placed.files.path / "claim"
    claim.unlink()
    with pytest.raises(UserError, match="waits in the queue of dask"):
        await placed.run.connect(ToPort(80))
    await placed.run.stop(0)
    with pytest.raises(UserError, match="the job is over"):
        await placed.run.connect(ToPort(80))
