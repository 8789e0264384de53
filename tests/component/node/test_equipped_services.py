"""Services whose containers have GPUs and datasets: given as to jobs, refused where they are not there, free again when the container ends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dms.jobs.spec import DatasetWish
from dms.node.containers import RUN, Record
from dms.node.sweeping import RECENT_MS, sweep
from dms.rpc.api.data import AddDataset, DatasetParams
from dms.testing.market import CAPABILITY, CONFIG, Market, until
from dms_actors.ports import Executor
from dms_proto.capability import Gpu, Price, Resources
from dms_proto.errors import DmsError, UserError
from dms_proto.ids import digest_of
from dms_proto.pool.callers import tariff_of
from dms_proto.units import GIB, HOUR, MIB
from tests.component.node.test_services import ECHO, POOL, SIZE, Owners, calling, echo, said_back

GPUS = tuple(Gpu(name, "nvidia", "A100", 40 * GIB) for name in ("0", "1"))
SLICE = Gpu("MIG-0", "nvidia", "H100 MIG", 10 * GIB, part=143)
MACHINE = msgspec.structs.replace(
    CAPABILITY, resources=msgspec.structs.replace(CAPABILITY.resources, gpus=(*GPUS, SLICE))
)
TARIFF = Price(gpu_hour=1_000)


def wanting(*gpus: Gpu, **changes: Any) -> Any:
    """A service whose containers want GPUs."""
    return echo(resources=msgspec.structs.replace(SIZE, gpus=gpus), **changes)


@pytest.fixture
async def owners(tmp_path: Path) -> AsyncIterator[Owners]:
    config = msgspec.structs.replace(CONFIG, pool=msgspec.structs.replace(POOL, gpus=("0", "MIG-0", "gone")))
    async with Market(tmp_path, 1, build=lambda _index: {"config": config, "capability": MACHINE}) as market:
        owners = Owners(market)
        owners.apis.append(await owners.begin(0))
        try:
            yield owners
        finally:
            for api in owners.apis:
                await api.close()


def record_of(owners: Owners, container: str = "c-1") -> Record:
    """What a container runs."""
    file = owners.market.nodes[0].services.home.pool / container / "record"
    return msgspec.msgpack.decode(file.read_bytes(), type=Record)


async def test_a_container_has_the_device_it_was_given_and_nobody_else_has_it(owners: Owners) -> None:
    api = owners.apis[0]
    ledger = (await owners.market.nodes[0].state()).book.ledger
    assert [gpu.device for gpu in ledger.available.gpus] == ["1"], "the market gets what the pool does not"
    await api.service_install(wanting(Gpu(model="A100")))
    await api.service_start(ECHO)
    async with calling(api) as (reader, writer):
        writer.write(b"x")
        await reader.readexactly(1)
        view = await api.pool_list()
        assert [gpu.device for gpu in view.used.gpus] == ["0"]
        assert record_of(owners).task.resources.gpus == GPUS[:1]
    await owners.crash(0)
    assert (await owners.apis[0].pool_list()).used.gpus == GPUS[:1]
    assert await said_back(owners.apis[0]) == b"hello", "the container is known again with its device"


async def test_a_device_is_free_for_the_next_once_its_container_is_killed(owners: Owners) -> None:
    api = owners.apis[0]
    await api.service_install(wanting(Gpu(model="A100")))
    await api.service_start(ECHO)
    assert await said_back(api) == b"hello"
    (container,) = (await api.pool_list()).containers
    executor: Executor = owners.market.executors[0]["scripted"][0]
    record = record_of(owners)
    run = await executor.adopt(RUN + container.container_id, record.task, Path(), record.handle)
    assert run is not None
    await run.stop(0)
    await until(api.pool_list, lambda view: not view.used.gpus)
    assert await said_back(api) == b"hello"
    assert [each.size.gpus[0].device for each in (await api.pool_list()).containers] == ["0"]


async def test_shares_of_a_device_are_held_by_size_and_who_does_not_fit_is_told(owners: Owners) -> None:
    api = owners.apis[0]
    half = Gpu(model="A100", milli=500, memory_bytes=20 * GIB)
    for entry, need in (("one", half), ("two", half), ("third", half)):
        await api.service_install(msgspec.structs.replace(wanting(need, command=("wait",)), entry=entry))
        await api.service_start(msgspec.structs.replace(ECHO, entry=entry))
    async with calling(api, entry="one"), calling(api, entry="two"):
        used = (await api.pool_list()).used
        assert (used.gpus[0].milli, used.gpus[0].memory_bytes) == (1000, 40 * GIB)
        with pytest.raises(DmsError, match="nothing may go for it"):
            async with calling(api, entry="third"):
                pass
        assert len((await api.pool_list()).containers) == 2


async def test_a_device_that_the_pool_does_not_have_is_refused_with_what_it_has(owners: Owners) -> None:
    api = owners.apis[0]
    await api.service_install(wanting(Gpu(model="L40")))
    with pytest.raises(UserError, match=r"1 GPU L40, and the pool has 2 cores.*1 GPU A100, 1 GPU H100 MIG") as refused:
        await api.service_start(ECHO)
    assert "pool.gpus" in refused.value.hint


def test_an_instance_costs_its_part_of_a_card() -> None:
    capacity = Resources(1_000, GIB, 0, (GPUS[0], SLICE))
    for model, cost in (("A100", 1_000), ("H100", 143)):
        size = Resources(gpus=(Gpu(model=model),))
        assert tariff_of(TARIFF, size, capacity).cost(size, HOUR) == cost


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "words"
    (root / "below").mkdir(parents=True)
    (root / "below" / "one").write_bytes(b"one" * 1_000)
    (root / "two").write_bytes(b"two")
    return root


def reading(name: str, **changes: Any) -> Any:
    """A service that reads a dataset."""
    install = echo(**changes)
    spec = msgspec.structs.replace(install.spec, datasets=(DatasetWish(name, "data"),))
    return msgspec.structs.replace(install, spec=spec)


async def test_a_container_finds_its_dataset_which_stays_as_long_as_the_service(owners: Owners, tree: Path) -> None:
    api, services = owners.apis[0], owners.market.nodes[0].services
    await api.data_add(AddDataset((str(tree),), "words"))
    await api.service_install(reading("words"))
    await api.service_start(ECHO)
    await api.data_remove(DatasetParams("words"))
    content, late = digest_of(b"one" * 1_000), services.clock() + services.config.store.keep_jobs_ms + RECENT_MS + 1
    await sweep(services, api._runner, late)
    assert await said_back(api) == b"hello"
    work = services.home.pool / "c-1" / "work" / "data"
    assert (work / "below" / "one").read_bytes() == b"one" * 1_000
    assert (work / "two").read_bytes() == b"two"
    await api.service_stop(ECHO)
    await until(api.pool_list, lambda view: not view.containers)
    await api.service_remove(ECHO)
    await sweep(services, api._runner, late)
    assert services.blobs.path(content) is None


async def test_a_dataset_that_is_not_here_or_has_no_room_is_refused(owners: Owners, tree: Path) -> None:
    api, services = owners.apis[0], owners.market.nodes[0].services
    with pytest.raises(UserError, match="words"):
        await api.service_install(reading("words"))
    await api.data_add(AddDataset((str(tree),), "words"))
    with pytest.raises(UserError, match=r"resources.disk: 1 KiB is less than the inputs take"):
        await api.service_install(reading("words", resources=Resources(500, 64 * MIB, 1_024)))
    there = services.blobs.path(digest_of(b"two"))
    assert there is not None
    there.unlink()
    with pytest.raises(UserError, match=r"is not here: 1 file of it is elsewhere"):
        await api.service_install(reading("words"))
    assert not (await api.service_list()).services
