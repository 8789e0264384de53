"""The process in which a comparator runs. It limits itself before it loads anything, so that neither the comparator nor what it reads gets further.

It has no environment and nothing on its standard streams, and ends with its answer. Should nobody wait for it any more, the kernel's alarm ends it.
"""

from __future__ import annotations

import importlib
import os
import resource
import signal
import sys
from operator import attrgetter
from pathlib import Path
from typing import Final

import msgspec

from dms.comparing import Result, ResultComparator
from dms.comparing.question import Question, Reply, Side
from dms_proto.units import MIB, format_bytes

MOST_FILES: Final = 64
"""Open at once."""
TOLD: Final = 200
"""Characters of an error that are told."""


def main() -> None:
    """Reads the question, answers it, ends."""
    question = msgspec.json.decode(sys.stdin.buffer.read(), type=Question)
    answer_to = os.dup(sys.stdout.fileno())
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nowhere, stream)
    results = [_result(side) for side in question.sides]
    _limit(question)
    os.write(answer_to, msgspec.json.encode(_answer(question, results)) + b"\n")
    os._exit(0)  # whatever threads and handlers the comparator has left


def _limit(question: Question) -> None:
    for kind, most in (
        (resource.RLIMIT_AS, question.memory_bytes),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, MOST_FILES),
    ):
        resource.setrlimit(kind, (most, most))
    resource.setrlimit(resource.RLIMIT_CPU, (question.seconds, question.seconds + 1))  # a signal first, then the end
    signal.alarm(question.seconds)


def _answer(question: Question, results: list[Result]) -> Reply:
    try:
        comparator = _made(question)
        said = comparator.same(*results) if results else True
    except MemoryError:
        return Reply(failed=f"it needs more than {format_bytes(question.memory_bytes)} of memory")
    except ValueError as error:
        return Reply(failed=str(error)[:TOLD] or "ValueError")
    except BaseException as error:  # noqa: BLE001 - somebody else's code, on strangers' files
        return Reply(failed=f"{type(error).__name__}: {error}"[:TOLD])
    if not isinstance(said, bool):
        return Reply(failed=f"it gave a {type(said).__name__} instead of True or False")
    return Reply(said)


def _made(question: Question) -> ResultComparator:
    sys.path[:] = question.path
    module, _, attribute = question.target.partition(":")
    made: ResultComparator = attrgetter(attribute)(importlib.import_module(module))(question.parameter)
    return made


def _result(side: Side) -> Result:
    files = {name: Path(place) for name, place in side.files.items()}
    return Result(files, _beginning(Path(side.stdout), side.stdout_bytes))


def _beginning(path: Path, size: int) -> Path:
    """A file of the first `size` bytes of another: a provider may have sent more of a log than it has signed."""
    if not size:
        return Path(os.devnull)
    if path.stat().st_size <= size:
        return path
    copy = os.memfd_create("stdout")
    with path.open("rb") as whole:
        while size > 0 and (piece := whole.read(min(size, MIB))):
            os.write(copy, piece)
            size -= len(piece)
    return Path(f"/proc/self/fd/{copy}")
