"""What the engine really holds on this machine, found out by trying: a script inside looks at its walls, others run into each limit.

The image is made of this machine's own shell (`probe_image`), so that nothing has to be fetched; the scripts need nothing but that shell.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from dms.executors.oci import probe_image
from dms.executors.oci.passage import KEPT_OUT
from dms.executors.sandbox.verdict import KILLED
from dms_actors.ports import Exited
from dms_proto.capability import NOTHING, Meter, Resources
from dms_proto.errors import MachineError
from dms_proto.images import Pull
from dms_proto.units import CORE, MIB
from dms_proto.work import Ending, EndReason, ExecBy, Limits, Task

if TYPE_CHECKING:
    from dms.executors.oci.executor import OciExecutor

_logger = logging.getLogger(__name__)
OWNER: Final = "probe"
"""In place of an executor's name in the labels of containers made here."""
ENFORCED_BY_NODE: Final = ("disk", "wall", "output")
INDISPENSABLE: Final = ("memory", "processes")
"""What one job could take from the whole machine at once: an engine that does not limit it is not offered."""
NEEDS_DELEGATION: Final = "a rootless engine needs cgroup v2, delegated to its user, as systemd does"
CHECKS: Final = {
    10: "the user inside is not the one it should be",
    12: "kernel settings can be written",
    13: "the root file system can be written",
    14: "its own directory cannot be written",
    15: "the system call filter is not active",
    16: "it has capabilities",
    17: "it has a network",
    18: "proxies of the engine's own environment are visible",
    19: "its /tmp cannot be written",
}
_WALLS: Final = """
while read -r key value rest; do
  case $key in
    Uid:) test "$value" = "$EXPECTED" || exit 10 ;;
    CapEff:|CapPrm:|CapBnd:|CapAmb:) test "$value" = 0000000000000000 || exit 16 ;;
    NoNewPrivs:) test "$value" = 1 || exit 15 ;;
    Seccomp:) test "$value" = 2 || exit 15 ;;
  esac
done < /proc/self/status
while read -r line; do
  case $line in
    lo:*) ;;
    *:*) exit 17 ;;
  esac
done < /proc/net/dev
if (: > /proc/sys/kernel/core_pattern) 2>/dev/null; then exit 12; fi
if (: > /dms-probe) 2>/dev/null; then exit 13; fi
: > /job/written || exit 14
: > /tmp/written || exit 19
test -z "$http_proxy$https_proxy$HTTP_PROXY$HTTPS_PROXY" || exit 18
"""
_GREEDY: Final = "a=x; i=0; while test $i -lt 26; do a=$a$a; i=$((i+1)); done"
"""Wants 64 MiB and some copies of it, no more: an engine may keep no limit."""
_BUSY_MS: Final = 2_500
_PATIENT_MS: Final = 10_000
"""The same once more, on a machine that is busy."""
_QUOTA: Final = CORE // 5
_TRIAL: Final = Limits(wall_ms=20_000)


class Held(msgspec.Struct, frozen=True):
    """What was found.

    Attributes:
        limits: those that hold.
        meter: how far the engine's figures can be trusted.
        tells_oom: whether the engine tells that the kernel killed for memory.
        closed: why nothing can lead into a container here, or out of it; empty: it can.
    """

    limits: tuple[str, ...] = ()
    meter: Meter = Meter.WALL
    tells_oom: bool = True
    closed: str = ""


def _task(script: str, resources: Resources = NOTHING, limits: Limits = _TRIAL) -> Task:
    return Task(OWNER, ("/bin/sh", "-c", script), resources=resources, limits=limits, pull=Pull.NEVER)


def _busy(wall_ms: int) -> Task:
    """Wants a whole core and gets a part of one."""
    return _task("while :; do :; done", Resources(cpu_millicores=_QUOTA), Limits(wall_ms=wall_ms))


_PASSAGE: Final = msgspec.structs.replace(_task("exit 0"), exec=ExecBy.REQUESTER)
"""Starts only if it is given, from outside, what its agent needs."""
_LIMIT_TRIALS: Final[dict[str, tuple[Task, Callable[[Ending], bool]]]] = {
    "cpu": (
        _busy(_BUSY_MS),
        lambda end: 0 < end.usage.cpu_us < end.usage.wall_ms * 1000 // 2,
    ),
    "memory": (
        _task(_GREEDY, Resources(memory_bytes=24 * MIB)),
        lambda end: end.reason is EndReason.OUT_OF_MEMORY or end.exit_code == KILLED,
    ),
    "processes": (
        _task(
            "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do /bin/sh -c 'kill -STOP $$' & done",
            limits=Limits(wall_ms=20_000, processes=6),
        ),
        lambda end: end.reason is EndReason.EXIT_NONZERO,
    ),
}


async def prove(executor: OciExecutor) -> Held:
    """Tries the walls, then the limits.

    Raises:
        MachineError: `executor_unavailable`: no container can be run, or it is not held.
        EngineError: the engine did not answer.
    """
    image = await _image(executor)
    await _prove_walls(executor, image)
    trials = {name: task for name, (task, _) in _LIMIT_TRIALS.items()}
    passage, *endings = await asyncio.gather(
        _trial(executor, "passage", _PASSAGE, image),
        *(_trial(executor, name, task, image) for name, task in trials.items()),
    )
    ended = dict(zip(trials, endings, strict=True))
    if not ended["cpu"].usage.cpu_us:  # an engine that tells none; or a machine so busy that the program hardly began
        ended["cpu"] = await _trial(executor, "cpu", _busy(_PATIENT_MS), image)
    closed = await why_closed(passage, lambda: _trial(executor, "passage", _PASSAGE, image))
    return msgspec.structs.replace(held_of(ended), closed=closed)


async def why_closed(tried: Ending, again: Callable[[], Awaitable[Ending]]) -> str:
    """What keeps anything from leading into a container; empty: nothing that lasts. A busy machine or a full disk may be well soon."""
    if tried.reason is EndReason.COMPLETED:
        return ""
    alone = await again()
    if alone.detail == KEPT_OUT:
        return KEPT_OUT
    if alone.reason is not EndReason.COMPLETED:
        _logger.warning("whether anything can lead into a container is not known: %s", alone.detail or alone.reason)
    return ""


def held_of(endings: Mapping[str, Ending]) -> Held:
    """What the ends of the trials say, by limit.

    Raises:
        MachineError: `executor_unavailable`: nobody would keep a job from taking the whole machine.
    """
    held = [name for name, ending in endings.items() if _LIMIT_TRIALS[name][1](ending)]
    missing = [name for name in INDISPENSABLE if name not in held]
    if untried := [endings[name].detail for name in missing if endings[name].exit_code < 0]:
        raise MachineError("executor_unavailable", f"what the engine limits could not be tried: {untried[0]}")
    if missing:
        raise MachineError(
            "executor_unavailable",
            f"the engine keeps no limit of {' and '.join(missing)}, and nobody else could",
            hint=NEEDS_DELEGATION,
        )
    return Held(
        limits=(*held, *ENFORCED_BY_NODE),
        meter=Meter.LOWER_BOUND if endings["cpu"].usage.cpu_us else Meter.WALL,
        tells_oom=endings["memory"].reason is EndReason.OUT_OF_MEMORY,
    )


async def _image(executor: OciExecutor) -> str:
    """The image to try with, by its id."""
    engine = await executor.open()
    root = await asyncio.to_thread(probe_image.archive, ["/bin/sh"])
    name = probe_image.name_of(root)
    if await engine.image(name) is None:
        await engine.add_image(root, name)
    image = await engine.image(name)
    if image is None:
        raise MachineError("executor_unavailable", f"{engine.facts.name} did not keep the image it is tried with")
    return image.id


async def _prove_walls(executor: OciExecutor, image: str) -> None:
    ending = await _trial(executor, "walls", _task(_WALLS), image)
    if ending.reason is EndReason.PROVIDER_FAULT and executor.do_without_init(ending.detail):
        ending = await _trial(executor, "walls", _task(_WALLS), image)
    if ending.exit_code < 0:
        raise MachineError("executor_unavailable", ending.detail, hint=way_out_of(ending.detail))
    if ending.reason is not EndReason.COMPLETED:
        found = CHECKS.get(ending.exit_code, ending.detail)
        raise MachineError("executor_unavailable", f"the container is not tight: {found}", hint="dms doctor")


def way_out_of(complaint: str) -> str:
    """What to do about an engine that starts no container, with this complaint."""
    return NEEDS_DELEGATION if "cgroup" in complaint else "dms doctor"


async def _trial(executor: OciExecutor, name: str, task: Task, image: str) -> Ending:
    """Runs a script in a directory of its own, and says how it ended."""
    run_name = f"probe-oci-{name}"
    directory = executor.state_directory / run_name
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(mode=0o700, parents=True)
    expected = executor.user_inside(run_name).partition(":")[0]
    task = msgspec.structs.replace(task, image=image, environment={"EXPECTED": expected})
    try:
        run = await executor.run_as(OWNER, run_name, task, directory)
        ending = [event.ending async for event in run.events() if isinstance(event, Exited)].pop()
        return _checked(directory / "written", ending)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _checked(written: Path, ending: Ending) -> Ending:
    """A file that stays somebody else's could be neither read nor removed."""
    if written.exists() and written.stat().st_uid != os.geteuid():
        detail = f"what a job leaves belongs to user {written.stat().st_uid}, not to the node's"
        return Ending(EndReason.PROVIDER_FAULT, -1, detail)
    return ending
