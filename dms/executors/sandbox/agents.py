"""Programs that something starts inside their sandbox: `port_agent` leads to their ports, `exec_agent` runs other commands there.

`ports_start` opens the ports at which they find their proxy and their siblings, and stays not.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Final, NamedTuple

import msgspec

from dms.executors.sandbox import agent_start, exec_agent, port_agent, ports_start, wanted
from dms.executors.sandbox.interpreter import Interpreter
from dms.executors.sandbox.profile import CA_BUNDLE
from dms.executors.sandbox.program import Program
from dms.executors.sandbox.verdict import NOT_EXECUTABLE, NOT_FOUND
from dms_proto.egress import Egress
from dms_proto.siblings import DOMAIN, ways
from dms_proto.work import EXEC_AGENT_BYTES, PORT_AGENT_BYTES, Ending, EndReason, ExecBy, Task

_LIBRARIES: Final = "LD_LIBRARY_PATH"
_CERTIFICATES: Final = "SSL_CERT_FILE"
_OWN_IMPORTS: Final = "from dms."


class Overhead(NamedTuple):
    """What an agent needs beside what the job asks for itself; its memory is reserved with it."""

    memory_bytes: int
    processes: int


PORTS: Final = Overhead(PORT_AGENT_BYTES, 2)
"""With all its connections busy; it, and what starts it."""
EXEC: Final = Overhead(EXEC_AGENT_BYTES, 2 + exec_agent.MOST)
"""With all its sessions, each a process; the commands in them count as the job's own."""
OUTSIDE: Final = Overhead(0, 0)
"""Nothing stays: who leads out is outside."""
EGRESS_PORT: Final = 3128
"""Where a job finds its proxy, or the next one that it does not declare itself."""


def with_agents(
    program: Program, task: Task, python: Callable[[], Interpreter], certificates: str = CA_BUNDLE
) -> Program:
    """`program`, with all that the task wants beside it. `certificates`: see `letting_out`."""
    if task.ports:
        program = letting_in(program, task.ports, python())
    if task.exec is not ExecBy.NOBODY:
        program = letting_exec(program, python())
    if task.egress.destinations:
        program = letting_out(program, task.egress, task.ports, python(), certificates)
    if task.names.count:
        program = letting_call(program, task, python())
    return program


def letting_in(program: Program, ports: Sequence[int], python: Interpreter) -> Program:
    """`program`, reachable at `ports` from outside by an agent that `python` runs."""
    started = _beside(program, python, port_agent, (wanted.DOOR, wanted.RESULT, ",".join(map(str, ports))), PORTS)
    return msgspec.structs.replace(started, opens_door=True)


def letting_exec(program: Program, python: Interpreter) -> Program:
    """`program`, and whatever commands are sent in to run beside it, started by an agent that `python` runs."""
    result = wanted.RESULT if program.judge is None else "-1"
    started = _beside(program, python, exec_agent, (wanted.EXEC, result), EXEC)
    return msgspec.structs.replace(started, opens_exec=True)


def letting_out(
    program: Program, egress: Egress, taken: Sequence[int], python: Interpreter, certificates: str = CA_BUNDLE
) -> Program:
    """`program`, with a proxy at a port of its loopback, where programs look for one.

    Args:
        program: whatever else is started before it, this is first.
        egress: to where.
        taken: ports that the job itself listens at.
        python: that starts it.
        certificates: which the job finds where its programs look for them; empty: it has its own.
    """
    port = next(port for port in range(EGRESS_PORT, EGRESS_PORT + len(taken) + 1) if port not in taken)
    result = wanted.RESULT if program.judge is None else "-1"
    started = _beside(program, python, ports_start, (wanted.EGRESS, result, f"127.0.0.1:{port}"), OUTSIDE)
    variables = _pointing_to(f"http://127.0.0.1:{port}") | ({_CERTIFICATES: certificates} if certificates else {})
    return msgspec.structs.replace(started, egress=egress, environment={**variables, **started.environment})


def letting_call(program: Program, task: Task, python: Interpreter) -> Program:
    """`program`, with the ports of its siblings on its loopback, under their names."""
    addresses = ",".join(way.address for way in ways(task.names, task.ports))
    if not addresses:
        return msgspec.structs.replace(program, names=task.names)
    result = wanted.RESULT if program.judge is None else "-1"
    started = _beside(program, python, ports_start, (wanted.NAMES, result, addresses), OUTSIDE)
    return msgspec.structs.replace(started, names=task.names, ways=tuple(ways(task.names, task.ports)))


def _pointing_to(proxy: str) -> dict[str, str]:
    """The variables by which programs find a proxy, in both spellings that are in use."""
    variables = {"http_proxy": proxy, "https_proxy": proxy, "no_proxy": f"localhost,127.0.0.1,.{DOMAIN}"}
    upper = {name.upper(): value for name, value in variables.items()}
    return {**variables, **upper}


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
