from __future__ import annotations

from pathlib import Path

import pytest

from dms.testing.executor_contract import ECHO, ExecutorContract
from dms.testing.shell_programs import ShellPrograms
from dms_actors.ports import Executor
from dms_proto.work import Task

from .conftest import OnProcesses

pytestmark = pytest.mark.slow
PYTHON = Path("/usr/bin/python3")


class TestPlacedExecutor(ShellPrograms, ExecutorContract):
    """On an engine whose jobs are processes of this machine."""

    @pytest.fixture
    async def executor(self, there: OnProcesses) -> Executor:
        self.there = there
        return await there.proven_node()

    async def restarted(self, executor: Executor) -> Executor:
        await self.there.cluster.close()
        return await self.there.proven_node()

    def echoes(self, directory: Path, port: int) -> Task | None:
        if not PYTHON.exists():
            return None
        return Task("sandbox", (str(PYTHON), "-c", ECHO.replace("PORT", str(port))), ports=(port,))
