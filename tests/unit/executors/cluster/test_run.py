from __future__ import annotations

from pathlib import Path

from dms.executors.cluster.engine import EngineJob
from dms.executors.cluster.files import RunDirectory, Spec
from dms.executors.cluster.run import GONE_LOOKS, PlacedRun
from dms_actors.ports import Exited, Started
from dms_proto.capability import NOTHING
from dms_proto.work import EndReason, Task


async def test_a_job_that_waits_again_after_it_was_started_is_lost_and_taken_out_of_the_queue(tmp_path: Path) -> None:
    files = RunDirectory(tmp_path / "a-1")
    files.create(Spec("a-1", NOTHING, Task("sandbox")))
    cancelled: list[str] = []

    async def cancel(job_id: str) -> None:
        cancelled.append(job_id)

    run = PlacedRun(files, "dask", "7", cancel, lambda: None)
    events = run.events()
    files.claim("machine")
    files.tell(Started(""))
    assert isinstance(await anext(events), Started)
    for _ in range(GONE_LOOKS):
        run.seen(EngineJob("7", is_running=False, detail="no worker has room for it"))

    last = await anext(events)

    assert isinstance(last, Exited)
    assert last.ending.reason is EndReason.PROVIDER_FAULT
    assert cancelled == ["7"]
