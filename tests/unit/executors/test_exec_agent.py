"""The agent that runs commands beside a job, outside any sandbox: who leaves at a bad moment harms nobody else."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from dms.executors.sandbox import agent_start, exec_agent
from dms.executors.sandbox.agents import text_of

SERVE = "import socket, sys; from dms.executors.sandbox import exec_agent as e; {}e.serve(socket.socket(fileno=int(sys.argv[1])), {{}})"
PATIENCE_S = 30.0


def at_door(path: Path) -> socket.socket:
    caller = socket.socket(socket.AF_UNIX)
    caller.settimeout(PATIENCE_S)
    caller.connect(str(path))
    return caller


def test_who_leaves_before_it_hears_that_there_is_no_room_does_not_end_the_agent(tmp_path: Path) -> None:
    path = tmp_path / "door"
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(path))
        door.listen(exec_agent.MOST + 2)
        inside = [at_door(path) for _ in range(exec_agent.MOST)]
        at_door(path).close()
        last = at_door(path)
        number = door.fileno()
        agent = subprocess.Popen((sys.executable, "-c", SERVE.format(""), str(number)), pass_fds=(number,))
    try:
        assert last.recv(1) == exec_agent.BUSY
    finally:
        for caller in (*inside, last):
            caller.close()
        agent.kill()
        agent.wait()


def test_who_asks_for_nothing_has_a_place_for_a_while_alone(tmp_path: Path) -> None:
    path = tmp_path / "door"
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(path))
        door.listen()
        number = door.fileno()
        agent = subprocess.Popen(
            (sys.executable, "-c", SERVE.format("e.ORDER_S = 0.1; "), str(number)), pass_fds=(number,)
        )
    try:
        with at_door(path) as silent:
            assert silent.recv(1) == b""
    finally:
        agent.kill()
        agent.wait()


def test_a_command_is_ended_that_has_no_group_of_its_own_yet() -> None:
    command = subprocess.Popen(("sleep", "600"))
    try:
        assert os.getpgid(command.pid) != command.pid
        session = exec_agent.Session.__new__(exec_agent.Session)
        session.command, session.code = command.pid, None
        session.signal(signal.SIGTERM)
        assert command.wait(PATIENCE_S) == -signal.SIGTERM
    finally:
        command.kill()
        command.wait()


def test_a_command_finds_nothing_of_what_was_passed_in_for_others(tmp_path: Path) -> None:
    """With ports as well, the result of the run and the way in to them are there when the agent starts."""
    text, look = text_of(agent_start, exec_agent), b"\0ls\0/proc/self/fd"
    with socket.socket(socket.AF_UNIX) as door, socket.socket() as ports, (tmp_path / "result").open("wb") as result:
        door.bind(str(tmp_path / "door"))
        door.listen()
        agent = subprocess.Popen(
            (sys.executable, "-I", "-S", "-c", text, str(door.fileno()), "-1", "", "true"),
            pass_fds=(door.fileno(), ports.fileno(), result.fileno()),
            start_new_session=True,
        )
    try:
        with at_door(tmp_path / "door") as caller:
            caller.sendall(exec_agent.HEAD.pack(len(look), 0, 0) + look)
            heard = caller.makefile("rb")
            assert heard.read(1) == exec_agent.OPEN
            kind, length = exec_agent.FRAME.unpack(heard.read(exec_agent.FRAME.size))
            assert (kind, heard.read(length).split()) == (exec_agent.OUTPUT, [b"0", b"1", b"2", b"3"])
    finally:
        os.killpg(agent.pid, signal.SIGKILL)
        agent.wait()
