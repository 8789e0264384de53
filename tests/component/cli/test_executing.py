"""dms alloc exec, dms job exec: what goes there and comes back, the exit code, and what is said when there is none."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import termios
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from dms.testing.commands import Dms
from dms.testing.node_jobs import Script
from dms.testing.whole_market import wait_until
from dms_proto.errors import UserError

Start = Callable[[Sequence[Script]], Dms]


@pytest.fixture
def dms(dms_with: Start) -> Dms:
    return dms_with([Script(holds=True)])


def ran(dms: Dms, *arguments: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """The command as a process of its own."""
    env = {**os.environ, "DMS_HOME": str(dms.served.home.root)}
    program = "from dms.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", program, *arguments], input=given, capture_output=True, env=env, check=False, timeout=60
    )


@pytest.mark.parametrize("which", [("job", "exec"), ("alloc", "exec")])
def test_what_is_piped_in_goes_there_and_the_code_comes_back(dms: Dms, tmp_path: Path, which: tuple[str, str]) -> None:
    job = dms.submit(tmp_path)
    given = bytes(range(256)) * 4_000
    done = ran(dms, *which, "-i", job if which[0] == "job" else "a-0", "--", "cat", "-n", given=given)
    assert (done.returncode, done.stdout == given, done.stderr) == (3, True, b"over\n")
    (order,) = dms.served.on_loop(lambda node: node.orders)
    assert (order.words, order.rows) == (("cat", "-n"), 0)


def test_without_i_its_input_is_empty(dms: Dms, tmp_path: Path) -> None:
    done = ran(dms, "job", "exec", dms.submit(tmp_path), "--", "cat", given=b"not meant for it")
    assert (done.returncode, done.stdout) == (3, b"")


def test_a_terminal_is_passed_on_as_it_is(dms: Dms, tmp_path: Path) -> None:
    """Ctrl-D ends nothing here: it is a key like any other, and the echo of the node in memory says it back."""
    job = dms.submit(tmp_path)
    master, slave = pty.openpty()
    env = {**os.environ, "DMS_HOME": str(dms.served.home.root), "TERM": "xterm", "LINES": "40", "COLUMNS": "100"}
    program = "from dms.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", program, "job", "exec", "-it", job, "--", "sh"],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=env,
    )
    os.close(slave)
    try:
        wait_until(lambda: dms.served.on_loop(lambda node: node.orders), "the command runs")
        (order,) = dms.served.on_loop(lambda node: node.orders)
        assert (order.rows, order.columns, order.term) == (40, 100, "xterm")
        wait_until(lambda: not termios.tcgetattr(master)[3] & termios.ICANON, "the terminal is raw")
        os.write(master, b"k\x04\x03")
        seen = b""
        while b"k\x04\x03" not in seen:
            seen += os.read(master, 1024)
    finally:
        process.kill()
        process.wait()
        os.close(master)


def test_a_terminal_that_is_not_there_is_a_mistake(dms: Dms, tmp_path: Path) -> None:
    done = ran(dms, "job", "exec", "-it", dms.submit(tmp_path), "--", "sh")
    assert done.returncode == 2
    assert b"leave -t away to pipe" in done.stderr


def test_a_refusal_is_said(dms: Dms, tmp_path: Path) -> None:
    job = dms.submit(tmp_path)
    refused = UserError("bad_argument", "the job lets no commands be run beside it", hint="exec: requester")
    dms.served.on_loop(lambda node: setattr(node, "refusal", refused))
    done = ran(dms, "job", "exec", job, "--", "sh")
    assert done.returncode == 2
    assert done.stderr.startswith(b"dms: the job lets no commands be run beside it")
    assert b"exec: requester" in done.stderr


def test_a_command_that_is_cut_off_says_why(dms: Dms, tmp_path: Path) -> None:
    job = dms.submit(tmp_path)
    dms.served.on_loop(lambda node: setattr(node, "cut", "the connection with the peer ended"))
    done = ran(dms, "job", "exec", "-i", job, "--", "sh", given=b"x")
    assert done.returncode == 1
    assert done.stderr.startswith(b"dms: the connection with the peer ended")


@pytest.mark.parametrize(
    ("babbles", "said"),
    [
        (b"\x04\xff\xff\xff\xff" + b"x" * 1_000, b"what runs the command says what makes no sense"),
        (b"HTTP/1.0 400 Bad Request\r\n\r\n", b"what runs the command says what makes no sense"),
    ],
)
def test_a_provider_that_babbles_is_said_to(dms: Dms, tmp_path: Path, babbles: bytes, said: bytes) -> None:
    job = dms.submit(tmp_path)
    dms.served.on_loop(lambda node: setattr(node, "babbles", babbles))
    done = ran(dms, "job", "exec", "-i", job, "--", "sh", given=b"x")
    assert done.returncode == 1
    assert said in done.stderr
    assert b"Traceback" not in done.stderr


def test_an_exit_without_a_code_is_none_of_a_commands_own(dms: Dms, tmp_path: Path) -> None:
    job = dms.submit(tmp_path)
    dms.served.on_loop(lambda node: setattr(node, "babbles", b"\x63\0\0\0\0" + b"\6\0\0\0\0"))
    assert ran(dms, "job", "exec", job, "--", "sh").returncode == 125
