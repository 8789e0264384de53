"""Secrets inside a sandbox, and nowhere else on the machine while the job runs."""

# ruff: noqa: PTH115, PTH208 - the kernel's names

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from dms.executors import Sandbox, SandboxExecutor, WasmExecutor
from dms.executors.limiter import process_tree
from dms.testing.executor_contract import RunWatcher, events_of, output_of
from dms_actors.ports import Exited
from dms_proto.secrets import MAX_SECRETS, MAX_VALUE_BYTES, OpenSecret
from dms_proto.work import EndReason, Limits, Task

pytestmark = pytest.mark.slow

WAITS = "echo up; exec sleep 600"


@pytest.fixture
def value() -> str:
    return f"value-{uuid.uuid4().hex}"


def shell(text: str) -> Task:
    return Task("sandbox", ("/bin/sh", "-c", text), limits=Limits(wall_ms=60_000))


async def test_a_file_is_the_jobs_alone_and_cannot_be_changed(sandbox: Sandbox, directory: Path, value: str) -> None:
    look = "stat -c '%a %U' /run/secrets /run/secrets/KEY; cat /run/secrets/KEY; chmod 600 /run/secrets/KEY || exit 3"
    run = await SandboxExecutor(sandbox).run("a-1", shell(look), directory, [OpenSecret("KEY", value.encode())])
    events = await events_of(run)
    assert output_of(events, "stdout").decode().startswith(f"500 job\n400 job\n{value}")
    assert isinstance(events[-1], Exited)
    assert events[-1].ending.exit_code == 3


async def test_a_variable_stands_in_the_jobs_environment(sandbox: Sandbox, directory: Path, value: str) -> None:
    secret = OpenSecret("TOKEN", value.encode(), variable=True)
    task = shell('printf %s "$TOKEN"; test ! -e /run')
    events = await events_of(await SandboxExecutor(sandbox).run("a-1", task, directory, [secret]))
    assert output_of(events, "stdout").decode() == value
    assert isinstance(events[-1], Exited)
    assert events[-1].ending.reason is EndReason.COMPLETED


async def test_as_many_and_as_long_as_allowed(sandbox: Sandbox, directory: Path) -> None:
    secrets = [OpenSecret(f"S{number}", bytes([number]) * MAX_VALUE_BYTES) for number in range(MAX_SECRETS)]
    run = await SandboxExecutor(sandbox).run("a-1", shell("cat /run/secrets/*| wc -c"), directory, secrets)
    assert int(output_of(await events_of(run), "stdout")) == MAX_SECRETS * MAX_VALUE_BYTES


@pytest.mark.parametrize("variable", [False, True])
async def test_the_value_is_nowhere_else(sandbox: Sandbox, directory: Path, value: str, variable: bool) -> None:
    secret = OpenSecret("KEY", value.encode(), variable)
    watcher = RunWatcher(await SandboxExecutor(sandbox).run("a-1", shell(WAITS), directory, [secret]))
    inner = int((await watcher.wait_started()).partition(":")[0])
    await watcher.wait_output(b"up")
    inside = set(process_tree.descendants(inner)) - {inner} if variable else set()
    assert set(processes_showing(value)) == inside, "the environment of the job itself is the only place"
    assert files_with(value, sandbox.settings.state_directory, directory) == []
    held = [
        link for pid in (os.getpid(), sandbox.launcher_pid, *process_tree.descendants(inner)) for link in links(pid)
    ]
    assert not [link for link in held if "memfd:secret" in link]
    await watcher.run.stop(0)
    await watcher.ending()
    assert processes_showing(value) == []
    assert files_with(value, sandbox.settings.state_directory, directory) == []


async def test_a_value_cannot_become_options_of_the_sandbox(sandbox: Sandbox, directory: Path) -> None:
    secret = OpenSecret("KEY", b"x\0--ro-bind\0/\0/host", variable=True)
    events = await events_of(await SandboxExecutor(sandbox).run("a-1", shell("ls /host"), directory, [secret]))
    (exited,) = events
    assert isinstance(exited, Exited)
    assert exited.ending.reason is EndReason.BAD_PROGRAM


async def test_a_module_gets_its_secrets(sandbox: Sandbox, directory: Path, value: str) -> None:
    (directory / "m.wat").write_text(READS_SECRETS)
    secrets = [OpenSecret("LD_PRELOAD", b"/job/x.so", variable=True), OpenSecret("K", value.encode())]
    task = Task("wasm", module="m.wat", limits=Limits(wall_ms=60_000))
    events = await events_of(await WasmExecutor(sandbox).run("a-1", task, directory, secrets))
    assert output_of(events, "stdout").decode() == f"LD_PRELOAD=/job/x.so\0{value}"
    assert not output_of(events, "stderr"), "the loader of the worker itself would have complained"


def processes_showing(value: str) -> list[int]:
    """Processes of this machine in whose arguments or environment the value stands."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        for name in ("cmdline", "environ"):
            try:
                shown = Path(f"/proc/{pid}/{name}").read_bytes()
            except OSError:  # it has ended
                continue
            if value.encode() in shown:
                found.append(int(pid))
    return found


def files_with(value: str, *directories: Path) -> list[Path]:
    """Files that hold the value."""
    return [
        path
        for directory in directories
        for path in directory.rglob("*")
        if path.is_file() and value.encode() in path.read_bytes()
    ]


def links(pid: int) -> Iterator[str]:
    """What a process holds open."""
    for name in os.listdir(f"/proc/{pid}/fd"):
        path = f"/proc/{pid}/fd/{name}"
        if os.path.lexists(path):
            yield os.readlink(path)


READS_SECRETS = """
(module
  (import "wasi_snapshot_preview1" "environ_sizes_get" (func $sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_get" (func $environ (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "K")
  (func $check (param i32) (if (local.get 0) (then unreachable)))
  (func $print (param $length i32)
    (i32.store (i32.const 16) (i32.const 1024)) (i32.store (i32.const 20) (local.get $length))
    (call $check (call $write (i32.const 1) (i32.const 16) (i32.const 1) (i32.const 24))))
  (func (export "_start")
    (call $check (call $sizes (i32.const 8) (i32.const 12)))
    (call $check (call $environ (i32.const 512) (i32.const 1024)))
    (call $print (i32.load (i32.const 12)))
    (call $check (call $open (i32.const 4) (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 0)
      (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 28)))
    (i32.store (i32.const 16) (i32.const 1024)) (i32.store (i32.const 20) (i32.const 1000))
    (call $check (call $read (i32.load (i32.const 28)) (i32.const 16) (i32.const 1) (i32.const 24)))
    (call $print (i32.load (i32.const 24)))))
"""
