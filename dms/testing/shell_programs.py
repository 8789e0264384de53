"""The programs of the executor contract as commands of a shell, for executors that run what the sandbox runs."""

from __future__ import annotations

from pathlib import Path

from dms_proto.work import Task


def shell(text: str, *arguments: str) -> Task:
    """A script, with its arguments."""
    return Task("sandbox", ("/bin/sh", "-c", text, "sh", *arguments))


class ShellPrograms:
    """Goes before `executor_contract.ExecutorContract` among the bases of its tests."""

    def prints(self, directory: Path, stdout: str, stderr: str, code: int) -> Task:
        """See `ExecutorContract.prints`."""
        (directory / "out").write_bytes(stdout.encode())
        (directory / "err").write_bytes(stderr.encode())
        return shell(f"cat out; cat err >&2; exit {code}")

    def waits(self, directory: Path, stdout: str = "") -> Task:
        """See `ExecutorContract.waits`."""
        return shell('printf %s "$1"; exec sleep 600', stdout)

    def ignores_stop(self, directory: Path) -> Task | None:
        """See `ExecutorContract.ignores_stop`."""
        return shell("trap '' TERM; printf ready; while :; do sleep 600; done")

    def dies_by(self, directory: Path, signum: int) -> Task | None:
        """See `ExecutorContract.dies_by`."""
        return shell(f"kill -{signum} $$")

    def broken(self, directory: Path) -> Task:
        """See `ExecutorContract.broken`."""
        return Task("sandbox", ("no-such-program",))
