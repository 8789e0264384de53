from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import pytest

from dms.executors import Sandbox, SandboxExecutor
from dms.testing.executor_contract import (
    ECHO,
    PORT,
    InSandboxContract,
    ending_of,
    events_of,
    output_of,
)
from dms.testing.shell_programs import ShellPrograms, shell
from dms_actors.ports import Exited
from dms_proto.work import EndReason, Task

PYTHON = Path("/usr/bin/python3")


class SandboxContract(ShellPrograms, InSandboxContract):
    kind = SandboxExecutor

    def echoes(self, directory: Path, port: int) -> Task | None:
        if not PYTHON.exists():
            return None
        return Task("sandbox", (str(PYTHON), "-c", ECHO.replace("PORT", str(port))), ports=(port,))


class TestSandboxExecutor(SandboxContract):
    """With the strongest limiter of this machine."""


class TestSandboxExecutorWithoutCgroups(SandboxContract):
    """As on a machine where the node may not use cgroups."""

    limiters = ("rlimits",)


@pytest.mark.skipif(sys.base_prefix == "/usr", reason="the node's own Python is the machine's, which every job sees")
async def test_where_the_machine_has_no_python_the_nodes_own_is_shown_without_what_is_installed_in_it(
    sandbox: Sandbox, directory: Path
) -> None:
    executor = SandboxExecutor(sandbox, Path("/usr/bin/no-such-python"))
    task = shell("find /opt/python -maxdepth 4 -path '*-packages/*'; test -e /opt/python/bin")
    events = await events_of(await executor.run("a-1", msgspec.structs.replace(task, ports=(PORT,)), directory))
    assert output_of(events, "stdout") == b""
    assert output_of(events, "stderr") == b""
    last = events[-1]
    assert isinstance(last, Exited)
    assert last.ending.exit_code == 0


@pytest.mark.parametrize(
    ("command", "code", "detail"),
    [(("no-such-program",), 127, "No such file"), (("/etc/passwd",), 126, "Permission denied")],
)
async def test_a_job_with_ports_whose_command_cannot_be_executed_ends_as_any_other(
    sandbox: Sandbox, directory: Path, command: tuple[str, ...], code: int, detail: str
) -> None:
    executor = SandboxExecutor(sandbox)
    endings = []
    for number, ports in enumerate(((), (PORT,))):
        run = await executor.run(f"a-{number}", Task("sandbox", command, ports=ports), directory)
        endings.append(await ending_of(run))
    for ending in endings:
        assert (ending.reason, ending.exit_code) == (EndReason.BAD_PROGRAM, code)
        assert detail in ending.detail
    assert endings[0].detail == endings[1].detail


async def test_a_job_with_ports_has_the_environment_and_descriptors_of_any_other(
    sandbox: Sandbox, directory: Path
) -> None:
    executor = SandboxExecutor(sandbox)
    look = shell("env | sort; ls /proc/$$/fd; exec grep -e ^SigBlk -e ^SigIgn /proc/self/status")
    look = msgspec.structs.replace(look, environment={"LANG": "C", "LD_LIBRARY_PATH": "/nowhere", "{door}": "{result}"})
    seen = []
    for number, ports in enumerate(((), (PORT,))):
        run = await executor.run(f"a-{number}", msgspec.structs.replace(look, ports=ports), directory)
        seen.append(output_of(await events_of(run), "stdout"))
    assert seen[0] == seen[1]
    assert b"LD_LIBRARY_PATH=/nowhere" in seen[0]
