"""Images are brought from a registry of this test's own, within bounds, and those of the owner are never touched."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest

from dms.config.settings import Config, Executors
from dms.executors.oci import images, probe_image
from dms.executors.oci.engine import Engine, open_engine
from dms.executors.oci.executor import OciExecutor
from dms.executors.settings import ExecutorSettings, OciSettings
from dms.jobs.spec import JobSpec
from dms.node.images import pin_image
from dms.testing.executor_contract import RunWatcher, ending_of, events_of, output_of
from dms.testing.oci_engine import ENGINES, Reached, add_image, engine_and_registry
from dms_actors.ports import Exited, Preparing
from dms_proto.capability import Capability
from dms_proto.errors import UserError
from dms_proto.images import Pull
from dms_proto.units import GIB
from dms_proto.work import EndReason, Task

pytestmark = pytest.mark.slow

ARCHIVE = probe_image.archive(["/bin/sh"])


@pytest.fixture(scope="module", params=ENGINES)
def honest(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reached]:
    with engine_and_registry(request.param, tmp_path_factory.mktemp("registry"), ARCHIVE) as found:
        yield found


@pytest.fixture
async def engine(honest: Reached) -> AsyncIterator[Engine]:
    engine = await open_engine(honest.socket)
    yield engine
    await engine.remove_image(honest.image)
    await engine.close()


def executor_on(market: Reached, tmp_path: Path, **bounds: int) -> OciExecutor:
    oci = OciSettings(
        socket=market.socket,
        registries=(market.address,),
        image_bytes=bounds.get("image", GIB),
        images_bytes=bounds.get("images", GIB),
    )
    return OciExecutor(ExecutorSettings(tmp_path / "state", oci=oci))


def directory_in(tmp_path: Path, name: str = "job") -> Path:
    directory = tmp_path / name
    directory.mkdir(mode=0o700)
    return directory


async def test_an_image_is_pulled_by_digest_and_said_to_be(honest: Reached, engine: Engine, tmp_path: Path) -> None:
    executor = executor_on(honest, tmp_path)
    task = Task("oci", ("/bin/sh", "-c", "echo hello; : > /data/x || echo full"), image=honest.image)
    events = await events_of(await executor.run("a-1", task, directory_in(tmp_path)))
    assert output_of(events, "stdout") == b"hello\n"
    assert Preparing("pulling its image") in events
    again = await events_of(await executor.run("a-2", task, directory_in(tmp_path, "again")))
    assert not [event for event in again if isinstance(event, Preparing)], "it is here now"
    assert isinstance(again[-1], Exited)
    await executor.close()


async def test_always_asks_the_registry_again(honest: Reached, engine: Engine, tmp_path: Path) -> None:
    executor = executor_on(honest, tmp_path)
    task = Task("oci", ("/bin/sh", "-c", "true"), image=honest.image, pull=Pull.ALWAYS)
    for name in ("a-1", "a-2"):
        events = await events_of(await executor.run(name, task, directory_in(tmp_path, name)))
        assert Preparing("pulling its image") in events
    await executor.close()


async def test_eight_who_want_it_at_once_pull_it_once(honest: Reached, engine: Engine, tmp_path: Path) -> None:
    executor = executor_on(honest, tmp_path)
    task = Task("oci", ("/bin/sh", "-c", "exit 3"), image=honest.image)
    runs = [await executor.run(f"a-{n}", task, directory_in(tmp_path, f"job-{n}")) for n in range(8)]
    endings = await asyncio.gather(*map(ending_of, runs))
    assert [ending.exit_code for ending in endings] == [3] * 8
    await executor.close()


async def test_one_that_no_registry_has_is_the_requesters_fault(
    honest: Reached, engine: Engine, tmp_path: Path
) -> None:
    executor = executor_on(honest, tmp_path)
    image = f"{honest.address}/lab/tool@sha256:{'0' * 64}"
    ending = await ending_of(await executor.run("a-1", Task("oci", image=image), directory_in(tmp_path)))
    assert ending.reason is EndReason.BAD_PROGRAM
    assert "manifest unknown" in ending.detail
    await executor.close()


async def test_one_that_is_too_large_is_not_kept(
    honest: Reached, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "LOOK_S", 600.0)  # others fill the disk, too
    executor = executor_on(honest, tmp_path, image=1_500_000)  # as it is fetched it has less, unpacked it has more
    ending = await ending_of(await executor.run("a-1", Task("oci", image=honest.image), directory_in(tmp_path)))
    assert ending.reason is EndReason.REFUSED_BY_POLICY
    assert "this node takes at most" in ending.detail
    assert await engine.image(honest.image) is None
    await executor.close()


async def test_what_was_pulled_goes_when_there_is_too_much_and_what_is_the_owners_stays(
    honest: Reached, engine: Engine, tmp_path: Path
) -> None:
    owners = await asyncio.to_thread(add_image, honest.socket, "localhost/owners")
    executor = executor_on(honest, tmp_path, images=1)
    task = Task("oci", ("/bin/sh", "-c", "true"), image=honest.image)
    assert (await ending_of(await executor.run("a-1", task, directory_in(tmp_path)))).exit_code == 0
    assert await engine.image(honest.image) is not None, "it is in use while the run is"
    await executor.sweep([])
    assert await engine.image(honest.image) is None
    assert await engine.image(owners) is not None
    await executor.close()


async def test_an_image_that_was_here_before_is_never_removed(honest: Reached, engine: Engine, tmp_path: Path) -> None:
    async for _ in engine.pull(honest.image):
        pass
    executor = executor_on(honest, tmp_path, images=1)
    task = Task("oci", ("/bin/sh", "-c", "true"), image=honest.image, pull=Pull.ALWAYS)
    assert (await ending_of(await executor.run("a-1", task, directory_in(tmp_path)))).exit_code == 0
    await executor.sweep([])
    assert await engine.image(honest.image) is not None
    await executor.close()


@pytest.fixture(params=[(engine, spoil) for engine in ENGINES for spoil in ("slow", "lying")])
def spoiled(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Reached]]:
    engine, spoil = request.param
    with engine_and_registry(engine, tmp_path, ARCHIVE, spoil) as found:
        yield spoil, found


async def test_a_registry_that_is_not_honest_gets_nowhere(spoiled: tuple[str, Reached], tmp_path: Path) -> None:
    """One whose layer never comes holds nobody who wants to go; one whose layer is another is found out."""
    spoil, there = spoiled
    executor = executor_on(there, tmp_path)
    watcher = RunWatcher(await executor.run("a-1", Task("oci", image=there.image), directory_in(tmp_path)))
    await watcher.wait_for(lambda events: any(isinstance(event, Preparing) for event in events))
    if spoil == "slow":
        await watcher.run.stop(30_000)
    ending = await watcher.ending()
    assert ending.exit_code == -1
    wanted = {"slow": EndReason.CANCELLED, "lying": EndReason.PROVIDER_FAULT}
    assert ending.reason is wanted[spoil], ending.detail
    await executor.close()


async def test_a_tag_is_made_a_digest_by_the_nodes_own_engine(honest: Reached, engine: Engine) -> None:
    config = Config(executors=Executors(oci_socket=honest.socket))
    spec = JobSpec(Task("oci", ("x",)), Capability(), image=f"{honest.address}/lab/tool:latest")
    if engine.facts.name == "podman":
        with pytest.raises(UserError, match=f"podman pull {spec.image}"):
            await pin_image(spec, config)
        async for _ in engine.pull(spec.image):
            pass
    found = await pin_image(spec, config)
    assert found.task.image == honest.image
    assert found.image == ""
    with pytest.raises(UserError, match="is a tag"):
        await pin_image(msgspec.structs.replace(spec, image=f"{honest.address}/lab/tool:other"), config)
    with pytest.raises(UserError) as caught:
        await pin_image(spec, Config(executors=Executors(oci_socket="/no/such")))
    assert "sha256" in caught.value.hint
