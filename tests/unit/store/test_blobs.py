import hashlib
import os
import stat
import threading

import pytest

from dms.store.blobs import PART, BlobStore
from dms_proto.data.chunks import CHUNK_BYTES, LISTED_FROM, Content
from dms_proto.errors import PeerError, UserError
from dms_proto.ids import Digest, digest_of


@pytest.fixture
def blobs(tmp_path):
    return BlobStore(tmp_path / "blobs")


def modes(root):
    return {stat.S_IMODE(path.stat().st_mode) for path in root.rglob("*") if path.is_file()}


def test_bytes_are_found_by_their_digest(blobs):
    digest = blobs.put_bytes(b"hello")
    assert digest == digest_of(b"hello")
    assert blobs.path(digest).read_bytes() == b"hello"
    assert blobs.verify(digest) == 5
    assert list(blobs.digests()) == [digest]


def test_a_file_is_copied_and_the_original_stays(blobs, tmp_path):
    data = os.urandom(CHUNK_BYTES * 2 + 17)
    source = tmp_path / "result.bin"
    source.write_bytes(data)
    content = blobs.put_file(source)
    assert content == Content(digest_of(data), len(data))
    source.write_bytes(b"changed afterwards")
    assert blobs.path(content.digest).read_bytes() == data


def test_the_list_of_a_large_files_chunks_is_a_blob_beside_it(blobs, tmp_path):
    data = os.urandom(LISTED_FROM + 17)
    source = tmp_path / "result.bin"
    source.write_bytes(data)
    content = blobs.put_file(source)
    listed = [hashlib.sha256(data[at : at + CHUNK_BYTES]).digest() for at in range(0, len(data), CHUNK_BYTES)]
    assert blobs.path(content.chunks).read_bytes() == b"".join(listed)
    blobs.delete(content.chunks)
    assert blobs.put_list(content.digest) == content
    assert blobs.path(content.chunks) is not None


def test_everything_is_the_owners_alone(blobs):
    blobs.put_bytes(b"secret")
    assert modes(blobs.root) == {0o600}
    assert {stat.S_IMODE(d.stat().st_mode) for d in [blobs.root, *blobs.root.iterdir()]} == {0o700}


def test_the_same_content_is_stored_once(blobs, tmp_path):
    (tmp_path / "copy").write_bytes(b"same")
    assert blobs.put_bytes(b"same") == blobs.put_bytes(b"same") == blobs.put_file(tmp_path / "copy").digest
    assert len(list(blobs.digests())) == 1
    assert blobs.total_bytes() == 4


def test_a_download_is_adopted_by_rename_and_partial_ones_survive_a_restart(blobs):
    digest = digest_of(b"from afar")
    partial = blobs.partial_path(digest)
    partial.write_bytes(b"from ")
    again = BlobStore(blobs.root)
    assert again.partial_path(digest).read_bytes() == b"from "
    assert again.path(digest) is None
    partial.write_bytes(b"from afar")
    inode = partial.stat().st_ino
    assert again.adopt(partial, digest).stat().st_ino == inode
    assert not partial.exists()
    assert again.verify(digest) == 9
    assert modes(blobs.root) == {0o600}


def test_copies_that_were_under_way_at_a_crash_are_swept(blobs):
    (blobs.root / "incoming" / "tmpabc").write_bytes(b"half")
    BlobStore(blobs.root)
    assert list((blobs.root / "incoming").iterdir()) == []


@pytest.mark.parametrize("hostile", ["link", "fifo", "directory", "device"])
def test_only_regular_files_are_taken_and_nothing_waits(blobs, tmp_path, hostile):
    path = tmp_path / "out"
    (tmp_path / "secret").write_bytes(b"host file")
    match hostile:
        case "link":
            path.symlink_to(tmp_path / "secret")
        case "fifo":
            os.mkfifo(path)
        case "directory":
            path.mkdir()
        case "device":
            path = type(path)("/dev/null")
    with pytest.raises(UserError) as refused:
        blobs.put_file(path)
    assert refused.value.code == "bad_argument"
    with pytest.raises(UserError):
        blobs.adopt(path, digest_of(b"host file"))
    assert list(blobs.digests()) == []
    assert list((blobs.root / "incoming").iterdir()) == []


def test_a_missing_file_is_not_found(blobs, tmp_path):
    with pytest.raises(UserError) as refused:
        blobs.put_file(tmp_path / "none")
    assert refused.value.code == "not_found"


@pytest.mark.parametrize(
    "digest",
    ["", "sha256:", "sha256:../../../etc/passwd", "sha256:" + "A" * 64, "md5:" + "a" * 64, "sha256:" + "a" * 63 + "\n"],
)
def test_what_is_not_a_digest_leads_nowhere(blobs, digest):
    assert blobs.path(Digest(digest)) is None
    assert blobs.delete(Digest(digest)) is False
    with pytest.raises(UserError) as refused:
        blobs.partial_path(Digest(digest))
    assert refused.value.code == "bad_argument"


def test_a_blob_that_rotted_on_the_disk_is_noticed(blobs):
    digest = blobs.put_bytes(b"as written")
    blobs.path(digest).write_bytes(b"as rotten!")
    with pytest.raises(PeerError) as found:
        blobs.verify(digest)
    assert found.value.code == "digest_mismatch"


def test_delete_removes_blob_and_partial_download(blobs):
    digest = blobs.put_bytes(b"x")
    blobs.partial_path(digest).write_bytes(b"y")
    assert blobs.delete(digest) is True
    assert blobs.delete(digest) is False
    assert blobs.total_bytes() == 0
    with pytest.raises(UserError):
        blobs.verify(digest)


def test_many_threads_may_store_the_same_and_different_contents(blobs):
    contents = [bytes([n % 5]) * 1000 for n in range(20)]
    threads = [threading.Thread(target=blobs.put_bytes, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(blobs.digests()) == {digest_of(content) for content in contents}
    assert all(blobs.verify(digest) == 1000 for digest in blobs.digests())
    assert list((blobs.root / "incoming").iterdir()) == []


def test_what_there_is_of_a_download_counts_and_can_be_removed(blobs):
    digest = digest_of(b"from afar")
    partial = blobs.partial_path(digest)
    under_way = partial.with_name(partial.name + PART)
    under_way.write_bytes(b"from ")
    (kept,) = blobs.kept()
    assert (kept.digest, kept.size) == (digest, 5)
    blobs.delete(kept.digest)
    assert not list(blobs.kept())
    assert not under_way.exists()
