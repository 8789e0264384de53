from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from dms.executors.cluster.engine import EngineError, EngineJob, Machine, Order
from dms.executors.cluster.files import RunDirectory, Spec, end_is_noted
from dms.executors.cluster.ray import (
    WAITS,
    Nodes,
    Ray,
    RayJob,
    UnknownToRayError,
    jobs_of,
    machines_of,
    refusal_of,
    submission,
    used_of,
)
from dms.executors.settings import RaySettings
from dms_proto.capability import NOTHING, Gpu, Resources
from dms_proto.units import CORE, GIB, MIB

WHOLE = Resources(cpu_millicores=4 * CORE, memory_bytes=8 * GIB)


def listed(used: str = "", **changes: object) -> Nodes:
    raylet = {
        "nodeId": "abc",
        "nodeManagerAddress": "10.0.0.7",
        "state": "ALIVE",
        "resourcesTotal": {"CPU": 4.0, "memory": 8.0 * GIB, "node:10.0.0.7": 1.0},
        "stateSnapshot": {"state": "ACTIVE"},
    }
    said = {"summary": [{"raylet": raylet | changes}], "nodeLogicalResources": {"abc": used}}
    return msgspec.convert(said, Nodes)


def test_what_others_run_is_none_of_ours() -> None:
    by_hand = {"type": "DRIVER", "status": "RUNNING", "submission_id": None, "metadata": {}, "message": None}
    submitted = {"type": "SUBMISSION", "status": "PENDING", "submission_id": "raysubmit_1", "metadata": None}
    assert [job.name for job in msgspec.convert([by_hand, submitted], tuple[RayJob, ...])] == ["", ""]


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    run = RunDirectory(tmp_path / "runs" / "a-1")
    run.create(Spec("a-1", NOTHING))
    return run


def job(run: RunDirectory, status: str, **changes: object) -> RayJob:
    ours = {"dms_run": "dms-1-a-1", "dms_directory": str(run.path)}
    told = RayJob(status, f"dms-1-a-1-{status}", ours, driver_agent_http_address="http://10.0.0.7:52365")
    return msgspec.structs.replace(told, **changes)


@pytest.mark.parametrize(
    ("lines", "used"),
    [
        ("0.0/4.0 CPU\n0B/8.00GiB memory\n0B/76.29MiB object_store_memory", NOTHING),
        ("1.5/4.0 CPU\n1.00GiB/8.00GiB memory", Resources(1_500, GIB)),
        ("0.30000000000000004/4.0 CPU\n512.00MiB/8.00GiB memory\n1.0/1.0 GPU", Resources(300, 512 * MIB)),
        ("0.0/4.0 CPU (0.0 used of 3.0 reserved in placement groups)", Resources(cpu_millicores=3 * CORE)),
        ("2.0/4.0 CPU (1.0 used of 3.0 reserved in placement groups)", Resources(cpu_millicores=4 * CORE)),
        (
            "0B/8.00GiB memory (0B used of 2.00GiB reserved in placement groups)",
            Resources(memory_bytes=2 * GIB),
        ),
        ("", NOTHING),
    ],
    ids=["idle", "used", "a gpu too", "held by a group", "used in a group and beside it", "memory of a group", "new"],
)
def test_what_is_taken_is_read_from_words(lines: str, used: Resources) -> None:
    assert used_of(lines) == used


def test_a_machine_has_what_others_left_of_it() -> None:
    (machine,) = machines_of("http://h", listed("1.0/4.0 CPU\n3.00GiB/8.00GiB memory"))
    assert machine == Machine("10.0.0.7", WHOLE, Resources(cpu_millicores=3 * CORE, memory_bytes=5 * GIB))


def test_of_a_machine_that_is_drained_nothing_is_idle() -> None:
    (machine,) = machines_of("http://h", listed(stateSnapshot={"state": "DRAINING"}))
    assert machine == Machine("10.0.0.7", WHOLE, NOTHING, takes_jobs=False)


@pytest.mark.parametrize("changes", [{"state": "DEAD"}, {"resourcesTotal": {"memory": 8.0 * GIB}}])
def test_the_dead_and_a_head_without_cores_are_no_machines(changes: dict[str, object]) -> None:
    with pytest.raises(EngineError, match="no machine of http://h is alive"):
        machines_of("http://h", listed(**changes))


def test_a_runner_gets_its_directory_and_its_share_and_nothing_of_rays_environment() -> None:
    order = Order(("/venv/bin/python", "-m", "runner", "/s h/a-1"), Path("/s h/a-1"), Resources(500, 256 * MIB), 1)
    asked = submission("dms-1-a-1", "dms-1-a-1-x", order)
    begin = str(asked["entrypoint"])
    assert begin.startswith("cd '/s h/a-1' && exec env -i ${PATH:+PATH=\"$PATH\"} ")
    assert begin.endswith(" /venv/bin/python -m runner '/s h/a-1' >> runner.log 2>&1")
    assert (asked["entrypoint_num_cpus"], asked["entrypoint_memory"]) == (0.5, 256 * MIB)


def test_what_waits_and_what_runs_are_jobs_and_of_two_of_one_name_the_one_that_runs(run: RunDirectory) -> None:
    waits, runs = job(run, "PENDING"), job(run, "RUNNING")
    assert jobs_of([waits]) == {waits.name: EngineJob(waits.id, is_running=False, detail=WAITS)}
    for both in ([waits, runs], [runs, waits]):
        assert jobs_of(both) == {runs.name: EngineJob(runs.id, is_running=True, detail="10.0.0.7")}
    assert jobs_of([job(run, status) for status in ("STOPPED", "SUCCEEDED", "FAILED")]) == {}


def test_one_that_waits_and_would_run_nothing_is_no_job(run: RunDirectory) -> None:
    run.claim("stopped")
    assert jobs_of([job(run, "PENDING")]) == {}
    run.remove()
    assert jobs_of([job(run, "PENDING")]) == {}


def test_why_a_job_failed_is_noted_once(run: RunDirectory) -> None:
    failed = job(run, "FAILED", message="Job supervisor actor died: \n\tpid: 7\n\tits node was terminated")
    assert end_is_noted(failed.directory, failed.failure)
    assert end_is_noted(failed.directory, failed.failure)
    assert (run.path / "runner.log").read_text() == "its node was terminated\n"


def test_a_job_stays_on_the_list_until_ray_has_looked_after_it(run: RunDirectory) -> None:
    ended = job(run, "STOPPED", end_time=1_000_000)
    assert not ended.is_settled(1_029.0)
    assert ended.is_settled(1_031.0)
    assert not job(run, "RUNNING").is_settled(1_031.0)


def test_what_the_runner_said_itself_stays_the_last_word(run: RunDirectory) -> None:
    run.complain("no bubblewrap here")
    assert end_is_noted(run.path, job(run, "FAILED", message="failed with exit code 1").failure)
    assert run.complaint() == "no bubblewrap here"


def test_the_ends_of_other_nodes_jobs_are_left_to_them(run: RunDirectory, tmp_path: Path) -> None:
    theirs = RunDirectory(tmp_path / "elsewhere" / "a-1")
    assert not end_is_noted(theirs.path, "")
    assert not end_is_noted(job(run, "STOPPED", metadata={"dms_run": "x"}).directory, "")
    run.remove()
    assert end_is_noted(run.path, "")


def test_a_refusal_says_what_to_do() -> None:
    assert "executors.ray_token_file" in refusal_of("http://h", 403, "Forbidden").message
    assert isinstance(refusal_of("http://h", 404, ""), UnknownToRayError)
    said = "Traceback:\n  File x\nValueError: no such resource"
    assert refusal_of("http://h", 400, said).message == "http://h: ValueError: no such resource"
    assert refusal_of("http://h", 502, "").message == "http://h answers 502"


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        (RaySettings("http://127.0.0.1:1"), "http://127.0.0.1:1 does not answer: Connect call failed"),
        (RaySettings("10.0.0.1:8265"), "10.0.0.1:8265 does not answer"),
        (RaySettings("http://127.0.0.1:1", "/no/such/token"), "executors.ray_token_file cannot be read"),
    ],
)
async def test_who_does_not_answer_is_named(settings: RaySettings, why: str) -> None:
    engine = Ray(settings)
    with pytest.raises(EngineError) as error:
        await engine.capacity()
    assert error.value.message.startswith(why)
    await engine.close()


def test_gpus_are_counted_and_a_part_of_one_that_is_used_is_none() -> None:
    gives = {"CPU": 4, "memory": 8 * GIB, "GPU": 3, "accelerator_type:A100": 1}
    (machine,) = machines_of("http://h", listed("0.5/3.0 GPU\n0.0/1.0 accelerator_type:A100", resourcesTotal=gives))
    assert [gpu.model for gpu in machine.whole.gpus] == ["A100"] * 3
    assert len(machine.idle.gpus) == 2


def test_a_job_asks_for_gpus_and_for_where_their_kind_is() -> None:
    order = Order(
        ("python",), Path("/shared"), Resources(CORE, GIB, gpus=(Gpu(model="A100"), Gpu(model="A100"))), 1_000
    )
    asked = submission("n", "n-1", order)
    assert asked["entrypoint_num_gpus"] == 2
    assert asked["entrypoint_resources"] == {"accelerator_type:A100": 0.001}
