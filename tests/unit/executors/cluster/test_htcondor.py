from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from dms.executors.cluster.engine import EngineError, EngineJob, Machine, Order
from dms.executors.cluster.htcondor import (
    WAITS,
    Htcondor,
    QueuedJob,
    Slot,
    capacity_of,
    jobs_of,
    machine_of,
    submission,
)
from dms.executors.cluster.htcondor_bindings import Answer
from dms.executors.settings import HtcondorSettings
from dms_proto.capability import NOTHING, Gpu, Resources
from dms_proto.units import CORE, MIB, MINUTE

PARTITIONABLE = Slot("slot1@a", "Partitionable", "Unclaimed", 3.0, 500, 8.0, 9000)
STATIC = Slot("slot2@a", "Static", "Unclaimed", 2.0, 1000)
QUEUED = QueuedJob("dms-1-a", 7, 0, 1, "/shared/a")


def amount(cores: int, mib: int) -> Resources:
    return Resources(cpu_millicores=cores * CORE, memory_bytes=mib * MIB)


def order(**changes: object) -> Order:
    whole = {"command": ("runner",), "directory": Path("/shared/a"), "resources": amount(1, 1), "wall_ms": MINUTE}
    return Order(**(whole | changes))  # type: ignore[arg-type]


def changed(job: QueuedJob, **changes: object) -> QueuedJob:
    return msgspec.structs.replace(job, **changes)


def test_whole_cores_and_mebibytes_are_asked_for_both_rounded_up() -> None:
    asked = submission("dms-1-a", order(resources=Resources(1_001, 10 * MIB + 1)), HtcondorSettings())
    assert (asked["request_cpus"], asked["request_memory"]) == ("2", "11")
    asked = submission("dms-1-a", order(resources=NOTHING), HtcondorSettings())
    assert (asked["request_cpus"], asked["request_memory"]) == ("1", "1")


def test_a_job_is_booked_where_the_owner_says() -> None:
    assert "accounting_group" not in submission("a", order(), HtcondorSettings())
    assert submission("a", order(), HtcondorSettings(accounting_group="market"))["accounting_group"] == "market"


def test_of_a_partitionable_slot_a_job_gets_what_is_left_and_of_a_static_one_all_or_nothing() -> None:
    assert machine_of(PARTITIONABLE) == Machine("slot1@a", amount(8, 9000), amount(3, 500))
    assert machine_of(STATIC) == Machine("slot2@a", amount(2, 1000), amount(2, 1000))
    claimed = msgspec.structs.replace(STATIC, state="Claimed")
    assert machine_of(claimed) == Machine("slot2@a", amount(2, 1000), NOTHING)


def test_gpus_are_counted_by_the_name_of_their_device() -> None:
    machine = machine_of(msgspec.structs.replace(PARTITIONABLE, gpus=1, total_slot_gpus=4, gpu_kind="A100"))
    assert [gpu.model for gpu in machine.whole.gpus] == ["A100"] * 4
    assert machine.idle.gpus == machine.whole.gpus[:1]
    assert machine_of(msgspec.structs.replace(PARTITIONABLE, total_slot_gpus=0)).whole.gpus == ()


def test_gpus_are_asked_for_by_that_name_where_there_is_one() -> None:
    def asked(*kinds: str) -> tuple[str | None, str | None]:
        wanted = Resources(CORE, MIB, gpus=tuple(Gpu(model=kind) for kind in kinds))
        said = submission("a", order(resources=wanted), HtcondorSettings())
        return said.get("request_gpus"), said.get("require_gpus")

    assert asked() == (None, None)
    assert asked("") == ("1", None)
    assert asked("A100", "A100") == ("2", 'DeviceName == "A100"')


@pytest.mark.parametrize("changes", [{"state": "Owner"}, {"state": "Drained"}, {"offline": True}])
@pytest.mark.parametrize("slot", [PARTITIONABLE, STATIC])
def test_a_slot_whose_owner_has_it_or_that_is_drained_or_asleep_takes_no_jobs(
    slot: Slot, changes: dict[str, object]
) -> None:
    machine = machine_of(msgspec.structs.replace(slot, **changes))
    assert not machine.takes_jobs
    assert machine.idle == NOTHING
    assert machine.whole == machine_of(slot).whole


def test_the_capacity_is_of_all_slots_and_says_which_htcondor() -> None:
    ad = {"Name": "slot1@a", "SlotType": "Static", "State": "Unclaimed", "Cpus": 4, "Memory": 2000}
    found = capacity_of(Answer(version="$CondorVersion: 23.9.6 2026-07-12 BuildID: 1 $", ads=(ad, ad)))
    assert found.version == "htcondor 23.9.6"
    assert found.whole == amount(8, 4000)


def test_an_answer_that_is_none_is_said() -> None:
    with pytest.raises(EngineError, match="not understood"):
        capacity_of(Answer(ads=({"Name": "slot1@a"},)))


def test_a_pool_without_a_machine_for_us_is_said_with_what_it_may_be() -> None:
    with pytest.raises(EngineError, match=r"FILESYSTEM_DOMAIN.*executors\.htcondor_requirements"):
        capacity_of(Answer())


def test_what_waits_says_for_what_and_what_runs_says_where() -> None:
    assert jobs_of([QUEUED]) == {"dms-1-a": EngineJob("7.0", is_running=False, detail=WAITS)}
    refused = changed(QUEUED, last_rej_match_reason="no match found ")
    assert jobs_of([refused])["dms-1-a"].detail == "no match found"
    runs = changed(QUEUED, job_status=2, remote_host="slot1_1@a")
    assert jobs_of([runs]) == {"dms-1-a": EngineJob("7.0", is_running=True, detail="slot1_1@a")}


@pytest.mark.parametrize("status", [2, 3, 6, 7], ids=["runs", "is being removed", "gives its output", "is suspended"])
def test_until_a_machine_is_rid_of_a_job_it_runs(status: int) -> None:
    assert jobs_of([changed(QUEUED, job_status=status)])["dms-1-a"].is_running


def test_what_will_not_run_or_not_again_is_no_job() -> None:
    held = changed(QUEUED, job_status=5, hold_reason="no such file")
    evicted = changed(QUEUED, job_current_start_executing_date=1_700_000_000, vacate_reason="lost")
    assert jobs_of([held, evicted, changed(QUEUED, job_status=4)]) == {}
    assert [(job.is_stuck, job.why_stuck) for job in (held, evicted)] == [(True, "no such file"), (True, "lost")]
    assert not QUEUED.is_stuck


def test_of_two_of_one_name_the_one_that_runs_counts() -> None:
    runs = changed(QUEUED, cluster_id=8, job_status=2)
    for both in ([QUEUED, runs], [runs, QUEUED]):
        assert jobs_of(both)["dms-1-a"].id == "8.0"


async def test_a_configuration_that_is_not_there_is_said_and_is_nobodys_end(tmp_path: Path) -> None:
    engine = Htcondor(HtcondorSettings(conf=str(tmp_path / "none")))
    with pytest.raises(EngineError, match=r"executors\.htcondor_conf is no file"):
        await engine.capacity()
    await engine.close()


async def test_a_configuration_without_a_pool_is_said(tmp_path: Path) -> None:
    (tmp_path / "condor_config").touch()
    engine = Htcondor(HtcondorSettings(conf=str(tmp_path / "condor_config")))
    with pytest.raises(EngineError, match="leads to no schedd"):
        await engine.capacity()
    await engine.close()


async def test_a_configuration_that_cannot_be_read_is_said_and_is_nobodys_end(tmp_path: Path) -> None:
    (tmp_path / "condor_config").write_text("use ROLE : Nonsense\n")
    engine = Htcondor(HtcondorSettings(conf=str(tmp_path / "condor_config")))
    for _ in range(2):
        with pytest.raises(EngineError, match=r"HTCondor's bindings cannot be used: .*condor_config"):
            await engine.capacity()
    await engine.close()
