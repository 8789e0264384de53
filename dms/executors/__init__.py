"""Executors: running untrusted work. `detect` finds out which of them this machine can offer.

::

    SandboxExecutor   native commands in bubblewrap, with a system call filter and the machine's limiter
    WasmExecutor      WebAssembly in a worker process of its own, itself in that sandbox
    PythonExecutor    Python programs in that sandbox, and a worker there that takes calls of functions
    OciExecutor       containers, by podman or Docker, where the owner wants them
    PlacedExecutor    native commands and WebAssembly as above, on the machines of a cluster (`cluster`)
    ScriptedExecutor  little scripts without processes, for tests and simulations

A file a run wrote is brought home by `outputs.collect_into`.
"""

from dms.executors.detect import Detected, Unavailable, detect
from dms.executors.oci.executor import OciExecutor
from dms.executors.outputs import OutputLimits, collect, collect_into
from dms.executors.python.executor import PythonExecutor
from dms.executors.sandbox.engine import Sandbox
from dms.executors.sandbox.executor import SandboxExecutor
from dms.executors.scripted import ScriptedExecutor
from dms.executors.settings import ExecutorSettings, OciSettings
from dms.executors.wasm.executor import WasmExecutor

__all__ = [
    "Detected",
    "ExecutorSettings",
    "OciExecutor",
    "OciSettings",
    "OutputLimits",
    "PythonExecutor",
    "Sandbox",
    "SandboxExecutor",
    "ScriptedExecutor",
    "Unavailable",
    "WasmExecutor",
    "collect",
    "collect_into",
    "detect",
]
