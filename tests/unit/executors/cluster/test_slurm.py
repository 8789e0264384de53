from __future__ import annotations

from pathlib import Path

import pytest

from dms.executors.cluster.engine import EngineError, EngineJob, Machine, Order
from dms.executors.cluster.slurm import capacity_of, jobs_of, submission
from dms.executors.settings import SlurmSettings
from dms_proto.capability import NOTHING, Gpu, Resources
from dms_proto.units import CORE, MIB, MINUTE, SECOND


def amount(cores: int, mib: int) -> Resources:
    return Resources(cpu_millicores=cores * CORE, memory_bytes=mib * MIB)


def order(**changes: object) -> Order:
    whole = {"command": ("runner",), "directory": Path("/shared/a"), "resources": amount(1, 1), "wall_ms": MINUTE}
    return Order(**(whole | changes))  # type: ignore[arg-type]


def test_whole_cores_mebibytes_and_minutes_are_asked_for_each_rounded_up() -> None:
    wanted = order(resources=Resources(1_001, 10 * MIB + 1), wall_ms=61 * SECOND)
    arguments = submission("dms-1-a", wanted, SlurmSettings())
    assert {"--job-name=dms-1-a", "--cpus-per-task=2", "--mem=11M", "--time=2", "--chdir=/shared/a"} <= set(arguments)
    assert not [each for each in arguments if each.startswith(("--partition", "--account"))]


def test_a_job_never_asks_for_nothing() -> None:
    arguments = submission("a", order(resources=NOTHING, wall_ms=0), SlurmSettings(partition="p", account="x"))
    assert {"--cpus-per-task=1", "--mem=1M", "--time=1", "--partition=p", "--account=x"} <= set(arguments)


def test_slurm_starts_nothing_twice_by_itself() -> None:
    assert "--no-requeue" in submission("a", order(), SlurmSettings())


def test_a_node_of_two_partitions_counts_once() -> None:
    found = capacity_of(
        "slurm 22", "one|idle|1/3/0/4|2000|500|(null)|gpu:0|\none|idle|1/3/0/4|2000|500|(null)|gpu:0|\n"
    )
    assert found.machines == (Machine("one", amount(4, 2000), amount(3, 1500)),)


@pytest.mark.parametrize("state", ["down", "drained", "idle*", "draining", "fail", "unknown", "reserved", "maint"])
def test_of_a_node_that_takes_no_jobs_nothing_is_idle(state: str) -> None:
    found = capacity_of(
        "slurm 22", f"one|mixed|1/3/0/4|2000|0|(null)|gpu:0|\ntwo|{state}|0/8/0/8|9000|0|(null)|gpu:0|\n"
    )
    assert found.machines[1] == Machine("two", amount(8, 9000), NOTHING, takes_jobs=False)
    assert found.whole == amount(12, 11_000)
    assert found.idle == amount(3, 2000)


def test_the_largest_size_comes_first_and_each_once() -> None:
    lines = (
        "a|idle|0/2/0/2|900|0|(null)|gpu:0|\nb|idle|0/4/0/4|100|0|(null)|gpu:0|\nc|idle|0/2/0/2|900|0|(null)|gpu:0|\n"
    )
    assert capacity_of("slurm", lines).sizes == (amount(4, 100), amount(2, 900))


@pytest.mark.parametrize(
    "line", ["nonsense", "a|idle|0/2/0|900|0|(null)|gpu:0|", "a|idle|0/2/0/2|much|0|(null)|gpu:0|"]
)
def test_an_answer_that_is_none_is_said(line: str) -> None:
    with pytest.raises(EngineError, match="not understood"):
        capacity_of("slurm", line)
    with pytest.raises(EngineError, match="not understood"):
        jobs_of(line if line.count("|") < 4 else "1|RUNNING")


def test_jobs_are_known_by_name_with_what_they_wait_for_or_where_they_are() -> None:
    found = jobs_of("7|PENDING|Resources||dms-1-a\n8|RUNNING|None|large|dms-1-b\n9|COMPLETING|None|large|a|b\n")
    assert found == {
        "dms-1-a": EngineJob("7", is_running=False, detail="Resources"),
        "dms-1-b": EngineJob("8", is_running=True, detail="large"),
        "a|b": EngineJob("9", is_running=True, detail="large"),
    }


def test_of_two_jobs_of_one_name_the_one_that_runs_counts() -> None:
    found = jobs_of("8|RUNNING|None|large|a\n9|PENDING|Priority||a\n")
    assert found["a"].id == "8"


def test_gpus_are_counted_by_kind_and_what_jobs_have_is_not_idle() -> None:
    (machine,) = capacity_of(
        "slurm 22", "one|mixed|1/3/0/4|2000|0|gpu:a100:2(S:0-1),gpu:2,nic:1|gpu:a100:1(IDX:1),gpu:0|\n"
    ).machines
    assert [gpu.model for gpu in machine.whole.gpus] == ["a100", "a100", "", ""]
    assert [gpu.model for gpu in machine.idle.gpus] == ["a100", "", ""]
    assert len({gpu.device for gpu in machine.whole.gpus}) == 4


def test_a_job_asks_for_gpus_by_their_kind_if_there_is_one() -> None:
    gpus = (Gpu(model="a100"), Gpu(model="a100"), Gpu())
    assert "--gres=gpu:a100:2,gpu:1" in submission(
        "n", order(resources=Resources(CORE, MIB, gpus=gpus)), SlurmSettings()
    )
    assert not [word for word in submission("n", order(), SlurmSettings()) if "gres" in word]
