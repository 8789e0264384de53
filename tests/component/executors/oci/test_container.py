"""What a job in a container may do, and what is left of it, on real engines."""

from __future__ import annotations

import asyncio
import json
import os
import uuid
from pathlib import Path

import msgspec
import pytest

from dms.executors import collect_into
from dms.executors.oci.engine import open_engine
from dms.executors.oci.executor import OciExecutor, dialect_of
from dms.executors.settings import ExecutorSettings, OciSettings
from dms.hardware.gpu_types import FoundGpu
from dms.testing.executor_contract import RunWatcher, ending_of, events_of, output_of
from dms.testing.oci_engine import SECOND_RUNTIME
from dms_actors.ports import Exited
from dms_proto.capability import Gpu, Isolation, Meter, Resources
from dms_proto.errors import MachineError, UserError
from dms_proto.images import Pull
from dms_proto.secrets import OpenSecret
from dms_proto.units import MIB
from dms_proto.work import EndReason, Limits, Task

from .conftest import Ground

pytestmark = pytest.mark.slow


def shell(ground: Ground, text: str, **fields: object) -> Task:
    return Task("oci", ("/bin/sh", "-c", text), image=ground.image, **fields)  # type: ignore[arg-type] # fields of a task


async def said(executor: OciExecutor, task: Task, directory: Path, *secrets: OpenSecret) -> str:
    events = await events_of(await executor.run("a-1", task, directory, secrets))
    assert isinstance(events[-1], Exited)
    assert events[-1].ending.reason is EndReason.COMPLETED, (events[-1].ending, output_of(events, "stderr"))
    return output_of(events, "stdout").decode()


@pytest.mark.usefixtures("cgroups")
async def test_the_probe_offers_what_it_has_proven(executor: OciExecutor) -> None:
    offer = await executor.probe()
    assert (offer.name, offer.isolation, offer.meter) == ("oci", Isolation.CONTAINER, Meter.LOWER_BOUND)
    assert set(offer.limits) == {"cpu", "memory", "processes", "disk", "wall", "output"}
    assert executor.facts is not None
    assert executor.facts.rootless is (os.geteuid() != 0)
    assert ("rootless" if executor.facts.rootless else "rootful") in str(executor.facts)
    assert not executor.closed


async def test_an_engine_that_limits_nothing_is_not_offered_and_is_told_what_it_needs(
    executor: OciExecutor, ground: Ground
) -> None:
    if ground.facts.has_cgroups:
        pytest.skip("this engine limits what it runs")
    with pytest.raises(MachineError) as caught:
        await executor.probe()
    assert caught.value.code == "executor_unavailable"
    assert "no limit of memory and processes" in caught.value.message
    assert "cgroup v2, delegated" in caught.value.hint


async def test_what_an_engine_would_tell_of_the_whole_machine_is_not_told_of_a_job(
    executor: OciExecutor, ground: Ground, directory: Path
) -> None:
    if ground.facts.has_cgroups:
        pytest.skip("this engine tells what each job has used")
    task = shell(ground, "sleep 2; exit 3", resources=Resources(memory_bytes=24 * MIB))
    ending = await ending_of(await executor.run("a-1", task, directory))
    assert (ending.reason, ending.exit_code) == (EndReason.EXIT_NONZERO, 3)
    assert (ending.usage.memory_peak_bytes, ending.usage.cpu_us) == (0, 0)


async def test_containers_made_at_once_are_all_made(ground: Ground) -> None:
    engine = await open_engine(ground.socket)
    wanted = {"Image": ground.image, "Entrypoint": ["/bin/true"], "HostConfig": {"NetworkMode": "none"}}
    if engine.facts.rootless:
        wanted["HostConfig"] = {"NetworkMode": "none", "UsernsMode": "keep-id"}
    made = await asyncio.gather(*(engine.create(f"one-{n}", wanted) for n in range(40)), return_exceptions=True)
    for container in made:
        if isinstance(container, str):
            await engine.remove(container)
    await engine.close()
    assert [each for each in made if not isinstance(each, str)] == []


def by_runtime(settings: ExecutorSettings, runtime: str) -> OciExecutor:
    assert settings.oci is not None
    return OciExecutor(msgspec.structs.replace(settings, oci=msgspec.structs.replace(settings.oci, runtime=runtime)))


async def test_a_runtime_the_engine_does_not_list_is_refused(settings: ExecutorSettings) -> None:
    executor = by_runtime(settings, "no-such")
    with pytest.raises(MachineError, match=r"no runtime 'no-such', only: .*runc"):
        await executor.probe()
    await executor.close()


async def test_a_runtime_is_had_by_its_name_or_not_taken_for_another(
    settings: ExecutorSettings, ground: Ground, directory: Path
) -> None:
    """Podman 4 lists runtimes, installed or not, and passes over which one a container shall have."""
    executor = by_runtime(settings, {"docker": SECOND_RUNTIME, "podman": "kata"}[ground.name])
    watcher = RunWatcher(await executor.run("a-1", shell(ground, "echo up; exec sleep 600"), directory))
    if ground.name == "podman":
        ending = await watcher.ending()
        assert (ending.reason, ending.exit_code) == (EndReason.PROVIDER_FAULT, -1)
        assert "would run this by 'runc' and not by 'kata'" in ending.detail
    else:
        await watcher.wait_output(b"up")
        engine = await open_engine(ground.socket)
        found = await engine._json("GET", f"containers/{await watcher.wait_started()}/json")
        await engine.close()
        assert found["HostConfig"]["Runtime"] == SECOND_RUNTIME
        await watcher.run.stop(0)
        await watcher.ending()
    await executor.sweep([])
    await executor.close()


async def test_a_runtime_that_is_the_engines_own_is_one_it_has(
    settings: ExecutorSettings, ground: Ground, directory: Path
) -> None:
    executor = by_runtime(settings, "runc")
    assert await said(executor, shell(ground, "echo up"), directory) == "up\n"
    await executor.sweep([])
    await executor.close()


@pytest.mark.usefixtures("cgroups")
async def test_memory_beyond_the_limit_ends_it_truthfully(
    executor: OciExecutor, ground: Ground, directory: Path
) -> None:
    task = shell(ground, "a=x; while :; do a=$a$a; done", resources=Resources(memory_bytes=24 * MIB))
    ending = await ending_of(await executor.run("a-1", task, directory))
    assert ending.exit_code == 137
    if ground.name == "docker":
        assert ending.reason is EndReason.OUT_OF_MEMORY
        assert "24 MiB" in ending.detail
    else:  # podman 4 on cgroup v1 says nothing of it
        assert ending.reason in (EndReason.OUT_OF_MEMORY, EndReason.KILLED_BY_SIGNAL)


@pytest.mark.usefixtures("cgroups")
async def test_an_engine_that_does_not_tell_of_memory_is_not_taken_to_have_denied_it(
    executor: OciExecutor, ground: Ground, directory: Path
) -> None:
    if ground.name != "podman":
        pytest.skip("this engine tells")
    await executor.probe()
    task = shell(ground, "a=x; while :; do a=$a$a; done", resources=Resources(memory_bytes=24 * MIB))
    ending = await ending_of(await executor.run("a-1", task, directory))
    assert "perhaps for memory" in ending.detail


async def test_disk_beyond_the_limit_ends_it(executor: OciExecutor, ground: Ground, directory: Path) -> None:
    script = "i=0; while :; do head -c 1000000 /dev/zero > f$i; i=$((i+1)); done"
    task = shell(ground, script, resources=Resources(disk_bytes=10 * MIB), limits=Limits(wall_ms=60_000))
    ending = await ending_of(await executor.run("a-1", task, directory))
    assert ending.reason is EndReason.DISK_LIMIT


async def test_places_in_memory_are_small(executor: OciExecutor, ground: Ground, directory: Path) -> None:
    script = (
        "for place in /tmp /dev/shm; do head -c 100000000 /dev/zero > $place/x 2>/dev/null && echo $place; done; true"
    )
    assert await said(executor, shell(ground, script, resources=Resources(memory_bytes=512 * MIB)), directory) == ""


async def test_what_it_leaves_is_the_nodes(executor: OciExecutor, ground: Ground, directory: Path) -> None:
    script = "mkdir -p d/e; echo harmless > d/e/out.file; ln -s /etc/passwd out.link; mkfifo out.fifo; chmod 0 d/e/out.file d/e d"
    await said(executor, shell(ground, script), directory)
    outputs = collect_into(directory, ("**/out.*", "out.*"), directory.parent / "outputs")
    assert [output.path for output in outputs] == ["d/e/out.file"]
    assert {path.lstat().st_uid for path in files_below(directory)} == {os.geteuid()}


async def test_an_image_runs_what_it_runs_where_nothing_else_is_said(
    executor: OciExecutor, ground: Ground, directory: Path
) -> None:
    task = Task("oci", image=ground.image)
    ending = await ending_of(await executor.run("a-1", task, directory))
    assert ending.reason is EndReason.BAD_PROGRAM, "this one says nothing"


async def test_variables_and_files_of_secrets_are_the_jobs_alone(
    executor: OciExecutor, ground: Ground, directory: Path
) -> None:
    value, text = f"value-{uuid.uuid4().hex}", 'it\'s "quoted" $(x)\n and long '
    secrets = (OpenSecret("KEY", value.encode()), OpenSecret("TOKEN", text.encode(), variable=True))
    task = shell(
        ground, 'cat /run/secrets/KEY; printf "|%s|" "$TOKEN"; (: > /run/secrets/x) 2>/dev/null || echo refused'
    )
    assert await said(executor, task, directory, *secrets) == f"{value}|{text}|refused\n"
    assert not in_memory(), "gone with the run"


async def test_the_value_of_a_secret_is_nowhere_else(
    executor: OciExecutor, ground: Ground, settings: ExecutorSettings, directory: Path
) -> None:
    value = f"value-{uuid.uuid4().hex}"
    secrets = [OpenSecret("KEY", value.encode()), OpenSecret("TOKEN", value.encode(), variable=True)]
    run = await executor.run("a-1", shell(ground, "echo up; exec sleep 600"), directory, secrets)
    watcher = RunWatcher(run)
    handle = await watcher.wait_started()
    await watcher.wait_output(b"up")
    engine = await open_engine(ground.socket)
    inspected = json.dumps(await engine._json("GET", f"containers/{handle}/json"))
    await engine.close()
    assert "dms.allocation" in inspected
    assert value not in inspected
    kept = [Path(ground.socket).parent, settings.state_directory, directory]
    assert [path for place in kept for path in files_below(place) if holds(path, value)] == []
    await run.stop(0)
    await watcher.ending()


@pytest.mark.usefixtures("cgroups")
async def test_what_stands_still_is_paused_and_removed_with_the_rest(
    executor: OciExecutor, ground: Ground, settings: ExecutorSettings, directory: Path
) -> None:
    watcher = RunWatcher(await executor.run("a-1", shell(ground, "echo up; exec sleep 600"), directory))
    handle = await watcher.wait_started()
    engine = await open_engine(ground.socket)
    await watcher.run.freeze(1 << 42)
    state = await engine.state(handle)
    assert state is not None
    assert (state.running, state.paused) == (True, True)
    await asyncio.gather(watcher.run.thaw(), watcher.run.freeze(1 << 42), watcher.run.thaw())
    state = await engine.state(handle)
    assert state is not None
    assert not state.paused, "what was asked last holds"
    await watcher.run.freeze(1 << 42)
    assert list(settings.state_directory.glob("oci/freezes/*"))
    watcher.abandon()
    await executor.close()
    assert await executor.sweep([]) == 1
    assert await engine.state(handle) is None
    assert not list(settings.state_directory.glob("oci/freezes/*"))
    await engine.close()


@pytest.mark.usefixtures("cgroups")
async def test_a_container_gets_other_limits_while_it_runs(
    executor: OciExecutor, ground: Ground, directory: Path
) -> None:
    grow = "a=x; i=0; while test $i -lt 25; do a=$a$a; i=$((i+1)); done; echo held; sleep 600; echo $a"
    script = f"echo up; while ! cat go; do sleep 0.05; done 2>/dev/null; {grow}"
    task = shell(ground, script, resources=Resources(cpu_millicores=500, memory_bytes=24 * MIB))
    watcher = RunWatcher(await executor.run("a-1", task, directory))
    handle = await watcher.wait_started()
    await watcher.wait_output(b"up")
    larger = Resources(cpu_millicores=1500, memory_bytes=512 * MIB)
    try:
        await watcher.run.resize(larger)
    except UserError as refused:
        assert ground.name == "podman", "which does that from some version on"
        assert "its engine does not change its size" in refused.message  # noqa: PT017 - it need not be refused
    else:
        engine = await open_engine(ground.socket)
        host = (await engine._json("GET", f"containers/{handle}/json"))["HostConfig"]
        await engine.close()
        assert (host["Memory"], host["MemorySwap"], host["CpuQuota"]) == (512 * MIB, 512 * MIB, 150_000)
        (directory / "go").touch()
        await watcher.wait_output(b"held")
        with pytest.raises(UserError, match="of memory are in use, more than 24 MiB"):
            await watcher.run.resize(task.resources)
        await watcher.run.resize(Resources(cpu_millicores=500, memory_bytes=256 * MIB))
    await watcher.run.stop(0)
    assert (await watcher.ending()).reason is EndReason.CANCELLED
    with pytest.raises(UserError, match="does not run"):
        await watcher.run.resize(larger)


def in_memory() -> list[Path]:
    return list(Path("/dev/shm").glob("dms-*-a-1"))


def files_below(place: Path) -> list[Path]:
    return list(place.rglob("*"))


def holds(path: Path, value: str) -> bool:
    try:
        return path.is_file() and path.stat().st_size < 64 * MIB and value.encode() in path.read_bytes()
    except OSError:
        return False


async def test_an_image_that_is_not_here_and_may_not_be_pulled_is_said_to_be(
    executor: OciExecutor, directory: Path
) -> None:
    absent = "sha256:" + "0" * 64
    for image, pull, reason, words in (
        (absent, Pull.IF_NOT_PRESENT, EndReason.INPUT_UNAVAILABLE, "an id names no registry"),
        (f"ghcr.io/x@{absent}", Pull.NEVER, EndReason.INPUT_UNAVAILABLE, "never to pull"),
        (f"10.0.0.5:80/x@{absent}", Pull.ALWAYS, EndReason.REFUSED_BY_POLICY, "no images from 10.0.0.5:80"),
    ):
        ending = await ending_of(await executor.run("a-1", Task("oci", ("x",), image=image, pull=pull), directory))
        assert ending.reason is reason
        assert words in ending.detail


async def test_a_gpu_that_cannot_be_shown_is_not_promised(
    executor: OciExecutor, ground: Ground, directory: Path
) -> None:
    task = shell(ground, "true", resources=Resources(gpus=(Gpu("77", "nvidia"),)))
    ending = await ending_of(await executor.run("a-1", task, directory))
    assert ending.reason is EndReason.PROVIDER_FAULT
    assert "GPU 77 () cannot be used on this machine" in ending.detail


async def test_an_engine_that_somebody_took_the_container_from_is_the_providers_fault(
    executor: OciExecutor, ground: Ground, directory: Path
) -> None:
    watcher = RunWatcher(await executor.run("a-1", shell(ground, "exec sleep 600"), directory))
    handle = await watcher.wait_started()
    engine = await open_engine(ground.socket)
    assert await engine.remove(handle)
    await engine.close()
    reason = (await watcher.ending()).reason
    assert reason in (EndReason.PROVIDER_FAULT, EndReason.KILLED_BY_SIGNAL), "it may be seen on its way out"


async def test_many_runs_leave_no_container_and_lose_no_output(
    executor: OciExecutor, ground: Ground, settings: ExecutorSettings, tmp_path: Path
) -> None:
    async def one(number: int) -> None:
        directory = tmp_path / f"job-{number}"
        directory.mkdir(mode=0o700)
        events = await events_of(await executor.run(f"a-{number}", shell(ground, f"echo {number}"), directory))
        assert output_of(events, "stdout") == f"{number}\n".encode()

    for first in range(0, 12, 4):
        await asyncio.gather(*map(one, range(first, first + 4)))
    engine = await open_engine(ground.socket)
    try:
        assert not await engine.containers(**{"dms.executor": "oci"})
    finally:
        await engine.close()
    assert not executor.processes


DEVICES = """cdiVersion: 0.5.0
kind: nvidia.com/gpu
containerEdits: {env: [FROM_FILE=yes], deviceNodes: [{path: /dev/nvidiactl, hostPath: /dev/zero}]}
devices:
- name: GPU-harmless
  containerEdits: {deviceNodes: [{path: /dev/nvidia0, hostPath: /dev/null}]}
- name: GPU-other
  containerEdits: {deviceNodes: [{path: /dev/nvidia1, hostPath: /dev/null}]}
"""


async def test_a_gpu_is_shown_as_a_file_describes_it_and_no_other(
    settings: ExecutorSettings, ground: Ground, tmp_path: Path, directory: Path
) -> None:
    place = tmp_path / "cdi"
    place.mkdir()
    (place / "nvidia.yaml").write_text(DEVICES)
    gpu = FoundGpu("nvidia", "A100", offer=Gpu("0", "nvidia", "A100"), uuid="GPU-harmless")
    oci = OciSettings(socket=ground.socket, cdi=(place,))
    executor = OciExecutor(ExecutorSettings(settings.state_directory, oci=oci, gpus=(gpu,)))
    look = "echo $CUDA_VISIBLE_DEVICES $FROM_FILE; stat -c %t:%T /dev/nvidia0; echo /dev/nvidia*; echo x >/dev/nvidia0"
    task = shell(ground, look, resources=Resources(gpus=(Gpu("0", "nvidia", "A100"),)))
    try:
        if dialect_of((await executor.open()).facts).knows_cdi:
            pytest.skip(f"{executor.facts} reads files of its own")
        assert (await said(executor, task, directory)).split() == [
            *("GPU-harmless", "yes", "1:3", "/dev/nvidia0", "/dev/nvidiactl")
        ]
    finally:
        await executor.sweep([])
        await executor.close()


async def test_an_image_that_asks_the_runtime_for_all_gpus_gets_none(
    executor: OciExecutor, ground: Ground, directory: Path
) -> None:
    task = shell(ground, "echo $NVIDIA_VISIBLE_DEVICES", environment={"NVIDIA_VISIBLE_DEVICES": "all"})
    assert await said(executor, task, directory) == "void\n"
