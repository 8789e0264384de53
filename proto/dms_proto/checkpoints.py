"""Checkpoints: a program stops half-way, and goes on wherever there is room, from what it left.

A task names its `checkpoint`, a file or directory of its own. A program that exits with `CHECKPOINT_EXIT` says that what lies there is whole, and
that it has more to do: by itself, now and then, or because it was asked to stop. Its provider takes that in instead of the outputs, its requester
keeps it, and the next attempt finds it where the last one left it, beside the inputs::

    attempt 1 ──exit 85──▶ checkpoint 1 ──▶ attempt 2, anywhere ──exit 85──▶ checkpoint 2 ──▶ … ──exit 0──▶ outputs

Such an end is nobody's fault and is paid for. A checkpoint holds until the next one is here: an attempt that is lost takes with it what it has done
itself, and no more.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from dms_proto.data.places import disk_bytes, flaw_of
from dms_proto.globs import is_literal
from dms_proto.units import format_bytes, format_count
from dms_proto.wire import MAX_TASK
from dms_proto.work import Ending, EndReason, Input, Output, Task, takes_calls

CHECKPOINT_EXIT: Final = 85
"""The exit code that says so; HTCondor's, so that programs made for that need no change."""


class Checkpoint(msgspec.Struct, frozen=True):
    """What the next attempt at a piece of work begins with. `number`: how many there were, with this one; 0 and no files: none yet."""

    number: int = 0
    files: tuple[Output, ...] = ()

    def __str__(self) -> str:
        size = format_bytes(sum(file.size for file in self.files))
        return f"checkpoint {self.number}, {format_count(len(self.files), 'file')} ({size})"


NO_CHECKPOINT: Final = Checkpoint()


def is_at_checkpoint(task: Task, ending: Ending) -> bool:
    """Whether the program says that its checkpoint is whole."""
    return bool(task.checkpoint) and ending.exit_code == CHECKPOINT_EXIT


def leaves_checkpoint(ending: Ending) -> bool:
    """Whether the next attempt begins with what this one has left, as far as its ending tells; the job is one that names a checkpoint."""
    return ending.exit_code == CHECKPOINT_EXIT and ending.reason is not EndReason.EXIT_NONZERO


def brought_home(task: Task, ending: Ending) -> tuple[str, ...]:
    """The patterns of the files that are taken in after a run: of its checkpoint, or of its outputs."""
    if is_at_checkpoint(task, ending):
        return (task.checkpoint, f"{task.checkpoint}/**")
    return task.outputs


def files_of(task: Task, outputs: Iterable[Output]) -> tuple[Output, ...]:
    """Those of the files that a run left that are its checkpoint."""
    return tuple(output for output in outputs if _is_within(output.path, task.checkpoint))


def going_on(task: Task, checkpoint: Checkpoint) -> Task:
    """The task of the next attempt: with the files of the checkpoint in the place of what lay there at first."""
    if not checkpoint.files:
        return task
    kept = (wanted for wanted in task.inputs if not _is_within(wanted.path, task.checkpoint))
    left = (Input(file.path, file.digest, file.size, chunks=file.chunks) for file in checkpoint.files)
    return msgspec.structs.replace(task, inputs=(*kept, *left))


def no_progress(before: Checkpoint, after: Checkpoint) -> str:
    """Why nothing was done between two checkpoints, in words; empty when something was."""
    left, began = ({(file.path, file.digest) for file in each.files} for each in (after, before))
    return "it left the checkpoint that it began with" if left == began else ""


def too_much(task: Task, checkpoint: Checkpoint) -> str:
    """Why a checkpoint cannot be sent along with its task, in words; empty when it can."""
    then = going_on(task, checkpoint)
    if flaw := flaw_of(wanted.path for wanted in then.inputs):
        return f"{checkpoint} cannot be laid out: {flaw}"
    disk, room = disk_bytes(then.inputs) + sum(each.total for each in then.datasets), task.resources.disk_bytes
    if room and disk > room:
        return f"with its inputs {checkpoint} takes {format_bytes(disk)} of disk, {format_bytes(room)} are asked for"
    if (size := len(msgspec.msgpack.encode(then))) > MAX_TASK:
        return f"with {checkpoint} the task takes {format_bytes(size)} as a message, at most {format_bytes(MAX_TASK)} can be sent"
    return ""


def task_flaw(task: Task, *, is_checked: bool) -> str:
    """Why a task cannot go on from a checkpoint, in words; empty when it can, or does not want to. `is_checked`: its results are."""
    if not task.checkpoint:
        return ""
    if is_checked:
        return "does not go with `verify`: who goes on from the work of another could be outvoted for it"
    if takes_calls(task):
        return "a worker that takes calls of functions does not go on elsewhere; leave it out, or give a command"
    return _place_flaw(task)


def _place_flaw(task: Task) -> str:
    """Why it cannot be where the task says, in words; or empty. Inputs may lie in it: it takes their place."""
    place = task.checkpoint
    if not is_literal(place):
        return f"{place!r} is a pattern; it is one file or directory"
    for dataset in task.datasets:
        if _is_within(dataset.path, place) or _is_within(place, dataset.path):
            return f"one of {place!r} and the dataset at {dataset.path!r} lies in the other"
    return flaw_of((*(wanted.path for wanted in task.inputs if not _is_within(wanted.path, place)), place))


def _is_within(path: str, place: str) -> bool:
    return path == place or path.startswith(f"{place}/")
