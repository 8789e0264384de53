from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms.config.settings import Config, Executors, Node, Provider
from dms.hardware.benchmark import Benchmark
from dms.hardware.capability import MAX_DEFAULT_DISK, SIMULATED_LABEL, find_gpus, notes, propose
from dms.hardware.facts import Facts
from dms.hardware.gpu_simulated import simulate
from dms.hardware.gpu_types import Detection, FoundGpu
from dms_proto.capability import Capability, ExecutorOffer, Gpu, Isolation, JobClass, Price
from dms_proto.errors import UserError
from dms_proto.units import GIB

FACTS = Facts(
    architecture="x86_64",
    cpu_model="Test",
    cores=8,
    cores_physical=4,
    cpu_millicores=8000,
    memory_bytes=32 * GIB,
    memory_available_bytes=30 * GIB,
    disk_total_bytes=500 * GIB,
    disk_free_bytes=100 * GIB,
    kernel="Linux",
    system="",
    load_milli=0,
    steal_permille=0,
)
QUIET = Benchmark(score=1234, trusted=True)
SANDBOX = ExecutorOffer("sandbox", isolation=Isolation.NAMESPACES)
REAL = Detection((FoundGpu("nvidia", "A100", "0000:3b:00.0", "550", Gpu("0", "nvidia", "A100", 40 * GIB)),))
BROKEN = Detection((FoundGpu("amd", "device 0x1", "0000:01:00.0", problem="no driver is bound to it"),))


def offer(
    facts: Facts = FACTS,
    found: Detection = REAL,
    benchmark: Benchmark | None = QUIET,
    executors: tuple[ExecutorOffer, ...] = (SANDBOX,),
    **provider: object,
) -> Capability:
    return propose(facts, found, benchmark, executors, Config(provider=Provider(**provider)))  # type: ignore[arg-type]


def test_by_default_the_owner_keeps_a_core_a_quarter_of_the_memory_and_half_of_the_disk() -> None:
    resources = offer().resources
    assert resources.cpu_millicores == 7000
    assert resources.memory_bytes == 24 * GIB
    assert resources.disk_bytes == 50 * GIB
    assert resources.gpus == REAL.offers


@pytest.mark.parametrize(
    ("cpu", "offered"), [(500, 350), (1000, 750), (2000, 1500), (3000, 2250), (4000, 3000), (64_000, 63_000)]
)
def test_small_machines_keep_a_quarter(cpu: int, offered: int) -> None:
    assert offer(msgspec.structs.replace(FACTS, cpu_millicores=cpu)).resources.cpu_millicores == offered


def test_memory_in_use_by_others_is_not_offered() -> None:
    used = msgspec.structs.replace(FACTS, memory_available_bytes=10 * GIB)
    assert offer(used).resources.memory_bytes == 9 * GIB


def test_a_large_disk_is_not_offered_whole_by_default() -> None:
    large = msgspec.structs.replace(FACTS, disk_free_bytes=5000 * GIB)
    assert offer(large).resources.disk_bytes == MAX_DEFAULT_DISK


def test_what_the_owner_sets_is_offered() -> None:
    resources = offer(cpu=8000, memory=31 * GIB, disk=400 * GIB, gpus=("none",)).resources
    assert (resources.cpu_millicores, resources.memory_bytes, resources.disk_bytes, resources.gpus) == (
        8000,
        31 * GIB,
        400 * GIB,
        (),
    )


@pytest.mark.parametrize(
    ("setting", "value", "says"),
    [
        ("cpu", 8001, "provider.cpu is 8.001 cores, and this machine has 8 cores"),
        ("memory", 33 * GIB, "provider.memory is 33 GiB, and this machine has 32 GiB"),
        ("disk", 501 * GIB, "provider.disk is 501 GiB, and this machine has 500 GiB"),
        ("gpus", ("7",), "provider.gpus names '7'; this machine has 0"),
    ],
)
def test_more_than_the_machine_has_is_refused(setting: str, value: object, says: str) -> None:
    with pytest.raises(UserError) as caught:
        offer(**{setting: value})
    assert caught.value.code == "bad_config"
    assert caught.value.message == says


def test_devices_are_chosen_by_name() -> None:
    two = simulate("2xL4-24G")
    assert [gpu.device for gpu in offer(found=two).resources.gpus] == ["sim-0", "sim-1"]
    chosen = propose(FACTS, two, QUIET, (), Config(provider=Provider(gpus=("sim-1",))))
    assert [gpu.device for gpu in chosen.resources.gpus] == ["sim-1"]


def test_invented_devices_mark_the_machine_and_real_ones_do_not() -> None:
    assert offer(found=simulate("1xL4-24G")).labels == {SIMULATED_LABEL: "yes"}
    assert offer(found=REAL).labels == {}
    none = propose(FACTS, simulate("1xL4-24G"), QUIET, (), Config(provider=Provider(gpus=("none",))))
    assert none.labels == {}


def test_the_owner_cannot_unmark_invented_devices() -> None:
    config = Config(node=Node(labels={SIMULATED_LABEL: "no", "room": "lab"}))
    assert propose(FACTS, simulate("1xL4-24G"), QUIET, (), config).labels == {SIMULATED_LABEL: "yes", "room": "lab"}


def test_the_setting_invents_devices_instead_of_looking_for_them() -> None:
    assert [gpu.simulated for gpu in find_gpus(Provider(simulate_gpus="2xA100-40G")).gpus] == [True, True]


@pytest.mark.parametrize(("benchmark", "score"), [(QUIET, 1234), (None, 0), (Benchmark(score=999, reason="busy"), 0)])
def test_only_a_trusted_score_is_published(benchmark: Benchmark | None, score: int) -> None:
    assert offer(benchmark=benchmark).cpu_score == score


@pytest.mark.parametrize("least", Isolation)
@pytest.mark.parametrize("proven", Isolation)
def test_executors_weaker_than_the_owner_allows_are_not_offered(least: Isolation, proven: Isolation) -> None:
    order = [
        Isolation.NONE,
        Isolation.LANDLOCK,
        Isolation.CONTAINER,
        Isolation.NAMESPACES,
        Isolation.WASM,
        Isolation.MICROVM,
    ]
    executor = ExecutorOffer("x", isolation=proven)
    config = Config(executors=Executors(minimum_isolation=least))
    offered = propose(FACTS, REAL, QUIET, (executor,), config).executors
    assert offered == ((executor,) if order.index(proven) >= order.index(least) else ())


def test_prices_labels_and_rules_are_those_of_the_owner() -> None:
    config = Config(
        node=Node(labels={"room": "lab"}, country="DE"),
        provider=Provider(
            price_start=1,
            price_cpu_core=2,
            price_memory_gib=3,
            price_disk_gib=4,
            price_gpu=5,
            max_wall_ms=6,
            job_classes=(JobClass.BATCH,),
        ),
    )
    capability = propose(FACTS, REAL, QUIET, (SANDBOX,), config)
    assert capability.price == Price(1, 2, 3, 4, 5)
    assert (capability.labels, capability.country) == ({"room": "lab"}, "DE")
    assert (capability.max_wall_ms, capability.job_classes, capability.architecture) == (6, (JobClass.BATCH,), "x86_64")


def test_the_owner_is_told_what_is_less_than_expected_and_why() -> None:
    limited = msgspec.structs.replace(FACTS, limits=("CPU affinity: 2 of 8 cores",))
    weak = ExecutorOffer("plain", isolation=Isolation.NONE)
    told = "\n".join(notes(limited, BROKEN, Benchmark(reason="the machine was busy"), (weak, SANDBOX), Config()))
    for said in (
        "affinity: 2 of 8",
        "0000:01:00.0",
        "no driver is bound",
        "the machine was busy",
        "executor plain is not offered",
    ):
        assert said in told
    assert "executor sandbox" not in told
    assert notes(FACTS, REAL, QUIET, (SANDBOX,), Config()) == ()
    assert "has not run" in notes(FACTS, REAL, None, (), Config())[0]


@given(st.integers(100, 512_000), st.integers(0, 2**44), st.integers(0, 2**44), st.integers(0, 2**50))
def test_a_default_offer_never_exceeds_the_machine(cpu: int, memory: int, available: int, disk: int) -> None:
    facts = msgspec.structs.replace(
        FACTS,
        cpu_millicores=cpu,
        memory_bytes=memory,
        memory_available_bytes=min(memory, available),
        disk_free_bytes=disk,
    )
    resources = offer(facts).resources
    assert 0 <= resources.cpu_millicores < cpu
    assert 0 <= resources.memory_bytes <= min(memory, available)
    assert 0 <= resources.disk_bytes <= disk
