"""The process that runs one WebAssembly module, itself inside the sandbox of native commands.

It is started as `python -I -S worker.py RESULT_FD SPEC`, where SPEC is JSON (see `executor.WorkerSpec`), runs the module, and writes one JSON
object about the end to RESULT_FD. Only the standard library and wasmtime are there. It ends by `os._exit`: wasmtime's threads do not survive an
orderly shutdown.

Output goes straight to the inherited stdout and stderr; `stdout_custom` was seen to abort the interpreter. A module that is not WebAssembly (in
binary or text form) is refused: a precompiled one is native code of its author's choice.
"""

# The standard library's compiled files lie beside it; those of wasmtime may not, and the node keeps them in a directory of its own.
import ctypes
import ctypes.util  # noqa: F401
import dataclasses  # noqa: F401
import enum  # noqa: F401
import json
import os
import platform  # noqa: F401
import sys
import threading
import time
import typing  # noqa: F401
import weakref  # noqa: F401
from contextlib import AbstractContextManager, contextmanager  # noqa: F401
from pathlib import Path
from typing import Any

HOME = "/opt/dms"
PYCACHE = f"{HOME}/pycache"
SITE = "/opt/site"
NO_FUEL_LIMIT = 1 << 62
TRAP_EXIT_CODE = 134
"""As the wasmtime command line does: 128 + SIGABRT."""
STEP_S = 0.25
"""So often it is looked at how much of the time is left."""
MODULE_MAGIC = b"\0asm\x01\0\0\0"
COMPONENT_MAGIC = b"\0asm"
MAX_STACK = 1 << 20

Report = dict[str, Any]


def main() -> None:
    """Runs the module and reports; the exit code is the module's own."""
    result_fd, spec = int(sys.argv[1]), json.loads(sys.argv[2])
    os.set_inheritable(result_fd, False)
    sys.path.append(SITE)
    sys.pycache_prefix = PYCACHE
    import wasmtime  # noqa: PLC0415 - it must come after the two lines above

    report = _run(wasmtime, spec)
    os.write(result_fd, json.dumps(report).encode())
    os._exit(int(report["code"]))


def _run(wasmtime: Any, spec: dict[str, Any]) -> Report:
    try:
        engine = wasmtime.Engine(_config(wasmtime))
        module = _load(wasmtime, engine, Path(spec["module"]))
    except (OSError, ValueError, wasmtime.WasmtimeError) as error:
        return _bad(error)
    store = wasmtime.Store(engine)
    fuel = spec["fuel"] or NO_FUEL_LIMIT
    store.set_fuel(fuel)
    store.set_limits(memory_size=spec["memory_bytes"])
    store.set_wasi(_wasi(wasmtime, spec))
    store.set_epoch_deadline(1)
    threading.Thread(target=_watch_clock, args=(engine, spec["deadline"]), daemon=True).start()
    try:
        linker = wasmtime.Linker(engine)
        linker.define_wasi()
        instance = linker.instantiate(store, module)
        start = instance.exports(store).get("_start")
        if not isinstance(start, wasmtime.Func):
            return _bad("it exports no function _start")
    except (wasmtime.WasmtimeError, wasmtime.Trap) as error:
        return _failed_start(wasmtime, error, fuel - store.get_fuel())
    report = _call(wasmtime, store, start)
    memory = instance.exports(store).get("memory")
    pages = memory.data_len(store) if isinstance(memory, wasmtime.Memory) else 0
    return {**report, "fuel": fuel - store.get_fuel(), "memory": pages}


def _config(wasmtime: Any) -> Any:
    """Everything that could make two machines disagree about one module is fixed or off."""
    config = wasmtime.Config()
    config.consume_fuel = True
    config.epoch_interruption = True
    config.cranelift_nan_canonicalization = True
    config.wasm_relaxed_simd_deterministic = True
    config.wasm_threads = False
    config.max_wasm_stack = MAX_STACK
    return config


def _load(wasmtime: Any, engine: Any, path: Path) -> Any:
    data = path.read_bytes()
    if data.startswith(MODULE_MAGIC):
        return wasmtime.Module(engine, data)
    if data.startswith(COMPONENT_MAGIC):
        raise ValueError("it is a component; only core modules can be run")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise ValueError("it is neither a WebAssembly module nor its text form")
    return wasmtime.Module(engine, wasmtime.wat2wasm(text))


def _wasi(wasmtime: Any, spec: dict[str, Any]) -> Any:
    wasi = wasmtime.WasiConfig()
    wasi.argv = spec["arguments"]
    variables = {name: Path(spec["secrets"], name).read_bytes().decode() for name in spec["variables"]}
    wasi.env = list({**spec["environment"], **variables}.items())
    wasi.inherit_stdin()
    wasi.inherit_stdout()
    wasi.inherit_stderr()
    wasi.preopen_dir(spec["directory"], "/")
    if spec["secrets"]:
        wasi.preopen_dir(spec["secrets"], spec["secrets"])
    return wasi


def _watch_clock(engine: Any, deadline: float) -> None:
    """Interrupts the module when its time is over, so that it still reports its fuel; the node's own clock kills this process soon after.

    A step that takes much longer than it should was one in which this process stood still, which is no time of the run. If the time is over before
    the module begins, it stood still until now, or is about to be killed: that is left to the node's clock.
    """
    left = deadline - time.monotonic()
    if left <= 0:
        return
    while left > 0:
        begun = time.monotonic()
        time.sleep(min(left, STEP_S))
        left -= min(time.monotonic() - begun, 2 * STEP_S)
    engine.increment_epoch()


def _call(wasmtime: Any, store: Any, start: Any) -> Report:
    try:
        start(store)
    except wasmtime.ExitTrap as end:
        return {"end": "exit", "code": end.code & 0xFF, "detail": ""}
    except wasmtime.Trap as trap:
        return _trapped(wasmtime, trap)
    except wasmtime.WasmtimeError as error:
        return {"end": "trap", "code": TRAP_EXIT_CODE, "detail": _line(error)}
    return {"end": "exit", "code": 0, "detail": ""}


def _trapped(wasmtime: Any, trap: Any) -> Report:
    ends = {wasmtime.TrapCode.OUT_OF_FUEL: "out_of_fuel", wasmtime.TrapCode.INTERRUPT: "deadline"}
    return {"end": ends.get(trap.trap_code, "trap"), "code": TRAP_EXIT_CODE, "detail": _line(trap)}


def _failed_start(wasmtime: Any, error: Any, fuel: int) -> Report:
    if isinstance(error, wasmtime.Trap):  # in its start function
        return {**_trapped(wasmtime, error), "fuel": fuel}
    line = _line(error)
    if "exceeds memory limits" in line or "memory minimum size" in line:
        return {"end": "memory", "code": TRAP_EXIT_CODE, "detail": line}
    return _bad(error)


def _bad(error: object) -> Report:
    return {"end": "bad", "code": 126, "detail": _line(error)}


def _line(error: object) -> str:
    """A trap's message has a backtrace below its first lines."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    cause = next((line for line in lines if "wasm trap:" in line), "")
    return (cause or " ".join(lines[:3]))[:300] or type(error).__name__


if __name__ == "__main__":
    main()
