from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dms.executors.oci.executor import OciExecutor
from dms.executors.settings import ExecutorSettings
from dms.testing.executor_contract import ECHO, ExecutorContract
from dms_actors.ports import Executor
from dms_proto.work import Task

from .conftest import Ground

pytestmark = pytest.mark.slow


class TestOciExecutor(ExecutorContract):
    """On a real engine that this test run has started."""

    @pytest.fixture
    async def executor(self, settings: ExecutorSettings, ground: Ground, python_image: str) -> AsyncIterator[Executor]:
        self.settings, self.image, self.python_image = settings, ground.image, python_image
        self.executors = [OciExecutor(settings)]
        yield self.executors[0]
        await self.executors[-1].sweep([])
        for executor in self.executors:
            await executor.close()

    async def restarted(self, executor: Executor) -> Executor:
        await self.executors[-1].close()
        self.executors.append(OciExecutor(self.settings))
        return self.executors[-1]

    @pytest.mark.usefixtures("cgroups")
    async def test_usage_says_how_long_it_took_and_who_measured(self, executor: Executor, directory: Path) -> None:
        await super().test_usage_says_how_long_it_took_and_who_measured(executor, directory)

    def prints(self, directory: Path, stdout: str, stderr: str, code: int) -> Task:
        (directory / "out").write_bytes(stdout.encode())
        (directory / "err").write_bytes(stderr.encode())
        return self.shell(f"cat out; cat err >&2; exit {code}")

    def waits(self, directory: Path, stdout: str = "") -> Task:
        return self.shell('printf "%s\n" "$1"; exec sleep 600', stdout)

    def ignores_stop(self, directory: Path) -> Task | None:
        return self.shell("trap '' TERM; echo ready; while :; do sleep 600; done")

    def dies_by(self, directory: Path, signum: int) -> Task | None:
        return self.shell(f"kill -{signum} $$")

    def broken(self, directory: Path) -> Task:
        return Task("oci", ("no-such-program",), image=self.image)

    def echoes(self, directory: Path, port: int) -> Task | None:
        (directory / "echo.py").write_text(ECHO.replace("PORT", str(port)))
        return Task("oci", ("/usr/bin/python3", "echo.py"), image=self.python_image, ports=(port,))

    def shell(self, text: str, *arguments: str) -> Task:
        return Task("oci", ("/bin/sh", "-c", text, "sh", *arguments), image=self.image)
