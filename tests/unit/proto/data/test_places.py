from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms_proto.data.places import BLOCK, disk_bytes, flaw_of
from dms_proto.ids import digest_of
from dms_proto.work import Input

DIGEST = digest_of(b"x")
PLACES = st.lists(st.sampled_from(["a", "b", "b.c", "b-"]), min_size=1, max_size=4).map("/".join)


@given(st.lists(PLACES, max_size=12))
def test_places_have_a_flaw_when_a_file_system_would_not_have_them(places: list[str]) -> None:
    directories = {str(parent) for place in places for parent in PurePosixPath(place).parents}
    assert bool(flaw_of(places)) is (len(set(places)) < len(places) or not directories.isdisjoint(places))


@given(st.sets(PLACES, max_size=12).filter(lambda places: not flaw_of(places)))
def test_every_directory_is_counted_once(places: set[str]) -> None:
    directories = {parent for place in places for parent in PurePosixPath(place).parents} - {Path()}
    files = [Input(place, DIGEST, BLOCK + 1) for place in places]
    assert disk_bytes(files) == (BLOCK + 1) * len(places) + BLOCK * len(directories)


def test_small_files_take_a_block_each() -> None:
    assert disk_bytes(Input(str(number), DIGEST, 1) for number in range(5_000)) == 5_000 * BLOCK


@pytest.mark.parametrize(
    ("places", "flaw"),
    [
        (("a/b", "a"), "a is a file, and the directory of a/b as well"),
        (("a", "a-", "a/b"), "a is a file, and the directory of a/b as well"),
        (("in/a", "in/a"), "two inputs are placed at in/a"),
        (("in/" + "x" * 256,), f"a part of the path in/{'x' * 77}… has more than 255 bytes"),
        (("é" * 128,), f"a part of the path {'é' * 80}… has more than 255 bytes"),
        (("/".join(["😀" * 60] * 13),), f"the path {'😀' * 60}/{'😀' * 19}… has more than 3 KiB"),
        (("x" * 255, "é" * 127, "a", "b/a"), ""),
        ((), ""),
    ],
)
def test_the_flaw_is_said(places: tuple[str, ...], flaw: str) -> None:
    assert flaw_of(places) == flaw
