from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from dms.executors.outputs import OutputLimits, collect, collect_into, copied, copy
from dms_proto.data.chunks import LISTED_FROM, ChunkList
from dms_proto.errors import UserError


@pytest.fixture
def job(tmp_path: Path) -> Path:
    job = tmp_path / "job"
    (job / "out/deep").mkdir(parents=True)
    for path in ("result.txt", "result.csv", "out/a.txt", "out/deep/b.txt", ".hidden"):
        (job / path).write_text(path)
    return job


def paths(job: Path, *patterns: str) -> list[str]:
    return [path for path, _ in collect(job, patterns)]


@pytest.mark.parametrize(
    ("patterns", "wanted"),
    [
        (("*.txt",), ["result.txt"]),
        (("out/*",), ["out/a.txt"]),
        (("out/**",), ["out/a.txt", "out/deep/b.txt"]),
        (("**/*.txt",), ["out/a.txt", "out/deep/b.txt", "result.txt"]),
        (("**",), [".hidden", "out/a.txt", "out/deep/b.txt", "result.csv", "result.txt"]),
        (("result.txt", "result.*", "nothing*"), ["result.csv", "result.txt"]),
        (("./result.txt",), ["result.txt"]),
        (("../*", "/etc/passwd", ""), []),
        ((), []),
    ],
)
def test_patterns_choose_files(job: Path, patterns: tuple[str, ...], wanted: list[str]) -> None:
    assert paths(job, *patterns) == wanted


def test_sizes_are_reported(job: Path) -> None:
    assert collect(job, ("result.txt",)) == [("result.txt", 10)]


def test_many_spans_in_a_pattern_do_not_take_for_ever(job: Path) -> None:
    deep = job.joinpath(*["a"] * 60)
    deep.mkdir(parents=True)
    (deep / "x").touch()
    pattern = "/".join(["**", "a"] * 28 + ["no"])
    assert paths(job, pattern) == []
    assert paths(job, "/".join(["**", "a"] * 28 + ["**", "x"])) == ["/".join(["a"] * 60 + ["x"])]


def test_only_regular_files_are_collected(job: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("secret")
    (job / "out/link").symlink_to(secret / "key")
    (job / "out/dirlink").symlink_to(secret)
    (job / "out/loop").symlink_to("..")
    (job / "out/dangling").symlink_to("nowhere")
    os.mkfifo(job / "out/pipe")
    assert paths(job, "**") == [".hidden", "out/a.txt", "out/deep/b.txt", "result.csv", "result.txt"]


def test_a_file_replaced_by_a_link_after_collecting_is_not_followed(job: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    into = tmp_path / "into"
    into.mkdir()
    assert collect(job, ("result.txt",))
    (job / "result.txt").unlink()
    (job / "result.txt").symlink_to(tmp_path / "secret")
    with pytest.raises(UserError):
        copy(job, "result.txt", into)
    assert list(into.iterdir()) == []


def test_a_directory_replaced_by_a_link_after_collecting_is_not_followed(job: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret/a.txt").write_text("secret")
    (tmp_path / "into").mkdir()
    (job / "out").rename(job / "elsewhere")
    (job / "out").symlink_to(tmp_path / "secret")
    with pytest.raises(UserError):
        copy(job, "out/a.txt", tmp_path / "into")


def test_a_file_replaced_by_a_pipe_does_not_hang(job: Path, tmp_path: Path) -> None:
    (tmp_path / "into").mkdir()
    (job / "result.txt").unlink()
    os.mkfifo(job / "result.txt")
    with pytest.raises(UserError, match="not a regular file"):
        copy(job, "result.txt", tmp_path / "into")


def test_a_path_cannot_climb_out(job: Path, tmp_path: Path) -> None:
    (tmp_path / "into").mkdir()
    (tmp_path / "secret").write_text("secret")
    with pytest.raises(UserError):
        copy(job, "../secret", tmp_path / "into")


def test_copies_are_named_by_their_digest_and_share_nothing_with_the_job(job: Path, tmp_path: Path) -> None:
    os.link(job / "result.txt", job / "twin.txt")
    outputs = collect_into(job, ("result.txt", "twin.txt"), tmp_path / "into")
    hexdigest = hashlib.sha256(b"result.txt").hexdigest()
    assert [(output.path, output.digest, output.size) for output in outputs] == [
        ("result.txt", f"sha256:{hexdigest}", 10),
        ("twin.txt", f"sha256:{hexdigest}", 10),
    ]
    copied = tmp_path / "into" / hexdigest
    assert copied.read_bytes() == b"result.txt"
    assert copied.stat().st_nlink == 1
    assert [path.name for path in (tmp_path / "into").iterdir()] == [hexdigest]


def test_a_set_uid_file_comes_home_as_plain_bytes(job: Path, tmp_path: Path) -> None:
    (job / "result.txt").chmod(0o6755)
    (output,) = collect_into(job, ("result.txt",), tmp_path / "into")
    assert (tmp_path / "into" / output.digest.removeprefix("sha256:")).stat().st_mode & 0o7111 == 0


def test_a_sparse_giant_is_refused_before_it_is_read(job: Path) -> None:
    with (job / "giant").open("wb") as file:
        file.truncate(1 << 42)
    with pytest.raises(UserError, match="giant"):
        collect(job, ("giant",))


def test_a_file_that_grows_while_it_is_copied_is_refused(job: Path, tmp_path: Path) -> None:
    (tmp_path / "into").mkdir()
    (job / "result.txt").write_bytes(b"x" * 5000)
    with pytest.raises(UserError, match="more than 4000 bytes"):
        copy(job, "result.txt", tmp_path / "into", OutputLimits(file_bytes=4000))
    assert list((tmp_path / "into").iterdir()) == []


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (OutputLimits(files=2), "more than 2 output files"),
        (OutputLimits(file_bytes=9), "the limit is 9"),
        (OutputLimits(total_bytes=20), "the limit is 20"),
        (OutputLimits(entries=3), "more than 3 entries"),
    ],
)
def test_more_than_the_limits_is_refused(job: Path, limits: OutputLimits, words: str) -> None:
    with pytest.raises(UserError, match=words):
        collect(job, ("**",), limits)


def test_a_path_that_is_too_long_to_be_told_is_refused(job: Path) -> None:
    deep = job.joinpath(*["d" * 200] * 6)
    deep.mkdir(parents=True)
    (deep / "out").touch()
    with pytest.raises(UserError, match="more than 1024 characters"):
        collect(job, ["**"])


def test_names_that_no_message_can_carry_are_passed_over(job: Path) -> None:
    (job / os.fsdecode(b"bad-\xff.txt")).write_text("x")
    assert paths(job, "*.txt") == ["result.txt"]


def test_a_large_one_comes_with_the_list_of_its_chunks(job: Path, tmp_path: Path) -> None:
    data = bytes(LISTED_FROM) + b"more"
    (job / "large.bin").write_bytes(data)
    (job / "at-most.bin").write_bytes(data[:LISTED_FROM])
    small, large = collect_into(job, ("*.bin",), tmp_path / "into")
    assert small.blobs == (small.digest,)
    assert large.blobs == (large.digest, large.chunks)
    listed = ChunkList(copied(tmp_path / "into", large.chunks).read_bytes(), large.size)
    assert listed.is_right(len(listed) - 1, hashlib.sha256(b"more").digest())
