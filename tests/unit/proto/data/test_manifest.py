import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms_proto.data.manifest import Manifest, decoded, encoded, placed, short_id
from dms_proto.ids import digest_of
from dms_proto.work import MAX_MANIFEST, DatasetInput, Input

DIGEST = digest_of(b"x")
PARTS = st.lists(st.sampled_from(["a", "b", "b.c", "b-"]), min_size=1, max_size=4).map("/".join)


def manifest(*paths: str) -> Manifest:
    return Manifest(tuple(Input(path, DIGEST, 7, chunks=DIGEST) for path in paths))


def wanted(total: int, path: str = "data") -> DatasetInput:
    return DatasetInput(path, DIGEST, 100, total)


@given(st.sets(PARTS, min_size=1, max_size=12))
def test_what_is_written_is_read_and_a_file_is_never_a_directory_too(paths):
    in_order = sorted(paths, key=lambda path: path.split("/"))
    written = manifest(*in_order)
    clashes = any(other.startswith(f"{path}/") for path in paths for other in paths)
    if clashes:
        with pytest.raises(ValueError, match="is a file, and a directory as well"):
            encoded(written)
    else:
        assert decoded(encoded(written)) == written


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x81", "is no manifest"),
        (b"\x81\xa1x" + b"\x91" * 5_000 + b"\xc0", "is no manifest"),
        (msgspec.msgpack.encode({"files": []}), "is no manifest"),
        (msgspec.msgpack.encode({"files": [{"path": "../x", "digest": DIGEST, "size": 1}]}), "is no manifest"),
        (msgspec.msgpack.encode(manifest("b", "a")), "not in order, each once: a"),
        (msgspec.msgpack.encode(manifest("a", "a")), "not in order, each once: a"),
        (bytes(MAX_MANIFEST + 1), "at most 4 MiB"),
    ],
)
def test_a_strangers_bytes_are_a_manifest_or_a_refusal(data, message):
    with pytest.raises(ValueError, match=message):
        decoded(data)


def test_more_files_than_a_manifest_has_room_for_are_told_to_be_packed():
    with pytest.raises(ValueError, match="60000 files are too many for one dataset: pack them into archives"):
        encoded(manifest(*(f"{number:09}" for number in range(60_000))))


def test_its_files_are_inputs_below_its_place():
    files = placed(wanted(14, "in/here"), manifest("a", "b/c"))
    assert [file.path for file in files] == ["in/here/a", "in/here/b/c"]
    assert {file.chunks for file in files} == {DIGEST}


def test_a_dataset_of_another_size_than_was_agreed_is_refused():
    with pytest.raises(ValueError, match="dataset data has 14 B, its task says 13 B"):
        placed(wanted(13), manifest("a", "b"))


def test_a_path_that_grows_too_long_is_refused():
    with pytest.raises(ValueError, match="more than 1024 characters"):
        placed(wanted(7), manifest("/".join(["x" * 200] * 5) + "/" + "y" * 18))


def test_people_see_the_beginning_of_an_id():
    assert DIGEST.startswith(f"sha256:{short_id(DIGEST)}")
    assert len(short_id(DIGEST)) == 12
