"""Ctrl-C before a program has begun."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dms import early

INTERRUPTED_AT = """
import os, runpy, signal, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Finder())
sys.argv = {argv!r}
{start}
"""
CLI = "from dms.cli import main; main()"
NODE = "runpy.run_module('dms.node', run_name='__main__', alter_sys=True)"


@pytest.mark.parametrize(
    ("start", "command", "module"),
    [
        (CLI, "status", "click"),
        (CLI, "status", "dms.cli.commands.node"),
        (CLI, "status", "dms.rpc.client"),
        (CLI, "run", "dms.cli.task_options"),
        (CLI, "ask", "logging"),
        (NODE, "onboard", "asyncio"),
        (NODE, "onboard", "dms.node.onboard"),
    ],
)
def test_ctrl_c_while_a_program_imports_is_no_traceback(tmp_path: Path, start: str, command: str, module: str) -> None:
    argv = ["dms", command, "--home", str(tmp_path), *(["x"] if command == "ask" else [])]
    program = INTERRUPTED_AT.format(module=module, argv=argv, start=start)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr.strip()) == (130, "", "")


def test_what_was_begun_handles_ctrl_c_itself() -> None:
    before = signal.getsignal(signal.SIGINT)
    try:
        early.begun()
        assert signal.getsignal(signal.SIGINT) is before, "somebody else's handler stays"
        early.leave_on_ctrl_c()
        early.begun()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
