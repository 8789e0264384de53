"""A program that lets connections in to its declared ports: started by the agent, which goes on beside it (`port_agent`)."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from dms.executors.sandbox import port_agent
from dms.executors.sandbox.engine import DOOR_ARGUMENT, RESULT_ARGUMENT
from dms.executors.sandbox.interpreter import Interpreter
from dms.executors.sandbox.program import Program
from dms.executors.sandbox.verdict import NOT_EXECUTABLE, NOT_FOUND
from dms_proto.units import MIB
from dms_proto.work import Ending, EndReason

AGENT_BYTES: Final = 48 * MIB
"""Memory of the agent, with all its connections busy, beside what the job reserved."""
AGENT_PROCESSES: Final = 2
"""It, and what starts it."""
_LIBRARIES: Final = "LD_LIBRARY_PATH"


def letting_in(program: Program, ports: Sequence[int], python: Interpreter) -> Program:
    """`program`, reachable at `ports` from outside by an agent that `python` runs."""
    own = program.environment.get(_LIBRARIES, "")
    libraries = ":".join(path for path in (python.library_path, own) if path)
    start = (*python.command, "-c", _agent(), DOOR_ARGUMENT, RESULT_ARGUMENT, ",".join(map(str, ports)), own)
    return msgspec.structs.replace(
        program,
        command=(*start, *program.command),
        environment={**program.environment, **({_LIBRARIES: libraries} if libraries else {})},
        binds=(*program.binds, *python.binds),
        overhead_bytes=program.overhead_bytes + AGENT_BYTES,
        overhead_processes=program.overhead_processes + AGENT_PROCESSES,
        opens_door=True,
        judge=_judge,
    )


@functools.cache
def _agent() -> str:
    return Path(port_agent.__file__).read_text()


def _judge(ending: Ending, result: bytes) -> Ending:
    """A command that could not be executed is none, as without the agent."""
    if not result or ending.reason is not EndReason.EXIT_NONZERO:
        return ending
    why = result.decode(errors="replace")
    code = NOT_FOUND if why.endswith("No such file or directory") else NOT_EXECUTABLE
    return msgspec.structs.replace(ending, reason=EndReason.BAD_PROGRAM, exit_code=code, detail=why)
