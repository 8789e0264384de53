"""Bringing a job's files here: copied from the node's own store, never over anything that is there already.

What can be known to stand in the way is looked at before the job is handed over (`make_ready`): afterwards it has been paid.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from dms.rpc.api.data import DatasetView
from dms.rpc.api.jobs import JobResults, ResultFile
from dms_proto.errors import MachineError, UserError
from dms_proto.globs import is_literal, is_match
from dms_proto.units import format_count
from dms_proto.work import EndReason


def make_ready(into: Path, outputs: Sequence[str], count: int, *, force: bool = False) -> None:
    """Makes the directory that results will be put in, and sees whether they can be.

    Args:
        into: the directory.
        outputs: patterns of the files that will come.
        count: slots of the job.
        force: files that are there may be replaced.

    Raises:
        UserError: `bad_argument`: a file that an output names is already there.
        MachineError: `store_failed`: the directory cannot be made or written to.
    """
    try:
        into.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=into):
            pass
    except OSError as error:
        raise MachineError("store_failed", f"results cannot be put into {into}: {error.strerror}") from error
    for index in range(0 if force else count):
        directory = into / str(index) if count > 1 else into
        for output in filter(is_literal, outputs):
            if (directory / output).is_file():
                raise _in_the_way(directory / output)


def unmatched(results: JobResults, outputs: Sequence[str]) -> list[str]:
    """The outputs that were asked for and that a slot which completed did not leave, each in words."""
    ended = [slot for slot in results.slots if slot.ending is not None and slot.ending.reason is EndReason.COMPLETED]
    found = []
    for output in outputs:
        without = [slot.index for slot in ended if not any(is_match(file.path, output) for file in slot.files)]
        if without:
            which = (
                f" in {format_count(len(without), 'slot')} of {len(results.slots)}" if len(results.slots) > 1 else ""
            )
            found.append(f"no file matches the output {output!r}{which}{_for_a_directory(output)}")
    return found


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


def fetch_dataset(view: DatasetView, into: Path, *, force: bool = False) -> None:
    """Copies the files of a dataset below `into`.

    Raises:
        UserError: `bad_argument`: a file is already there and differs; `not_found`: its content is gone.
        MachineError: `store_failed`: it cannot be written.
    """
    for file in view.contents:
        if not file.blob:
            raise UserError("not_found", f"the content of {file.path} is gone", hint="add the dataset again")
        target = _copy(ResultFile(file.path, file.digest, file.size, file.blob), into, force=force)
        if file.executable:
            target.chmod(target.stat().st_mode | 0o100)


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
        raise _in_the_way(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _place(Path(file.blob), target)
    except OSError as error:
        raise MachineError("store_failed", f"{target} cannot be written: {error.strerror}") from error
    return target


def _for_a_directory(output: str) -> str:
    is_file = not is_literal(output) or PurePosixPath(output).suffix
    return "" if is_file else f"; the files of a directory are {output.rstrip('/')}/**"


def _in_the_way(target: Path) -> UserError:
    return UserError(
        "bad_argument", f"{target} is already there", hint="--into DIR puts results elsewhere, --force replaces"
    )


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
