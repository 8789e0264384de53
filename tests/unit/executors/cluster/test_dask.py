from __future__ import annotations

import sys

import pytest

from dms.executors.cluster.dask import (
    CORES,
    GPUS,
    MEMORY,
    Dask,
    Placed,
    jobs_of,
    key_of,
    machines_of,
    place_for,
    placed_of,
)
from dms.executors.cluster.engine import Capacity, EngineError, EngineJob, Machine
from dms.executors.settings import DaskSettings
from dms_proto.capability import NOTHING, Resources
from dms_proto.units import CORE, GIB

JOB = Placed("dms-1-a", 2, GIB)


def amount(cores: int, gib: int) -> Resources:
    return Resources(cpu_millicores=cores * CORE, memory_bytes=gib * GIB)


def worker(**changes: object) -> dict[str, object]:
    return {"resources": {"dms_cores": 4.0, "dms_memory": 8.0 * GIB}, "status": "running"} | changes


def test_a_key_says_what_its_job_takes_and_two_jobs_of_one_name_have_two() -> None:
    assert placed_of(key_of(JOB, "1")) == placed_of(key_of(JOB, "2")) == JOB
    assert key_of(JOB, "1") != key_of(JOB, "2")


@pytest.mark.parametrize("key", ["inc-1", "dms:a:2", "dms:a:two:1:x", "dms:a:-2:1:x", "dask:a:2:1:x", ("dms", 1), 7])
def test_the_tasks_of_others_are_none_of_ours(key: object) -> None:
    assert placed_of(key) is None


def test_what_nodes_have_placed_is_not_idle_and_the_tasks_of_others_are_not_counted() -> None:
    (machine,) = machines_of("tcp://s", {"tcp://w": worker()}, {"tcp://w": [key_of(JOB, "1"), "inc-1"]})
    assert machine == Machine("tcp://w", amount(4, 8), amount(2, 7))


@pytest.mark.parametrize("status", ["paused", "closing", "closing_gracefully"])
def test_of_a_worker_that_takes_no_tasks_nothing_is_idle(status: str) -> None:
    (machine,) = machines_of("tcp://s", {"tcp://w": worker(status=status)}, {})
    assert machine == Machine("tcp://w", amount(4, 8), NOTHING, takes_jobs=False)


def test_a_worker_that_gives_nothing_to_jobs_is_no_machine_and_if_none_does_it_is_said_how() -> None:
    silent = worker(resources={"dms_cores": 4.0})
    assert len(machines_of("tcp://s", {"tcp://a": silent, "tcp://b": worker()}, {})) == 1
    with pytest.raises(EngineError, match=r'no worker of tcp://s gives anything .* --resources "dms_cores'):
        machines_of("tcp://s", {"tcp://a": silent}, {})


def test_the_machine_with_the_least_room_that_is_enough_is_taken() -> None:
    rooms = {"a": amount(4, 8), "b": amount(2, 2), "c": amount(2, 1), "d": amount(1, 8)}
    capacity = Capacity("dask", tuple(Machine(name, amount(8, 8), idle) for name, idle in rooms.items()))
    assert place_for(Placed("n", 2, GIB), capacity) == "c"
    assert place_for(Placed("n", 2, 2 * GIB), capacity) == "b"
    assert place_for(Placed("n", 5, GIB), capacity) is None


def test_a_job_with_a_gpu_goes_where_one_is_free_and_one_without_elsewhere() -> None:
    workers = {
        where: {"resources": {CORES: 4, MEMORY: 8 * GIB} | gpus, "status": "running"}
        for where, gpus in {"tcp://a": {GPUS: 2}, "tcp://b": {GPUS: 1}, "tcp://c": {}}.items()
    }
    busy = {"tcp://b": [key_of(Placed("other", 1, GIB, gpus=1), "1")]}
    machines = machines_of("tcp://s", workers, busy)
    assert [(len(m.whole.gpus), len(m.idle.gpus)) for m in machines] == [(2, 2), (1, 0), (0, 0)]
    assert place_for(Placed("n", 1, GIB, gpus=1), Capacity("dask", machines)) == "tcp://a"
    assert place_for(Placed("n", 1, GIB), Capacity("dask", machines)) == "tcp://b"


def test_the_key_of_an_earlier_version_is_read_too() -> None:
    assert placed_of("dms:dms-1-a:2:1073741824:1f") == JOB
    assert placed_of(key_of(Placed("n", 1, GIB, gpus=3), "1f")) == Placed("n", 1, GIB, gpus=3)
    assert placed_of("dms:dms-1-a:2:x:1f") is None


def test_of_two_jobs_of_one_name_the_one_that_runs_counts() -> None:
    runs, waits = key_of(JOB, "1"), key_of(JOB, "2")
    for keys in ([runs, waits], [waits, runs]):
        assert jobs_of(keys, {runs: "tcp://w"}) == {JOB.name: EngineJob(runs, is_running=True, detail="tcp://w")}
    assert not jobs_of([waits], {})[JOB.name].is_running


async def test_without_its_client_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(EngineError, match=r"pip install 'dms\[dask\]'"):
        await Dask(DaskSettings("tcp://127.0.0.1:1")).capacity()
