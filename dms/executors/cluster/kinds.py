"""What can be placed on a cluster: what nobody has to be let in to."""

from __future__ import annotations

from typing import Final

from dms.executors.sandbox.executor import SandboxExecutor
from dms.executors.wasm.executor import WasmExecutor

KINDS: Final[tuple[type[SandboxExecutor | WasmExecutor], ...]] = (SandboxExecutor, WasmExecutor)
