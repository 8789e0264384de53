"""Programs that have an agent beside them inside their sandbox: `port_agent` leads to their ports, `exec_agent` runs other commands there."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Final, NamedTuple

import msgspec

from dms.executors.sandbox import agent_start, exec_agent, port_agent
from dms.executors.sandbox.engine import DOOR_ARGUMENT, EXEC_ARGUMENT, RESULT_ARGUMENT
from dms.executors.sandbox.interpreter import Interpreter
from dms.executors.sandbox.program import Program
from dms.executors.sandbox.verdict import NOT_EXECUTABLE, NOT_FOUND
from dms_proto.work import EXEC_AGENT_BYTES, PORT_AGENT_BYTES, Ending, EndReason

_LIBRARIES: Final = "LD_LIBRARY_PATH"
_OWN_IMPORTS: Final = "from dms."


class Overhead(NamedTuple):
    """What an agent needs beside what the job asks for itself; its memory is reserved with it."""

    memory_bytes: int
    processes: int


PORTS: Final = Overhead(PORT_AGENT_BYTES, 2)
"""With all its connections busy; it, and what starts it."""
EXEC: Final = Overhead(EXEC_AGENT_BYTES, 2 + exec_agent.MOST)
"""With all its sessions, each a process; the commands in them count as the job's own."""


def letting_in(program: Program, ports: Sequence[int], python: Interpreter) -> Program:
    """`program`, reachable at `ports` from outside by an agent that `python` runs."""
    started = _beside(program, python, port_agent, (DOOR_ARGUMENT, RESULT_ARGUMENT, ",".join(map(str, ports))), PORTS)
    return msgspec.structs.replace(started, opens_door=True)


def letting_exec(program: Program, python: Interpreter) -> Program:
    """`program`, and whatever commands are sent in to run beside it, started by an agent that `python` runs."""
    result = RESULT_ARGUMENT if program.judge is None else "-1"
    started = _beside(program, python, exec_agent, (EXEC_ARGUMENT, result), EXEC)
    return msgspec.structs.replace(started, opens_exec=True)


def _beside(
    program: Program, python: Interpreter, agent: ModuleType, arguments: tuple[str, ...], overhead: Overhead
) -> Program:
    own = program.environment.get(_LIBRARIES, "")
    libraries = ":".join(dict.fromkeys(path for path in (python.library_path, *own.split(":")) if path))
    return msgspec.structs.replace(
        program,
        command=(*python.command, "-c", text_of(agent_start, agent), *arguments, own, *program.command),
        environment={**program.environment, **({_LIBRARIES: libraries} if libraries else {})},
        binds=tuple(dict.fromkeys((*program.binds, *python.binds))),
        overhead_bytes=program.overhead_bytes + overhead.memory_bytes,
        overhead_processes=program.overhead_processes + overhead.processes,
        judge=program.judge or _judge,
    )


@functools.cache
def text_of(*modules: ModuleType) -> str:
    """The source of modules as one program: each after those whose names it uses, without importing them."""
    sources = [Path(str(module.__file__)).read_text() for module in modules]
    lines = [line for source in sources for line in source.splitlines() if not line.startswith(_OWN_IMPORTS)]
    return "\n".join(lines) + "\n"


def _judge(ending: Ending, result: bytes) -> Ending:
    """A command that could not be executed is none, as without the agent."""
    if not result or ending.reason is not EndReason.EXIT_NONZERO:
        return ending
    why = result.decode(errors="replace")
    code = NOT_FOUND if why.endswith("No such file or directory") else NOT_EXECUTABLE
    return msgspec.structs.replace(ending, reason=EndReason.BAD_PROGRAM, exit_code=code, detail=why)
