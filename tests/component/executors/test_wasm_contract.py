from __future__ import annotations

from pathlib import Path

from dms.executors import WasmExecutor
from dms.testing.executor_contract import InSandboxContract
from dms_proto.work import Task

IMPORTS = """
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
"""


def module(body: str, data: bytes = b"", pages: int = 8) -> str:
    """A module with `data` at 1024 and a helper that writes (descriptor, address, length)."""
    text = "".join(f"\\{byte:02x}" for byte in data)
    return f"""(module {IMPORTS}
      (memory (export "memory") {pages})
      (data (i32.const 1024) "{text}")
      (func $put (param i32 i32 i32)
        (local $left i32)
        (loop $again
          (if (i32.eqz (local.get 2)) (then (return)))
          (i32.store (i32.const 0) (local.get 1))
          (i32.store (i32.const 4) (local.get 2))
          (if (call $write (local.get 0) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable))
          (local.set 1 (i32.add (local.get 1) (i32.load (i32.const 8))))
          (local.set 2 (i32.sub (local.get 2) (i32.load (i32.const 8))))
          (br $again)))
      (func (export "_start") {body}))"""


class TestWasmExecutor(InSandboxContract):
    kind = WasmExecutor

    def prints(self, directory: Path, stdout: str, stderr: str, code: int) -> Task:
        out, err = stdout.encode(), stderr.encode()
        body = f"""
          (call $put (i32.const 1) (i32.const 1024) (i32.const {len(out)}))
          (call $put (i32.const 2) (i32.const {1024 + len(out)}) (i32.const {len(err)}))
          (call $exit (i32.const {code}))"""
        return self.task(directory, module(body, out + err))

    def waits(self, directory: Path, stdout: str = "") -> Task:
        body = f"(call $put (i32.const 1) (i32.const 1024) (i32.const {len(stdout)})) (loop $ever (br $ever))"
        return self.task(directory, module(body, stdout.encode()))

    def ignores_stop(self, directory: Path) -> Task | None:
        return None

    def dies_by(self, directory: Path, signum: int) -> Task | None:
        return None

    def broken(self, directory: Path) -> Task:
        return self.task(directory, "(module (func")

    def echoes(self, directory: Path, port: int) -> Task | None:
        return None

    def task(self, directory: Path, text: str) -> Task:
        (directory / "module.wat").write_text(text)
        return Task("wasm", module="module.wat")
