from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dms.executors import ExecutorSettings, Sandbox, SandboxExecutor
from dms.testing.executor_contract import ECHO, ExecutorContract, sweep_all
from dms_actors.ports import Executor
from dms_proto.errors import MachineError
from dms_proto.work import Task

PYTHON = Path("/usr/bin/python3")


def shell(text: str, *arguments: str) -> Task:
    return Task("sandbox", ("/bin/sh", "-c", text, "sh", *arguments))


class SandboxContract(ExecutorContract):
    limiters: tuple[str, ...] = ()

    @pytest.fixture
    async def executor(self, tmp_path: Path) -> AsyncIterator[Executor]:
        self.settings = ExecutorSettings(tmp_path / "state", limiters=self.limiters)
        self.sandboxes = [Sandbox(self.settings)]
        try:
            self.sandboxes[0].start()
        except MachineError as error:
            pytest.skip(f"no sandbox on this machine: {error}")
        yield SandboxExecutor(self.sandboxes[0])
        for sandbox in self.sandboxes:
            await sandbox.close()
        await sweep_all(self.settings)

    async def restarted(self, executor: Executor) -> Executor:
        await self.sandboxes[-1].close()
        self.sandboxes.append(Sandbox(self.settings))
        return SandboxExecutor(self.sandboxes[-1])

    def prints(self, directory: Path, stdout: str, stderr: str, code: int) -> Task:
        (directory / "out").write_bytes(stdout.encode())
        (directory / "err").write_bytes(stderr.encode())
        return shell(f"cat out; cat err >&2; exit {code}")

    def waits(self, directory: Path, stdout: str = "") -> Task:
        return shell('printf %s "$1"; exec sleep 600', stdout)

    def ignores_stop(self, directory: Path) -> Task | None:
        return shell("trap '' TERM; printf ready; while :; do sleep 600; done")

    def dies_by(self, directory: Path, signum: int) -> Task | None:
        return shell(f"kill -{signum} $$")

    def broken(self, directory: Path) -> Task:
        return Task("sandbox", ("no-such-program",))

    def echoes(self, directory: Path, port: int) -> Task | None:
        if not PYTHON.exists():
            return None
        return Task("sandbox", (str(PYTHON), "-c", ECHO.replace("PORT", str(port))), ports=(port,))


class TestSandboxExecutor(SandboxContract):
    """With the strongest limiter of this machine."""


class TestSandboxExecutorWithoutCgroups(SandboxContract):
    """As on a machine where the node may not use cgroups."""

    limiters = ("rlimits",)
