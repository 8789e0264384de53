"""What leads into a container, without one: whoever asks for it may be a stranger's program."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import pytest

from dms.executors.oci.config import Image
from dms.executors.oci.engine import EngineError
from dms.executors.oci.faults import RefusedError
from dms.executors.oci.passage import KEPT_OUT, Passage, Passages
from dms.executors.sandbox import door
from dms.executors.sandbox.interpreter import Interpreter
from dms.executors.settings import ExecutorSettings
from dms_proto.errors import MachineError
from dms_proto.work import Ending, EndReason, ExecBy, Task

PATIENCE_S = 20.0
MISSING = Ending(EndReason.EXIT_NONZERO, 127)


@pytest.fixture
def passages(tmp_path: Path) -> Passages:
    passages = Passages(ExecutorSettings(tmp_path), tmp_path)
    passages.home, passages.python = tmp_path, Interpreter(("python3",))
    return passages


@pytest.fixture
def passage(passages: Passages) -> Passage:
    passage = Passage(passages, "a-1", Task("oci", ("job",), image="i", exec=ExecBy.REQUESTER))
    passage.open(Image("i"), ("job",), {}, 0)
    return passage


def ask(directory: Path) -> list[int]:
    """As the starter does, inside."""
    with socket.socket(socket.AF_UNIX) as node, door.short(directory, "a-1.node") as path:
        node.settimeout(PATIENCE_S)
        node.connect(path)
        socket.send_fds(node, [b"\0"], [2])
        return socket.recv_fds(node, 1, 2)[1]


async def given(passage: Passage, directory: Path) -> list[int]:
    """What the starter of a container that goes on is given."""
    asking = asyncio.create_task(asyncio.to_thread(ask, directory))
    await passage.give(os.getpid(), asyncio.Event().wait)
    return await asking


async def test_what_a_container_says_of_its_start_is_of_a_fixed_size(passage: Passage, tmp_path: Path) -> None:
    """It is read whole at the end of the run, whatever the job has done with it."""
    descriptors = await given(passage, tmp_path)
    result = descriptors[0]
    for size in (0, 1 << 40):
        with pytest.raises(PermissionError):
            os.ftruncate(result, size)
    os.write(result, b"job: No such file or directory")
    judged = passage.judged(MISSING)
    assert (judged.reason, judged.detail) == (EndReason.BAD_PROGRAM, "job: No such file or directory")
    os.lseek(result, 0, os.SEEK_END)
    with pytest.raises(PermissionError):
        os.write(result, b"more")
    await passage.wait_ended()
    assert passage.judged(MISSING) == MISSING
    for descriptor in descriptors:
        os.close(descriptor)


async def nothing() -> None:
    """The container has ended."""


async def gone() -> None:
    """Nobody knows."""
    raise EngineError(0, "it went away")


def ask_and_leave(directory: Path, descriptors: list[int]) -> None:
    """Nearly as the starter does."""
    with socket.socket(socket.AF_UNIX) as node, door.short(directory, "a-1.node") as path:
        node.connect(path)
        socket.send_fds(node, [b"\0"], descriptors)


async def test_who_has_come_and_says_nothing_in_time_is_not_taken_for_kept_out(
    passage: Passage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine may be that busy, twice in a row as well; what is kept out closes all containers of a node."""
    monkeypatch.setattr(door, "ANSWER_S", 0.05)
    with socket.socket(socket.AF_UNIX) as node, door.short(tmp_path, "a-1.node") as path:
        node.connect(path)
        with pytest.raises(MachineError) as silent:
            await passage.give(os.getpid(), asyncio.Event().wait)
    assert "said nothing within" in silent.value.message
    assert KEPT_OUT not in silent.value.message


@pytest.mark.parametrize("descriptors", [[], [2]], ids=["no-log", "gone"])
async def test_an_image_that_does_not_ask_as_the_starter_does_is_billed_for_its_time(
    passage: Passage, passages: Passages, tmp_path: Path, descriptors: list[int]
) -> None:
    passages.is_proven = True
    ask_and_leave(tmp_path, descriptors)
    with pytest.raises(RefusedError) as refused:
        await passage.give(os.getpid(), asyncio.Event().wait)
    ending = refused.value.ending
    assert (ending.reason, bool(ending.usage.wall_ms)) == (EndReason.BAD_PROGRAM, True)


async def test_that_nobody_asks_is_the_doing_of_the_image_once_others_have_asked(
    passage: Passage, passages: Passages, tmp_path: Path
) -> None:
    with pytest.raises(MachineError, match=KEPT_OUT):
        await passage.give(os.getpid(), nothing)
    passage.open(Image("i"), ("job",), {}, 0)
    for descriptor in await given(passage, tmp_path):
        os.close(descriptor)
    await passage.wait_ended()
    passage.open(Image("i"), ("job",), {}, 0)
    with pytest.raises(RefusedError) as refused:
        await passage.give(os.getpid(), nothing)
    ending = refused.value.ending
    assert (ending.reason, bool(ending.usage.wall_ms)) == (EndReason.BAD_PROGRAM, True)
    passage.open(Image("i"), ("job",), {}, 0)
    with pytest.raises(EngineError):
        await passage.give(os.getpid(), gone)
