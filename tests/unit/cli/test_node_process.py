"""Starting the node's own program: with our interpreter, our modules, and the reason when it does not start."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dms.cli.node_process import PYTHON, answer, command, is_alive, is_ready, start_detached, wait_gone
from dms.config.paths import Home
from dms_proto.errors import InternalError, MachineError


def test_the_working_directory_is_not_on_the_path_of_what_is_started(tmp_path: Path) -> None:
    assert command("up", Home(tmp_path), "--x") == [
        sys.executable,
        "-P",
        "-m",
        "dms.node",
        "up",
        "--home",
        str(tmp_path),
        "--x",
    ]


def test_the_answer_of_a_program_is_its_output() -> None:
    assert answer([*PYTHON, "platform"]).startswith(b"Linux")


def test_a_program_without_output_is_a_defect_that_names_it() -> None:
    with pytest.raises(InternalError, match=r"no\.such\.module gave no answer \(exit code 1\)"):
        answer([*PYTHON, "no.such.module"])


def test_a_home_without_a_node_is_not_ready_and_is_gone(tmp_path: Path) -> None:
    assert not is_ready(Home(tmp_path))
    wait_gone(Home(tmp_path), 2**22 + 1, 0.1)


def test_a_node_that_does_not_end_is_told(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="still there"):
        wait_gone(Home(tmp_path), os.getppid(), 0)


def test_a_process_that_ended_is_not_alive_even_before_it_is_collected() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.read()  # the end of its output is closed by its end
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert not is_alive(process.pid)
    process.communicate()
    assert is_alive(os.getpid())


def test_why_a_node_ended_at_once_is_one_line_without_the_name_of_the_program_again(tmp_path: Path) -> None:
    with pytest.raises(
        MachineError, match=r"^the node ended at once: /\S+ holds no node yet; dms onboard makes one \["
    ):
        start_detached(Home(tmp_path))
