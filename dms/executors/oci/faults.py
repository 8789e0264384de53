"""What an engine's refusal means for a job: whose fault it is, and in which words. Pure.

Engines say what went wrong in prose that differs between them and their versions, so it is looked at for the few things that are the job's own fault;
everything else is the provider's.
"""

from __future__ import annotations

import re
from typing import Final

from dms.executors.sandbox.verdict import NOT_EXECUTABLE, NOT_FOUND
from dms_proto.work import Ending, EndReason

_MAX_DETAIL: Final = 300
_FROM_INIT: Final = re.compile(
    rb"\[FATAL tini \(\d+\)\] exec |(?:ERROR: )?.{0,40}catatonit.{0,40}(?:exec|failed)", re.DOTALL
)
_BEGINS_AS_INIT: Final = re.compile(rb"(?:\[FATAL tini \(|(?:ERROR: )?[^\n]{0,40}catatonit)[^\n]{0,1000}\n?\Z")
_INIT_CODES: Final = (1, 255)
_MISSING_PROGRAM: Final = re.compile(
    r"executable file .{0,300}not found|no such file or directory|command that was not found|could not be found",
    re.IGNORECASE,
)
_BAD_PROGRAM: Final = re.compile(
    r"exec format error|is a directory|permission denied|command that could not be invoked|argument list too long"
    r"|no command (?:specified|or entrypoint)",
    re.IGNORECASE,
)
_NO_MEMORY: Final = re.compile(r"OOM-killed|memory limit too low|cannot allocate memory", re.IGNORECASE)
_STARTING: Final = re.compile(r"\bexec\b|executable|entrypoint|no command|invoke", re.IGNORECASE)
_NOT_THERE: Final = re.compile(
    r"manifest unknown|not found|does not exist|unauthorized|denied|authentication required|invalid reference|unsupported|no matching manifest",
    re.IGNORECASE,
)


class RefusedError(Exception):
    """A run that ends before it began. `ending`: how."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending.detail)
        self.ending = ending


def start_failed(message: str, *, reads_variables: bool = False) -> Ending:
    """The end of a job whose container could not be made or started.

    Args:
        message: the engine's.
        reads_variables: whether the image's shell was to read secrets first.
    """
    line = _one_line(message)
    if _NO_MEMORY.search(message):
        return Ending(EndReason.OUT_OF_MEMORY, detail=f"the memory limit is too low to start anything: {line}")
    is_missing, is_bad = _MISSING_PROGRAM.search(message), _BAD_PROGRAM.search(message)
    if not _STARTING.search(message) or not (is_missing or is_bad):
        return Ending(EndReason.PROVIDER_FAULT, detail=f"the container could not be started: {line}")
    if reads_variables and "/bin/sh" in message:
        line = "the image has no /bin/sh, which secrets as variables need; take them as files"
    return Ending(EndReason.BAD_PROGRAM, NOT_FOUND if is_missing else NOT_EXECUTABLE, line)


def may_be_from_init(output: bytes) -> bool:
    """Whether this may be the complaint of the engine's first process that it could not execute the job's program, or the first part of it."""
    return _BEGINS_AS_INIT.match(output) is not None


def init_failed(output: bytes, exit_code: int) -> Ending | None:
    """The end of a run of which nothing is there but that complaint; None when it was the program's own after all."""
    if _FROM_INIT.match(output) is None:
        return None
    if exit_code not in (NOT_FOUND, NOT_EXECUTABLE, *_INIT_CODES):
        return None
    line = _one_line(output.decode(errors="replace"))
    return Ending(EndReason.BAD_PROGRAM, NOT_FOUND if _MISSING_PROGRAM.search(line) else NOT_EXECUTABLE, line)


def pull_failed(image: str, message: str) -> Ending:
    """The end of a job whose image could not be brought: its own fault where the registry has no such image for everybody."""
    line = f"the image {image} could not be pulled: {_one_line(message)}"
    reason = EndReason.BAD_PROGRAM if _NOT_THERE.search(message) else EndReason.PROVIDER_FAULT
    return Ending(reason, detail=line)


def _one_line(message: str) -> str:
    return " ".join(message.split())[:_MAX_DETAIL]
