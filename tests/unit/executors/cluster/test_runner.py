from __future__ import annotations

import os
from pathlib import Path

import pytest

from dms.executors.cluster.runner import scratch_directory, shortfall
from dms_proto.capability import ExecutorOffer, Isolation, Meter

PROMISED = ExecutorOffer("sandbox", "1", Isolation.NAMESPACES, ("cpu", "memory"), Meter.LOWER_BOUND)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (ExecutorOffer("sandbox", "2", Isolation.NAMESPACES, ("memory", "cpu", "disk"), Meter.EXACT), ""),
        (ExecutorOffer("sandbox", "1", Isolation.NAMESPACES, ("cpu",), Meter.EXACT), "no hard limit of memory"),
        (ExecutorOffer("sandbox", "1", Isolation.LANDLOCK, ("cpu", "memory"), Meter.EXACT), "isolation landlock"),
        (ExecutorOffer("sandbox", "1", Isolation.NAMESPACES, ("cpu", "memory"), Meter.WALL), "its meter is wall"),
    ],
)
def test_a_machine_has_to_hold_all_that_was_promised(found: ExecutorOffer, words: str) -> None:
    said = shortfall(PROMISED, found)
    assert said == "" if not words else said.startswith(words)


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
