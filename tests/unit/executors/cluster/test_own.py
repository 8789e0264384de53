from __future__ import annotations

import os
from pathlib import Path

import pytest

from dms.executors.cluster.own import check_place, own_directory

ME = os.geteuid()


def test_it_is_made_for_this_user_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o002)
    try:
        directory = own_directory(tmp_path / "own", ME)
    finally:
        os.umask(before)
    assert directory.stat().st_mode & 0o7777 == 0o700


def test_one_that_others_could_look_into_is_closed_to_them(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir(mode=0o755)
    assert own_directory(tmp_path / "own", ME).stat().st_mode & 0o7777 == 0o700


@pytest.mark.parametrize("mode", [0o770, 0o702])
def test_one_that_others_could_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own").chmod(mode)
    with pytest.raises(PermissionError, match="others can write to it"):
        own_directory(tmp_path / "own", ME)


def test_one_of_another_user_is_refused(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir(mode=0o700)
    with pytest.raises(PermissionError, match="not a directory of this user alone"):
        own_directory(tmp_path / "own", ME + 1)


def test_a_link_to_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "own").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PermissionError, match="not a directory of this user alone"):
        own_directory(tmp_path / "own", ME)


@pytest.mark.parametrize(("mode", "is_refused"), [(0o755, False), (0o1777, False), (0o777, True), (0o2770, True)])
def test_a_place_where_others_could_rename_what_is_ours_is_refused(tmp_path: Path, mode: int, is_refused: bool) -> None:
    place = tmp_path / "shared"
    place.mkdir()
    place.chmod(mode)
    if not is_refused:
        check_place(place)
        return
    with pytest.raises(PermissionError, match="others can rename what is in"):
        check_place(place)
