"""Bringing a job's files here: copied from the node's own store, never over anything that is there already."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path, PurePosixPath

from dms.rpc.api.jobs import JobResults, ResultFile
from dms_proto.errors import MachineError, UserError


def fetch(results: JobResults, into: Path, *, force: bool = False) -> list[Path]:
    """Copies all files below `into`; with several slots each into a directory of its own, named by its index.

    Raises:
        UserError: `bad_argument`: a file is already there and differs.
        MachineError: `store_failed`: it cannot be written; `digest_mismatch` cannot happen here, the node has checked it.
    """
    copied: list[Path] = []
    for slot in results.slots:
        directory = into / str(slot.index) if len(results.slots) > 1 else into
        copied.extend(_copy(file, directory, force=force) for file in slot.files)
    return copied


def _copy(file: ResultFile, directory: Path, *, force: bool) -> Path:
    relative = PurePosixPath(file.path)
    if relative.is_absolute() or ".." in relative.parts:
        raise UserError("bad_argument", f"the result {file.path!r} would leave {directory}")
    if not file.blob:
        raise UserError("not_found", f"{file.path} is not here yet", hint="dms job wait, then dms job get")
    target = directory / relative
    if target.exists() and not force:
        if target.is_file() and target.stat().st_size == file.size and _same(Path(file.blob), target):
            return target
        raise UserError(
            "bad_argument", f"{target} is already there", hint="--into DIR puts results elsewhere, --force replaces"
        )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _place(Path(file.blob), target)
    except OSError as error:
        raise MachineError("store_failed", f"{target} cannot be written: {error.strerror}") from error
    return target


def _place(source: Path, target: Path) -> None:
    """Whole or not at all: a half-written result under its final name would be taken for one."""
    descriptor, draft = tempfile.mkstemp(dir=target.parent, prefix=".dms-")
    os.close(descriptor)
    try:
        shutil.copyfile(source, draft)
        mask = os.umask(0)
        os.umask(mask)
        Path(draft).chmod(0o666 & ~mask)
        Path(draft).replace(target)
    except OSError:
        Path(draft).unlink(missing_ok=True)
        raise


def _same(one: Path, other: Path) -> bool:
    import filecmp  # noqa: PLC0415 - only where something is in the way

    return filecmp.cmp(one, other, shallow=False)
