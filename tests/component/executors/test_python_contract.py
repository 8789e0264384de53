from __future__ import annotations

from pathlib import Path

from dms.executors import PythonExecutor
from dms.testing.executor_contract import InSandboxContract
from dms_proto.work import Task


def program(text: str, *arguments: str) -> Task:
    return Task("python", ("-c", text, *arguments))


class TestPythonExecutor(InSandboxContract):
    kind = PythonExecutor

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
