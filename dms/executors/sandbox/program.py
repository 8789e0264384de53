"""What the engine runs: a command with what it needs to see, and how its end is to be read. Each executor makes its own kind."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from dms.executors.limiter import Allowance
from dms.executors.limiter.base import LEAST_MEMORY
from dms.executors.settings import ExecutorSettings
from dms_proto.egress import NO_EGRESS, Egress
from dms_proto.secrets import OpenSecret
from dms_proto.siblings import NO_NAMES, Names, Way, flaw_of
from dms_proto.units import CORE, format_bytes
from dms_proto.work import Ending, Task, takes_calls

MAX_COMMAND_BYTES: Final = 128 * 1024
"""Of the command as JSON, which is how it goes to the launcher in one datagram. Longer input belongs into a file."""

Judge = Callable[[Ending, bytes], Ending]
"""Makes the final `Ending` from the engine's and from what the program wrote to its result file."""


class Program(msgspec.Struct, frozen=True):
    """A command for the engine. Its `repr` shows for whom only: secrets stand in it.

    Attributes:
        executor: for whom.
        command: argument vector inside the sandbox.
        environment: variables inside.
        secrets: contents of files below /run/secrets, by name.
        binds: (path on this machine, where it appears), read-only.
        devices: (device node on this machine, where it appears): of the GPUs that the job was given.
        overhead_bytes: memory the executor itself needs on top of what the job reserved.
        overhead_processes: threads the executor itself needs.
        opens_door: set for one that lets connections in: it finds the listening socket at the descriptor named by the argument "{door}".
        opens_exec: set for one that has commands run beside it: it finds the listening socket at the descriptor named by the argument "{exec}".
        egress: set for one that may connect to elsewhere: its starter finds the socket of the proxy at the descriptor named by "{egress}".
        names: of it and its siblings, for its /etc/hosts.
        ways: set for one that reaches its siblings: its starter finds the socket of the keeper at the descriptor named by "{names}".
        judge: set when the program reports through a result file, which it then finds at the descriptor named by the argument "{result}".
    """

    executor: str
    command: tuple[str, ...]
    environment: dict[str, str]
    secrets: Mapping[str, bytes] = {}
    binds: tuple[tuple[Path, str], ...] = ()
    devices: tuple[tuple[str, str], ...] = ()
    overhead_bytes: int = 0
    overhead_processes: int = 0
    opens_door: bool = False
    opens_exec: bool = False
    egress: Egress = NO_EGRESS
    names: Names = NO_NAMES
    ways: tuple[Way, ...] = ()
    judge: Judge | None = None

    def __repr__(self) -> str:
        return f"Program({self.executor})"


def environment_of(task: Task, secrets: Sequence[OpenSecret]) -> dict[str, str]:
    """The variables of a task, and those secrets that are to be variables."""
    return {**task.environment, **{secret.name: os.fsdecode(secret.value) for secret in secrets if secret.variable}}


def files_of(secrets: Sequence[OpenSecret]) -> dict[str, bytes]:
    """The contents of those secrets that are to be files."""
    return {secret.name: secret.value for secret in secrets if not secret.variable}


def allowance_of(task: Task, program: Program, settings: ExecutorSettings) -> Allowance:
    """What a run may use: what it reserved, or the default where it reserved nothing."""
    reserved, default = task.resources, settings.unreserved
    return Allowance(
        cpu_millicores=reserved.cpu_millicores or default.cpu_millicores or CORE,
        memory_bytes=max(LEAST_MEMORY, (reserved.memory_bytes or default.memory_bytes) + program.overhead_bytes),
        processes=max(1, task.limits.processes) + program.overhead_processes,
        disk_bytes=reserved.disk_bytes or default.disk_bytes,
        log_bytes=max(1, task.limits.log_bytes),
        wall_ms=max(1, task.limits.wall_ms),
    )


def fault_of(task: Task, program: Program) -> str:
    """Why this task can never be started, or "". What it would take bubblewrap's word for is not looked for here."""
    if not task.command and not task.module and not takes_calls(task):
        return "the command is empty"
    if task.names.count and (flaw := flaw_of(task.executor, task.names.count, len(task.ports))):
        return f"it cannot have names: {flaw}"
    return fault_in_words(task, program.command, program.environment)


def fault_in_words(task: Task, command: Sequence[str], environment: Mapping[str, str] = {}) -> str:
    """Why these words can never start a program, or "".

    Args:
        task: whose words they are.
        command: what is started for it.
        environment: variables besides the task's.
    """
    pairs = (*task.environment.items(), *environment.items())
    if not all(map(_is_text, (*task.command, *(text for pair in pairs for text in pair)))):
        return "a zero byte or a lone surrogate in the command or environment"
    if len(msgspec.json.encode(command)) > MAX_COMMAND_BYTES:
        return f"the command is too long: more than {format_bytes(MAX_COMMAND_BYTES)}"
    if any(not name or "=" in name for name in task.environment):
        return "a variable's name is empty or contains '='"
    return ""


def _is_text(text: str) -> bool:
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False
