from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from dms.executors import ScriptedExecutor
from dms.testing.executor_contract import ExecutorContract, RunWatcher, ending_of
from dms_actors.ports import Executor
from dms_proto.work import EndReason, Task


def script(*words: str) -> Task:
    return Task("scripted", words)


class TestScriptedExecutor(ExecutorContract):
    @pytest.fixture
    async def executor(self) -> AsyncIterator[Executor]:
        executor = ScriptedExecutor()
        yield executor
        await executor.sweep([])

    async def restarted(self, executor: Executor) -> Executor:
        return executor

    def prints(self, directory: Path, stdout: str, stderr: str, code: int) -> Task:
        return script("print", stdout, "error", stderr, "exit", str(code))

    def waits(self, directory: Path, stdout: str = "") -> Task:
        return script("print", stdout, "wait")

    def ignores_stop(self, directory: Path) -> Task | None:
        return script("ignore_stop", "print", "ready", "wait")

    def dies_by(self, directory: Path, signum: int) -> Task | None:
        return script("signal", str(signum))

    def broken(self, directory: Path) -> Task:
        return script("flarb")

    def echoes(self, directory: Path, port: int) -> Task | None:
        return msgspec.structs.replace(script("wait"), ports=(port,))


@pytest.mark.parametrize(
    "words", [("exit",), ("exit", "x"), ("write", "../up", "x"), ("end", "no_such_reason"), (), ("sleep_ms", "soon")]
)
async def test_a_script_with_a_mistake_is_a_bad_program(tmp_path: Path, words: tuple[str, ...]) -> None:
    run = await ScriptedExecutor().run("a-1", script(*words), tmp_path)
    assert (await ending_of(run)).reason is EndReason.BAD_PROGRAM


async def test_write_leaves_a_file(tmp_path: Path) -> None:
    run = await ScriptedExecutor().run("a-1", script("write", "out/x.txt", "42"), tmp_path)
    assert (await ending_of(run)).reason is EndReason.COMPLETED
    assert (tmp_path / "out/x.txt").read_text() == "42"


async def test_any_end_can_be_scripted(tmp_path: Path) -> None:
    run = await ScriptedExecutor().run("a-1", script("end", "out_of_memory"), tmp_path)
    assert (await ending_of(run)).reason is EndReason.OUT_OF_MEMORY


async def test_time_passes_by_the_given_clock(tmp_path: Path) -> None:
    slept = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    run = await ScriptedExecutor(sleep).run("a-1", script("sleep_ms", "3600000", "exit", "4"), tmp_path)
    assert (await ending_of(run)).exit_code == 4
    assert slept == [3600.0]


async def test_a_script_may_exit_its_own_way_when_asked_to_stop(tmp_path: Path) -> None:
    watcher = RunWatcher(await ScriptedExecutor().run("a-1", script("on_stop", "7", "wait"), tmp_path))
    await watcher.wait_started()
    await watcher.run.stop(1000)
    ending = await watcher.ending()
    assert (ending.reason, ending.exit_code) == (EndReason.CANCELLED, 7)
