"""A kind with its parameters as a job: the fields it makes, and over them what whoever asks wants of the market."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from dms.jobs.check import job_of
from dms.jobs.problems import Problem
from dms.jobs.resolve import resolve
from dms.jobs.spec import JobSpec
from dms.kinds import Fields, Kind
from dms.kinds.given import refused
from dms_proto.errors import UserError


class Wishes(NamedTuple):
    """What whoever asks wants of the market.

    Attributes:
        fields: of the job document; they go before the kind's own, and of a mapping, its entries do.
        roots: where the files of its secrets may lie beside the directory of the job.
        variables: environment variables from which its secrets may come.
        is_own: whether whoever asks has named the kind's inputs, so that they may lie anywhere, and no file of somebody else.
        datasets: read beside the inputs of the kind, as the job document names them.
    """

    fields: Mapping[str, Any]
    roots: Sequence[Path] = ()
    variables: Collection[str] = ()
    is_own: bool = True
    datasets: Sequence[Mapping[str, str]] = ()


def job_for(name: str, kind: Kind, given: msgspec.Struct, wishes: Wishes, base: Path) -> JobSpec:
    """The job, its inputs read and digested.

    Args:
        name: of the kind.
        kind: what is done.
        given: its parameters.
        wishes: what else is wanted.
        base: the directory that paths are relative to.

    Raises:
        BadJob: the parameters go together badly, or the job breaks a rule.
        UserError: `bad_argument`: the kind itself fails.
    """
    try:
        fields = kind.job(given)
    except ValueError as error:
        raise refused(name, [Problem(0, "", str(error))]) from error
    except Exception as error:
        raise UserError(
            "bad_argument", f"the kind of task {name!r} fails on these parameters: {type(error).__name__}: {error}"
        ) from error
    merged = {"name": name, **fields}
    for field, wish in wishes.fields.items():
        before = merged.get(field)
        merged[field] = {**before, **wish} if isinstance(before, Mapping) and isinstance(wish, Mapping) else wish
    if wishes.datasets:
        merged["inputs"] = (*merged.get("inputs", ()), *wishes.datasets)
    job = job_of(merged, origin=f"the job of {name}")
    roots = (*wishes.roots, *(_named(fields, base) if wishes.is_own else ()))
    return resolve(job, base, origin=f"the job of {name}", roots=roots, variables=wishes.variables)


def _named(fields: Fields, base: Path) -> list[Path]:
    inputs = [item.get("path", "") if isinstance(item, Mapping) else item for item in fields.get("inputs", ())]
    return [(base / path).resolve() for path in (*inputs, fields.get("module", "")) if path]
