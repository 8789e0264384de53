from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from dms.executors.cluster.scratch import held, left_behind, scratch_directory


def test_the_scratch_directory_is_this_users_alone(tmp_path: Path) -> None:
    directory = scratch_directory(tmp_path, os.geteuid())
    assert directory.stat().st_mode & 0o777 == 0o700
    assert scratch_directory(tmp_path, os.geteuid()) == directory


@pytest.mark.parametrize("spoil", ["open", "link", "file"])
def test_one_that_another_user_may_have_made_is_not_used(tmp_path: Path, spoil: str) -> None:
    where = tmp_path / f"dms-{os.geteuid()}"
    match spoil:
        case "open":
            where.mkdir()
            where.chmod(0o777)
        case "link":
            (tmp_path / "elsewhere").mkdir(mode=0o700)
            where.symlink_to(tmp_path / "elsewhere")
        case _:
            where.touch()
    with pytest.raises(PermissionError, match="not a directory of this user alone"):
        scratch_directory(tmp_path, os.geteuid())


def test_what_a_runner_left_is_found_and_what_one_holds_is_not(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "left").mkdir()
    with held(tmp_path / "here"):
        assert list(left_behind(tmp_path)) == [tmp_path / "left"]
    assert set(left_behind(tmp_path)) == {tmp_path / "left", tmp_path / "here"}


def test_while_one_removes_what_was_left_no_other_does(tmp_path: Path) -> None:
    (tmp_path / "left").mkdir()
    first = left_behind(tmp_path)
    assert next(first) == tmp_path / "left"
    assert list(left_behind(tmp_path)) == []
    (tmp_path / "left").rmdir()
    assert list(first) == []


def test_a_directory_that_was_just_removed_is_made_again(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    removing = left_behind(tmp_path)
    next(removing)
    begun, was_held = threading.Event(), threading.Event()

    def take() -> None:
        begun.set()
        with held(tmp_path / "mine"):
            was_held.set()

    thread = threading.Thread(target=take)
    thread.start()
    begun.wait()
    (tmp_path / "mine").rmdir()
    list(removing)
    thread.join()
    assert was_held.is_set()
    assert (tmp_path / "mine").is_dir()
