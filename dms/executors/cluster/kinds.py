"""What can be placed on a cluster: what a sandbox alone runs."""

from __future__ import annotations

from typing import Final

from dms.executors.sandbox.executor import SandboxExecutor
from dms.executors.wasm.executor import WasmExecutor

KINDS: Final[tuple[type[SandboxExecutor | WasmExecutor], ...]] = (SandboxExecutor, WasmExecutor)
