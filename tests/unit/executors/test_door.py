"""The way into a sandbox, without a sandbox: who listens, who does not, and who is too slow."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from dms.executors.sandbox import door, port_agent
from dms_proto.errors import UserError
from dms_proto.tunnels import ToPort

PORT = 8080
TARGET = ToPort(PORT)


async def answering(listener: socket.socket, answer: bytes) -> bytes:
    """Lets one in; gives what it asked for."""
    loop = asyncio.get_running_loop()
    listener.setblocking(False)
    connection, _ = await loop.sock_accept(listener)
    with connection:
        asked = await loop.sock_recv(connection, 16)
        await loop.sock_sendall(connection, answer)
    return asked


async def refusal(directory: Path) -> UserError:
    with pytest.raises(UserError) as caught:
        await door.connect(directory, "a-1", TARGET)
    return caught.value


async def test_the_agent_is_told_the_port_however_long_the_name_of_the_home_is(tmp_path: Path) -> None:
    directory = tmp_path / ("long" * 40)
    directory.mkdir()
    for _ in range(2):  # a second run of that name replaces what the first left
        with door.listen(directory, "a-1") as listener:
            asked = asyncio.create_task(answering(listener, port_agent.OPEN))
            (await door.connect(directory, "a-1", TARGET)).close()
            assert await asked == PORT.to_bytes(2, "big")


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (port_agent.NOT_LISTENING, "not_listening"),
        (port_agent.BUSY, "not_listening"),
        (port_agent.UNDECLARED, "bad_argument"),
        (b"", "not_running"),
        (b"?", "not_running"),
    ],
)
async def test_each_answer_of_the_agent_has_its_error(tmp_path: Path, answer: bytes, code: str) -> None:
    with door.listen(tmp_path, "a-1") as listener:
        asked = asyncio.create_task(answering(listener, answer))
        assert (await refusal(tmp_path)).code == code
        await asked


async def test_nobody_there_is_no_job_and_a_full_queue_is_worth_another_try(tmp_path: Path) -> None:
    assert (await refusal(tmp_path)).code == "not_running"
    waiting = []
    with door.listen(tmp_path, "a-1"):
        try:
            while True:
                waiting.append(socket.socket(socket.AF_UNIX))
                waiting[-1].setblocking(False)
                waiting[-1].connect(str(tmp_path / "a-1.door"))
        except BlockingIOError:
            error = await refusal(tmp_path)
        assert (error.code, error.retryable) == ("not_listening", True)
        for each in waiting:
            each.close()
    assert (await refusal(tmp_path)).code == "not_running"
