"""What the sandbox really does on this machine, found out by trying: a script inside looks at its walls, others run into each limit."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from dms.executors.sandbox import bwrap
from dms.executors.sandbox.engine import Sandbox
from dms.executors.sandbox.program import Program
from dms_actors.ports import Exited, Run
from dms_proto.capability import NOTHING, Resources
from dms_proto.errors import MachineError
from dms_proto.units import CORE, MIB
from dms_proto.work import Ending, EndReason, Limits, Task

OWNER: Final = "probe"
"""In place of an executor's name in the records of runs made here."""
ENFORCED_BY_NODE: Final = ("disk", "wall", "output")
"""Whatever the limiter: the node kills the run."""
CHECKS: Final = {
    10: "the user inside is not the one it should be",
    11: "the host's home directories are visible",
    12: "kernel settings can be written",
    13: "/usr can be written",
    14: "its own directory cannot be written",
    15: "the system call filter is not active",
    16: "it has capabilities",
    17: "it has a network",
    18: "environment variables of the node are visible",
}
_WALLS: Final = """
test "$(id -u)" = 10000 || exit 10
test ! -e /root || exit 11
test ! -e /home || exit 11
if (: > /proc/sys/kernel/core_pattern) 2>/dev/null; then exit 12; fi
if (: > /usr/dms-probe) 2>/dev/null; then exit 13; fi
: > /job/written || exit 14
grep -q '^NoNewPrivs:.1' /proc/self/status || exit 15
grep -q '^Seccomp:.2' /proc/self/status || exit 15
grep -q '^CapEff:.0000000000000000' /proc/self/status || exit 16
test "$(tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' ')" = lo || exit 17
test -z "$(tr -d '\\0' < /proc/1/environ)" || exit 18
"""
_BUSY_MS: Final = 200
_QUOTA: Final = CORE // 5


_TRIAL: Final = Limits(wall_ms=20_000)


def _task(script: str, resources: Resources = NOTHING, limits: Limits = _TRIAL) -> Task:
    return Task("sandbox", ("/bin/sh", "-c", script), resources=resources, limits=limits)


_LIMIT_TRIALS: Final[dict[str, tuple[Task, Callable[[Ending], bool]]]] = {
    "cpu": (
        _task("while :; do :; done", Resources(cpu_millicores=_QUOTA), Limits(wall_ms=_BUSY_MS)),
        lambda end: end.usage.cpu_us < end.usage.wall_ms * 1000 // 2,
    ),
    "memory": (
        _task("exec tail /dev/zero", Resources(memory_bytes=24 * MIB)),
        lambda end: end.reason is EndReason.OUT_OF_MEMORY,
    ),
    "processes": (
        _task("for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 5 & done", limits=Limits(wall_ms=20_000, processes=6)),
        lambda end: end.reason is EndReason.EXIT_NONZERO,
    ),
}


async def prove(sandbox: Sandbox) -> tuple[str, ...]:
    """Tries the walls, then the limits; once for all executors that share the sandbox.

    Returns:
        The limits that hold.

    Raises:
        MachineError: `executor_unavailable`: no sandbox, or one that is not tight.
    """
    if sandbox.proof is None:
        sandbox.proof = asyncio.get_running_loop().create_task(_prove(sandbox))
    return await sandbox.proof


async def _prove(sandbox: Sandbox) -> tuple[str, ...]:
    await _prove_walls(sandbox)
    return await _proven_limits(sandbox)


async def _prove_walls(sandbox: Sandbox) -> None:
    """Runs the hardened no-op that looks around.

    Raises:
        MachineError: `executor_unavailable`: no sandbox, or one that is not tight.
    """
    ending = await _run(sandbox, "probe-walls", _task(_WALLS))
    if ending.exit_code < 0:
        raise bwrap.explain(ending.detail.removeprefix("the sandbox failed: "))
    if ending.reason is not EndReason.COMPLETED:
        found = CHECKS.get(ending.exit_code, ending.detail)
        raise MachineError("executor_unavailable", f"the sandbox is not tight: {found}", hint="dms doctor")


async def _proven_limits(sandbox: Sandbox) -> tuple[str, ...]:
    """The limits that held when a job ran into them."""
    wanted = sandbox.limiter.enforces
    endings = await asyncio.gather(*(_run(sandbox, f"probe-{limit}", _LIMIT_TRIALS[limit][0]) for limit in wanted))
    held = [limit for limit, ending in zip(wanted, endings, strict=True) if _LIMIT_TRIALS[limit][1](ending)]
    return (*held, *ENFORCED_BY_NODE)


async def trial(sandbox: Sandbox, name: str, start: Callable[[Path], Awaitable[Run]]) -> Ending:
    """Runs something in a directory of its own and says how it ended."""
    directory = sandbox.settings.state_directory / name
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(mode=0o700, parents=True)
    try:
        run = await start(directory)
        return [event.ending async for event in run.events() if isinstance(event, Exited)].pop()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


async def _run(sandbox: Sandbox, name: str, task: Task) -> Ending:
    async def start(directory: Path) -> Run:
        return await sandbox.run(name, task, Program(OWNER, task.command, task.environment), directory)

    return await trial(sandbox, name, start)
