from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dms.executors import ExecutorSettings, PythonExecutor, Sandbox
from dms.testing.executor_contract import ExecutorContract, sweep_all
from dms_actors.ports import Executor
from dms_proto.errors import MachineError
from dms_proto.work import Task


def program(text: str, *arguments: str) -> Task:
    return Task("python", ("-c", text, *arguments))


class TestPythonExecutor(ExecutorContract):
    @pytest.fixture
    async def executor(self, tmp_path: Path) -> AsyncIterator[Executor]:
        self.settings = ExecutorSettings(tmp_path / "state")
        self.sandboxes = [Sandbox(self.settings)]
        try:
            self.sandboxes[0].start()
        except MachineError as error:
            pytest.skip(f"no sandbox on this machine: {error}")
        yield PythonExecutor(self.sandboxes[0])
        for sandbox in self.sandboxes:
            await sandbox.close()
        await sweep_all(self.settings)

    async def restarted(self, executor: Executor) -> Executor:
        await self.sandboxes[-1].close()
        self.sandboxes.append(Sandbox(self.settings))
        return PythonExecutor(self.sandboxes[-1])

    def prints(self, directory: Path, stdout: str, stderr: str, code: int) -> Task:
        (directory / "out").write_bytes(stdout.encode())
        (directory / "err").write_bytes(stderr.encode())
        return program(
            "import sys; sys.stdout.buffer.write(open('out', 'rb').read()); sys.stderr.buffer.write(open('err', 'rb').read()); "
            f"sys.exit({code})"
        )

    def waits(self, directory: Path, stdout: str = "") -> Task:
        return program("import sys, time; print(sys.argv[1], end='', flush=True); time.sleep(600)", stdout)

    def ignores_stop(self, directory: Path) -> Task | None:
        return program(
            "import signal, time; signal.signal(15, signal.SIG_IGN); print('ready', end='', flush=True); time.sleep(600)"
        )

    def dies_by(self, directory: Path, signum: int) -> Task | None:
        return program(f"import os; os.kill(os.getpid(), {signum})")

    def broken(self, directory: Path) -> Task:
        return program("\0")

    def echoes(self, directory: Path, port: int) -> Task | None:
        return None
