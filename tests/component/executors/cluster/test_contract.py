from __future__ import annotations

from pathlib import Path

import pytest

from dms.testing.executor_contract import ExecutorContract
from dms_actors.ports import Executor
from dms_proto.work import Task

from .conftest import OnProcesses

pytestmark = pytest.mark.slow


def shell(text: str, *arguments: str) -> Task:
    return Task("sandbox", ("/bin/sh", "-c", text, "sh", *arguments))


class TestPlacedExecutor(ExecutorContract):
    """On an engine whose jobs are processes of this machine."""

    @pytest.fixture
    async def executor(self, there: OnProcesses) -> Executor:
        self.there = there
        return there.node()

    async def restarted(self, executor: Executor) -> Executor:
        await self.there.cluster.close()
        return self.there.node()

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
        return None
