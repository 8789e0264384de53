"""On a terminal there are boxes, colours and progress; in a pipe there is none of it."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence

import pytest

from dms.testing.commands import Dms
from dms.testing.node_jobs import Script

Start = Callable[[Sequence[Script]], Dms]
PROGRAM = "from dms.cli import main; main()"


def _on_terminal(dms: Dms, *arguments: str, **environment: str) -> tuple[subprocess.Popen[bytes], int]:
    """A command whose standard output and error are a terminal of 80 columns, and the other end of that terminal."""
    ours, theirs = pty.openpty()
    inherited = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    ours_too = {"DMS_HOME": str(dms.served.home.root), "TERM": "xterm-256color", "COLUMNS": "80"}
    env = inherited | ours_too | environment
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, *arguments], stdout=theirs, stderr=theirs, env=env)
    os.close(theirs)
    return process, ours


def _read_until(descriptor: int, wanted: bytes) -> bytes:
    """What the terminal shows until `wanted` is in it, or until the program closes it."""
    seen = b""
    while wanted not in seen or not wanted:
        try:
            part = os.read(descriptor, 4096)
        except OSError:  # Linux says EIO when the other end is closed
            break
        if not part:
            break
        seen += part
    return seen


@pytest.mark.slow
def test_a_terminal_gets_boxes_and_colours(dms: Dms) -> None:
    process, terminal = _on_terminal(dms, "status")
    text = _read_until(terminal, b"").decode()
    assert process.wait(20) == 0
    os.close(terminal)
    assert "╭─\x1b[1m Node" in text
    assert "\x1b[32mhealthy" in text


@pytest.mark.slow
def test_no_color_is_respected(dms: Dms) -> None:
    process, terminal = _on_terminal(dms, "status", NO_COLOR="1")
    text = _read_until(terminal, b"").decode()
    assert process.wait(20) == 0
    os.close(terminal)
    assert "\x1b" not in text
    assert "healthy" in text


@pytest.mark.slow
def test_what_takes_longer_than_a_second_shows_progress_and_wipes_it(dms_with: Start) -> None:
    dms = dms_with([Script(logs=(), holds=True)])
    process, terminal = _on_terminal(dms, "run", "--", "sleep", "1000")
    shown = _read_until(terminal, b"running on")
    assert b"s)" in shown or b"r-" in shown
    process.send_signal(signal.SIGINT)
    rest = _read_until(terminal, b"")
    assert process.wait(20) == 130
    os.close(terminal)
    assert b"\x1b[2K" in rest, "the line is taken away in the end"


@pytest.mark.slow
def test_a_quick_command_shows_no_progress_but_where_it_ran(dms: Dms) -> None:
    process, terminal = _on_terminal(dms, "run", "--", "echo")
    text = _read_until(terminal, b"").decode()
    assert process.wait(20) == 0
    os.close(terminal)
    assert "hello" in text
    assert "ran on" in text
    assert "for 0.0012 credits" in text
    assert "\x1b[2K" not in text
