from __future__ import annotations

import os
from pathlib import Path

import pytest

from dms.executors import job_directory
from dms.executors.disk_watch import DiskWatch

MIB = 1024 * 1024


def fill(path: Path, size: int) -> None:
    path.write_bytes(b"x" * size)


def test_what_files_occupy_counts(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    fill(tmp_path / "one", MIB)
    fill(tmp_path / "a/b/two", MIB)
    assert 2 * MIB <= job_directory.used_bytes(tmp_path, [], 10 * MIB) < 2 * MIB + 64 * 1024


def test_holes_and_second_names_do_not_count(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    fill(tmp_path / "one", MIB)
    os.link(tmp_path / "one", tmp_path / "again")
    assert job_directory.used_bytes(tmp_path, [], 10 * MIB) < 2 * MIB


def test_a_link_to_a_large_directory_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "job").mkdir()
    (tmp_path / "job/link").symlink_to("/usr")
    assert job_directory.used_bytes(tmp_path / "job", [], MIB) < MIB


def test_counting_stops_beyond_the_limit(tmp_path: Path) -> None:
    for number in range(5):
        fill(tmp_path / str(number), MIB)
    assert MIB < job_directory.used_bytes(tmp_path, [], MIB) <= 2 * MIB + 64 * 1024


def test_files_deleted_but_open_count(tmp_path: Path) -> None:
    with (tmp_path / "gone").open("wb") as file:
        file.write(b"x" * MIB)
        file.flush()
        (tmp_path / "gone").unlink()
        assert job_directory.used_bytes(tmp_path, [os.getpid()], 10 * MIB) >= MIB
        assert job_directory.used_bytes(tmp_path, [], 10 * MIB) < MIB


def build_tower(top: Path, levels: int) -> None:
    here = os.open(top, os.O_RDONLY)
    for _ in range(levels):
        os.close(os.open("f", os.O_CREAT | os.O_WRONLY, dir_fd=here))
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)


def test_a_tower_of_directories_counts_as_full(tmp_path: Path) -> None:
    build_tower(tmp_path, job_directory.MAX_DEPTH + 5)
    assert job_directory.used_bytes(tmp_path, [], 100 * MIB) == 100 * MIB + 1
    job_directory.take_back(tmp_path)


def test_a_tower_of_directories_is_deleted_to_the_last(tmp_path: Path) -> None:
    outside, job = tmp_path / "outside", tmp_path / "job"
    outside.mkdir()
    job.mkdir()
    (outside / "kept").touch()
    (job / "link").symlink_to(outside)
    build_tower(job, 3000)
    (job / "d/d/closed").mkdir()
    (job / "d/d/closed").chmod(0)
    (job / "d").chmod(0o500)
    os.mkfifo(job / "pipe")
    job_directory.remove(job)
    assert not job.exists()
    assert (outside / "kept").exists()
    job_directory.remove(job)


def test_a_missing_directory_is_empty_and_can_be_taken_back(tmp_path: Path) -> None:
    assert job_directory.is_empty(tmp_path / "none")
    assert job_directory.used_bytes(tmp_path / "none", [], 5) == 0
    job_directory.take_back(tmp_path / "none")


def test_taking_back_opens_what_was_closed_and_follows_no_link(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o750)
    (outside / "file").write_text("x")
    (outside / "file").chmod(0o440)
    job = tmp_path / "job"
    (job / "closed").mkdir(parents=True)
    (job / "closed/file").write_text("x")
    (job / "closed/file").chmod(0)
    (job / "closed").chmod(0)
    (job / "suid").write_text("x")
    (job / "suid").chmod(0o6755)
    (job / "link").symlink_to(outside)
    (job / "filelink").symlink_to(outside / "file")
    job_directory.take_back(job)
    assert (job / "closed").stat().st_mode & 0o777 == 0o700
    assert (job / "closed/file").stat().st_mode & 0o600 == 0o600
    assert (job / "suid").stat().st_mode & 0o7777 == 0o755
    assert outside.stat().st_mode & 0o777 == 0o750
    assert (outside / "file").stat().st_mode & 0o777 == 0o440


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_handing_over_changes_the_owner_of_everything_but_what_links_lead_to(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("x")
    job = tmp_path / "job"
    (job / "a").mkdir(parents=True)
    (job / "a/input").write_text("x")
    (job / "link").symlink_to(outside)
    job_directory.hand_over(job, 12_345)
    assert {path.lstat().st_uid for path in (job, *job.rglob("*"))} == {12_345}
    assert outside.stat().st_uid == 0
    job_directory.take_back(job)
    assert {path.lstat().st_uid for path in (job, *job.rglob("*"))} == {0}


def test_a_watch_is_due_when_as_much_has_gone_as_the_job_has_left(tmp_path: Path) -> None:
    watch = DiskWatch(tmp_path, 1 << 50)
    assert not watch.is_due()
    watch = DiskWatch(tmp_path, 0)
    fill(tmp_path / "file", 8 * MIB)
    with (tmp_path / "file").open("rb") as file:
        os.fsync(file.fileno())
    assert watch.is_due()
    assert watch.measure([]) > 0
