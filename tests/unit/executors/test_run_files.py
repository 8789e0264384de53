"""The status file of a run that stood still often."""

from __future__ import annotations

from pathlib import Path

from dms.executors.sandbox.launcher_main import _told_deadline_ms
from dms.executors.sandbox.run_files import RunFiles

OFTEN = 2_000


def test_what_was_said_last_holds_however_often_it_stood_still(tmp_path: Path) -> None:
    files = RunFiles(tmp_path, "a-1")
    files.create()
    for number in range(OFTEN):
        files.note_freeze(number, 10 * number, 1_000_000 + number)
    files.close()

    again = RunFiles(tmp_path, "a-1")
    assert again.open()
    status, told = again.status(), _told_deadline_ms(again.fd("status"))
    again.close()

    assert (status.frozen_at, status.frozen_ms) == (OFTEN - 1, 10 * (OFTEN - 1))
    assert told == 1_000_000 + OFTEN - 1
