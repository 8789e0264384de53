"""What is asked of the market for an executor: one job whose allocations are workers. Pure but for the files that it may name."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from dms.calls.libraries import library_wanted
from dms.jobs.check import PARSERS, job_of
from dms.jobs.resolve import resolve
from dms.jobs.spec import JobSpec
from dms_proto.errors import UserError
from dms_proto.units import SECOND
from dms_proto.work import PYTHON

ORIGIN: Final = "executor()"
"""Named in errors."""
MARGIN_S: Final = 10.0
"""A worker waits so much longer for calls than its caller lets it: it ends by itself only where that has died."""


class Wish(msgspec.Struct, frozen=True):
    """What is wanted.

    Attributes:
        workers: how many.
        idle_s: seconds without a call after which they are let go.
        spec: the job whose allocations they are.
    """

    workers: int
    idle_s: float
    spec: JobSpec


def wish_of(
    *,
    workers: int,
    cpu: float | str,
    memory: int | str,
    disk: int | str,
    max_price: float | str,
    preferences: str | dict[str, float],
    packages: Sequence[str],
    lease: float | str,
    idle: float | str,
    more: dict[str, Any],
) -> Wish:
    """The wish as an executor's options say it; see `Market.executor`.

    Raises:
        UserError: `bad_argument`, `bad_job`.
    """
    for field in ("executor", "command", "count"):
        if field in more:
            raise UserError("bad_argument", f"an executor's job has no {field!r} of its own")
    idle_s = _seconds("idle", idle)
    here = f"{PYTHON}=={sys.version_info[0]}.{sys.version_info[1]}"
    timeouts = {"run": _written(lease), "idle": f"{idle_s + MARGIN_S}s", "grace": "1s"} | more.pop("timeouts", {})
    fields = {
        "name": "functions",
        "executor": PYTHON,
        "count": workers,
        "resources": {"cpu": cpu, "memory": memory, "disk": disk} | more.pop("resources", {}),
        "libraries": [here, *map(library_wanted, packages), *more.pop("libraries", ())],
        "max_price": max_price,
        "preferences": preferences,
        "timeouts": timeouts,
        "retry": {"job_failures": 1},
        **more,
    }
    return Wish(workers, idle_s, resolve(job_of(fields, ORIGIN), Path.cwd(), origin=ORIGIN))


def _seconds(name: str, duration: float | str) -> float:
    try:
        return PARSERS["duration"](_written(duration)) / SECOND
    except ValueError as error:
        raise UserError("bad_argument", f"{name}: {error}") from error


def _written(duration: float | str) -> str:
    """A duration as documents have it: a number is of seconds."""
    return duration if isinstance(duration, str) else f"{duration}s"
