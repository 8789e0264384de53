"""WebAssembly beyond the contract: fuel, memory, files, and modules that are none."""

from __future__ import annotations

from pathlib import Path

import pytest

from dms.executors import Sandbox, WasmExecutor
from dms.testing.executor_contract import ending_of, events_of, output_of
from dms_actors.ports import Exited
from dms_proto.capability import Isolation, Resources
from dms_proto.units import MIB
from dms_proto.work import EndReason, Limits, Task

COUNT = """(module (memory (export "memory") 1)
  (func (export "_start") (local i32)
    (loop $again
      (local.set 0 (i32.add (local.get 0) (i32.const 1)))
      (br_if $again (i32.lt_u (local.get 0) (i32.const 100000))))))"""
GROW = """(module (memory (export "memory") 1)
  (func (export "_start") (loop $again (br_if $again (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable))"""
HUGE = '(module (memory (export "memory") 4000) (func (export "_start")))'
TRAP = '(module (memory (export "memory") 1) (func (export "_start") unreachable))'
COPY_FILE = """(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 100) "%s") (data (i32.const 200) "out.txt")
  (func $must (param i32) (if (local.get 0) (then (call $exit (local.get 0)))))
  (func (export "_start")
    (call $must (call $open (i32.const 3) (i32.const 0) (i32.const 100) (i32.const %d) (i32.const 0)
      (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 0)))
    (i32.store (i32.const 8) (i32.const 1000)) (i32.store (i32.const 12) (i32.const 100))
    (call $must (call $read (i32.load (i32.const 0)) (i32.const 8) (i32.const 1) (i32.const 16)))
    (call $must (call $open (i32.const 3) (i32.const 0) (i32.const 200) (i32.const 7) (i32.const 9)
      (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 0)))
    (i32.store (i32.const 12) (i32.load (i32.const 16)))
    (call $must (call $write (i32.load (i32.const 0)) (i32.const 8) (i32.const 1) (i32.const 16)))))"""
ARGUMENTS = """(module
  (import "wasi_snapshot_preview1" "%s_get" (func $get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "%s_sizes_get" (func $sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (drop (call $sizes (i32.const 0) (i32.const 4)))
    (drop (call $get (i32.const 100) (i32.const 1000)))
    (i32.store (i32.const 8) (i32.const 1000)) (i32.store (i32.const 12) (i32.load (i32.const 4)))
    (drop (call $write (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 16)))))"""


LIMITS = Limits()


@pytest.fixture
def executor(sandbox: Sandbox) -> WasmExecutor:
    return WasmExecutor(sandbox)


def task(directory: Path, module: str | bytes, *command: str, limits: Limits = LIMITS, memory: int = 0) -> Task:
    (directory / "m.wasm").write_bytes(module.encode() if isinstance(module, str) else module)
    return Task("wasm", command, "m.wasm", resources=Resources(memory_bytes=memory), limits=limits)


async def test_the_offer_says_what_was_proven(executor: WasmExecutor) -> None:
    offer = await executor.probe()
    assert offer.isolation is Isolation.WASM
    assert {"memory", "processes", "disk", "wall", "output"} <= set(offer.limits)
    assert offer.version


async def test_fuel_is_counted_and_the_same_every_time(executor: WasmExecutor, directory: Path) -> None:
    fuels = set()
    for number in range(3):
        ending = await ending_of(await executor.run(f"a-{number}", task(directory, COUNT), directory))
        assert ending.reason is EndReason.COMPLETED
        fuels.add(ending.usage.fuel)
    assert len(fuels) == 1
    assert 100_000 < fuels.pop() < 10_000_000


async def test_a_module_out_of_fuel_ends_at_the_limit(executor: WasmExecutor, directory: Path) -> None:
    limits = Limits(fuel=50_000)
    ending = await ending_of(await executor.run("a-1", task(directory, COUNT, limits=limits), directory))
    assert ending.reason is EndReason.OUT_OF_FUEL
    assert ending.usage.fuel == 50_000
    assert "50000" in ending.detail


@pytest.mark.parametrize("module", [GROW, HUGE])
async def test_a_module_over_its_memory_is_out_of_memory(executor: WasmExecutor, directory: Path, module: str) -> None:
    ending = await ending_of(await executor.run("a-1", task(directory, module, memory=32 * MIB), directory))
    assert ending.reason is EndReason.OUT_OF_MEMORY
    assert "32 MiB" in ending.detail


async def test_a_trap_is_the_programs_own_failure(executor: WasmExecutor, directory: Path) -> None:
    ending = await ending_of(await executor.run("a-1", task(directory, TRAP), directory))
    assert ending.reason is EndReason.EXIT_NONZERO
    assert ending.exit_code == 134
    assert "unreachable" in ending.detail


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ('(module (import "env" "magic" (func)) (func (export "_start")))', "env::magic"),
        ('(module (func (export "main")))', "_start"),
        (b"\0asm\x01\0\0\0\xff\xff", ""),
        (b"\0asm\x0d\0\x01\0", "component"),
        (b"\x7fELF\x02\x01\x01\0 precompiled", "neither"),
        (b"", ""),
        ("(module", ""),
        ('(module (memory 1 1 shared) (func (export "_start")))', ""),
    ],
)
async def test_what_cannot_be_run_is_a_bad_program(
    executor: WasmExecutor, directory: Path, module: str | bytes, words: str
) -> None:
    ending = await ending_of(await executor.run("a-1", task(directory, module), directory))
    assert ending.reason is EndReason.BAD_PROGRAM
    assert words in ending.detail
    assert ending.detail


@pytest.mark.parametrize("module", ["", "/etc/passwd", "../m.wasm", "none.wasm", "directory", "link"])
async def test_a_module_that_is_no_file_of_the_job_is_refused_before_the_start(
    executor: WasmExecutor, directory: Path, module: str
) -> None:
    (directory / "directory").mkdir()
    (directory / "link").symlink_to("/etc/passwd")
    events = await events_of(await executor.run("a-1", Task("wasm", module=module), directory))
    assert len(events) == 1
    assert isinstance(events[0], Exited)
    assert events[0].ending.reason is EndReason.BAD_PROGRAM


async def test_more_arguments_than_can_be_passed_are_a_bad_program(executor: WasmExecutor, directory: Path) -> None:
    job = task(directory, COUNT)
    job = Task("wasm", module=job.module, environment={"A": "x" * 200_000})
    ending = await ending_of(await executor.run("a-1", job, directory))
    assert ending.reason is EndReason.BAD_PROGRAM
    assert "too long" in ending.detail


async def test_a_module_reads_and_writes_its_own_directory(executor: WasmExecutor, directory: Path) -> None:
    (directory / "in.txt").write_text("payload")
    ending = await ending_of(await executor.run("a-1", task(directory, COPY_FILE % ("in.txt", 6)), directory))
    assert ending.reason is EndReason.COMPLETED, ending.detail
    assert (directory / "out.txt").read_text() == "payload"


@pytest.mark.parametrize("path", ["../etc/passwd", "/etc/passwd", "link"])
async def test_a_module_reads_nothing_else(executor: WasmExecutor, directory: Path, path: str) -> None:
    (directory / "link").symlink_to("/etc/passwd")
    ending = await ending_of(await executor.run("a-1", task(directory, COPY_FILE % (path, len(path))), directory))
    assert ending.reason is EndReason.EXIT_NONZERO
    assert not (directory / "out.txt").exists()


async def test_a_module_sees_its_arguments_and_the_tasks_environment_only(
    executor: WasmExecutor, directory: Path
) -> None:
    events = await events_of(
        await executor.run("a-1", task(directory, ARGUMENTS % ("args", "args"), "one", "two words"), directory)
    )
    assert output_of(events, "stdout") == b"m.wasm\0one\0two words\0"
    job = task(directory, ARGUMENTS % ("environ", "environ"))
    job = Task("wasm", module=job.module, environment={"A": "1", "B": "ü"})
    events = await events_of(await executor.run("a-2", job, directory))
    assert sorted(output_of(events, "stdout").split(b"\0")) == [b"", b"A=1", "B=ü".encode()]
