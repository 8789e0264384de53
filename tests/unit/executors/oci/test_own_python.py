from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from dms.executors.oci import own_python
from dms.executors.sandbox import agent_start, exec_agent
from dms.executors.sandbox.agents import text_of

TEXT = text_of(agent_start, exec_agent)
LOOK = """
import sys
exec(sys.argv[1], {"__name__": "looked_at"})
import os
os.get_exec_path({b"PATH": b"/bin"})
with open("/proc/self/maps") as maps:
    print(*{line.split()[5] for line in maps if ".so" in line}, *sys.path, sep="\\n")
"""


def test_it_needs_nothing_of_the_machine_and_is_read_by_everybody(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        directory, python = own_python.lay_out(tmp_path, [TEXT])
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in (directory, *directory.rglob("*"))} == {0o755}
    command = [word.replace(own_python.PLACE, str(directory)) for word in python.command]
    done = subprocess.run([*command, "-c", LOOK, TEXT], env={}, capture_output=True, text=True, check=True)
    assert [path for path in done.stdout.split() if not path.startswith(str(directory))] == []


def test_an_update_of_the_machine_makes_another(tmp_path: Path) -> None:
    """Be it of the C library alone: its loader starts this Python, in every container."""
    directory, _ = own_python.lay_out(tmp_path, [TEXT])
    sources = directory / "sources"
    made_of = json.loads(sources.read_bytes())
    (libc,) = [path for path in made_of if Path(path).name == "libc.so.6"]
    made_of[libc][-1] -= 1
    sources.write_text(json.dumps(made_of))
    made = directory.stat().st_ino
    again, _ = own_python.lay_out(tmp_path, [TEXT])
    assert again == directory
    assert again.stat().st_ino != made
    assert list(tmp_path.iterdir()) == [directory]


def test_it_is_made_once_and_another_takes_its_place(tmp_path: Path) -> None:
    first, _ = own_python.lay_out(tmp_path, [TEXT])
    made = first.stat().st_ino
    assert own_python.lay_out(tmp_path, [TEXT])[0].stat().st_ino == made
    second, _ = own_python.lay_out(tmp_path, [TEXT, "import heapq"])
    assert list(tmp_path.iterdir()) == [second]
    assert list(second.rglob("heapq.py"))
