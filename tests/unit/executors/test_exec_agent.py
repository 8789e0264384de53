"""The agent that runs commands beside a job, outside any sandbox: who leaves at a bad moment harms nobody else."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from dms.executors.sandbox import exec_agent

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
