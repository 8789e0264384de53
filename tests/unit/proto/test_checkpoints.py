"""What a checkpoint is, what a task is that goes on from one, and which cannot."""

import msgspec
import pytest

from dms_proto.capability import Resources
from dms_proto.checkpoints import (
    CHECKPOINT_EXIT,
    NO_CHECKPOINT,
    Checkpoint,
    brought_home,
    files_of,
    going_on,
    no_progress,
    task_flaw,
    too_much,
)
from dms_proto.ids import digest_of
from dms_proto.units import KIB, MIB
from dms_proto.work import DatasetInput, Ending, EndReason, Input, Output, Task

A, B = digest_of(b"a"), digest_of(b"b")
TASK = Task("sandbox", ("run",), outputs=("out/*",), checkpoint="state")
AT_CHECKPOINT = Ending(EndReason.EXIT_NONZERO, CHECKPOINT_EXIT)


def change(task: Task = TASK, **changed: object) -> Task:
    return msgspec.structs.replace(task, **changed)


def test_after_that_exit_code_the_checkpoint_is_brought_home_and_otherwise_the_outputs() -> None:
    assert brought_home(TASK, AT_CHECKPOINT) == ("state", "state/**")
    assert brought_home(TASK, Ending(EndReason.COMPLETED, 0)) == ("out/*",)
    assert brought_home(change(checkpoint=""), AT_CHECKPOINT) == ("out/*",)


def test_its_files_are_those_at_its_place_or_below() -> None:
    at, below, beside = Output("state", A, 1), Output("state/x/y", A, 1), Output("state2", A, 1)

    assert files_of(TASK, (at, below, beside)) == (at, below)
    assert files_of(change(checkpoint=""), (at, below, beside)) == ()


def test_what_goes_on_has_the_checkpoint_in_the_place_of_what_lay_there() -> None:
    task = change(inputs=(Input("state/first", A, 1), Input("data", A, 1), Input("states", A, 1)))
    left = Checkpoint(2, (Output("state/second", B, 7),))

    assert going_on(task, left).inputs == (
        Input("data", A, 1),
        Input("states", A, 1),
        Input("state/second", B, 7),
    )
    assert going_on(task, NO_CHECKPOINT) is task


def test_a_large_file_goes_on_with_the_list_of_its_chunks() -> None:
    (wanted,) = going_on(TASK, Checkpoint(1, (Output("state", A, 5 * MIB, chunks=B),))).inputs
    assert wanted.chunks == B


def test_the_same_files_again_are_no_step_forward() -> None:
    files = (Output("state/1", A, 1), Output("state/2", B, 1))

    assert no_progress(Checkpoint(1, files), Checkpoint(2, files[::-1]))
    assert not no_progress(Checkpoint(1, files), Checkpoint(2, files[:1]))
    assert not no_progress(NO_CHECKPOINT, Checkpoint(1, files))


def test_more_than_the_disk_that_is_asked_for_cannot_go_on() -> None:
    task = change(resources=Resources(disk_bytes=64 * KIB), inputs=(Input("data", A, 60 * KIB),))

    assert "68 KiB of disk, 64 KiB are asked for" in too_much(task, Checkpoint(1, (Output("state", B, 8 * KIB),)))
    assert not too_much(task, Checkpoint(1, (Output("state", B, 4 * KIB),)))


def test_files_that_cannot_lie_beside_each_other_cannot_go_on() -> None:
    clash = (Output("state", B, 1), Output("state/x", B, 1))

    assert "cannot be laid out: state is a file" in too_much(TASK, Checkpoint(1, clash))
    assert "cannot be laid out: two inputs" in too_much(
        TASK, Checkpoint(1, (Output("state", A, 1), Output("state", B, 1)))
    )


def test_more_files_than_go_into_a_message_cannot_go_on() -> None:
    files = tuple(Output(f"state/{'long' * 50}-{number}", A, 1) for number in range(1_000))

    assert "as a message, at most 248 KiB can be sent" in too_much(TASK, Checkpoint(1, files))
    assert not too_much(TASK, Checkpoint(1, files[:500]))


@pytest.mark.parametrize(
    ("task", "flaw"),
    [
        (change(checkpoint="state/*"), "'state/*' is a pattern"),
        (change(executor="python", command=()), "a worker that takes calls"),
        (change(inputs=(Input("state", A, 1),), checkpoint="state/now"), "state is a file, and the directory of"),
        (change(datasets=(DatasetInput("state/set", A, 1, 1),)), "lies in the other"),
        (change(datasets=(DatasetInput("set", A, 1, 1),), checkpoint="set/state"), "lies in the other"),
    ],
)
def test_what_cannot_go_on_is_told(task: Task, flaw: str) -> None:
    assert flaw in task_flaw(task, is_checked=False)


def test_what_can_go_on_may_begin_with_files_in_its_checkpoint() -> None:
    task = change(inputs=(Input("state/first", A, 1), Input("data", A, 1)))

    assert not task_flaw(task, is_checked=False)
    assert "verify" in task_flaw(task, is_checked=True)
    assert not task_flaw(change(checkpoint=""), is_checked=True)
