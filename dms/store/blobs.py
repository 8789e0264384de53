"""Blobs: files named by the digest of their content.

::

    blobs/            0700
    ├── ab/cdef…      0600, never written again; "ab" are the first two hexadecimal digits of the digest
    ├── partial/      downloads under way, by digest; they survive a restart and are resumed
    └── incoming/     copies under way, and downloads of which it is to be seen whether they are right; emptied when the store opens

A blob appears by a rename, whole or not at all, after its content has been hashed and synced. The same content is stored once.

The list of a large content's chunks is a blob beside it (`dms_proto.data.chunks`): whoever fetches the content checks each chunk by it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import IO, Final

from dms.store.errors import store_error
from dms_proto.data.chunks import CHUNK_BYTES, NO_LIST, Content, Hashing
from dms_proto.data.keeping import Kept
from dms_proto.errors import PeerError, UserError
from dms_proto.ids import Digest

PART: Final = ".part"
"""Ends the name of a download that is under way."""
_DIGEST: Final = re.compile(r"sha256:([0-9a-f]{64})")


class BlobStore:
    """Blobs below one directory. Methods block on the disk: call them in a thread; several may be called at once.

    Args:
        root: the directory; made when missing, its parent exists.

    Raises:
        MachineError: `disk_full`, `store_failed`: the directory cannot be made.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._incoming = root / "incoming"
        self._partial = root / "partial"
        with self._reported():
            for directory in (root, self._incoming, self._partial):
                directory.mkdir(mode=0o700, exist_ok=True)
            for left_over in self._incoming.iterdir():
                if left_over.is_dir():
                    shutil.rmtree(left_over)
                else:
                    left_over.unlink()

    def put_bytes(self, data: bytes) -> Digest:
        """Stores bytes.

        Raises:
            MachineError: `disk_full`, `store_failed`: nothing was stored.
        """
        digest = Digest("sha256:" + hashlib.sha256(data).hexdigest())
        if self.path(digest) is None:
            with self._reported(), self._incoming_file() as file:
                file.write(data)
                self._keep(file, digest)
        return digest

    def put_file(self, path: Path) -> Content:
        """Copies a file, keeps the list of its chunks, and says what it is. Its owner may be hostile: only a regular file itself is read.

        Raises:
            UserError: `bad_argument`: a link, a FIFO, a device or a directory; `not_found`.
            MachineError: `disk_full`, `store_failed`: nothing was stored.
        """
        with self._reported(), _open_regular(path) as source, self._incoming_file() as file:
            hashing = _hashed(source, file)
            content = hashing.content()
            self._keep(file, content.digest)
        self._put_list(hashing)
        return content

    def put_list(self, digest: Digest) -> Content:
        """Keeps the list of a blob's chunks, which may not be here, and says what the blob is. Reads it.

        Raises:
            UserError: `not_found`: there is no such blob here.
            MachineError: `disk_full`, `store_failed`: nothing was stored.
        """
        with self._reported(), self._open(digest) as file:
            hashing = _hashed(file)
        self._put_list(hashing)
        return hashing.content()

    def _put_list(self, hashing: Hashing) -> None:
        if hashing.content().chunks != NO_LIST:
            self.put_bytes(hashing.chunk_list())

    def path(self, digest: Digest) -> Path | None:
        """The file of a blob, or None when it is not here (or the digest is not one)."""
        found = self._place(digest)
        return found if found is not None and found.is_file() else None

    def size(self, digest: Digest) -> int:
        """Bytes of a blob; 0 when it is not here."""
        found = self.path(digest)
        return _size(found) if found is not None else 0

    def use(self, digest: Digest) -> Path | None:
        """`path`, and notes that the blob is in use: those unused longest are removed first."""
        found = self.path(digest)
        if found is not None:
            with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
                os.utime(found)
        return found

    def kept(self) -> Iterator[Kept]:
        """All blobs here, and downloads under way, in no order."""
        for path in self.root.glob("[0-9a-f][0-9a-f]/*"):
            yield from _kept(path, Digest(f"sha256:{path.parent.name}{path.name}"))
        for path in self._partial.iterdir():
            yield from _kept(path, Digest(f"sha256:{path.name.removesuffix(PART)}"))

    def partial_path(self, digest: Digest) -> Path:
        """Where a download of a blob is to be put, until `adopt`; while it is under way, it is beside that, its name ending in `PART`.

        Raises:
            UserError: `bad_argument`: not a digest.
        """
        return self._partial / _hexadecimal(digest)

    @contextmanager
    def aside(self) -> Iterator[Path]:
        """A directory for downloads that are none of those of `partial_path`, out of which one may be adopted. In the end it is gone.

        Raises:
            MachineError: `disk_full`, `store_failed`: there is none.
        """
        with self._reported():
            directory = Path(tempfile.mkdtemp(dir=self._incoming))
        try:
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    def adopt(self, path: Path, digest: Digest) -> Path:
        """Moves a file in whose content has been verified to be `digest`, from the same file system. Gives the blob's path.

        Raises:
            UserError: `bad_argument`: not a digest, or not a regular file; `not_found`.
            MachineError: `disk_full`, `store_failed`: nothing was moved.
        """
        with self._reported(), _open_regular(path) as file:
            os.fchmod(file.fileno(), 0o600)
            os.utime(file.fileno())
            os.fsync(file.fileno())
            return self._rename(path, digest)

    def verify(self, digest: Digest) -> int:
        """Reads a blob again, and gives its size in bytes if it is what it says.

        Raises:
            UserError: `not_found`.
            PeerError: `digest_mismatch`: the disk gives other content than was stored.
        """
        with self._reported(), self._open(digest) as file:
            size = os.fstat(file.fileno()).st_size
            found = "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
        if found != digest:
            raise PeerError("digest_mismatch", f"blob {digest} has the content of {found}", retryable=False)
        return size

    def delete(self, digest: Digest) -> bool:
        """Removes a blob, and what was downloaded of it. Whether there was one; who has it open reads on."""
        path = self._place(digest)
        if path is None:
            return False
        partial = self.partial_path(digest)
        for left in (partial, partial.with_name(partial.name + PART)):
            left.unlink(missing_ok=True)
        try:
            path.unlink()
        except FileNotFoundError:
            return False
        return True

    def digests(self) -> Iterator[Digest]:
        """All blobs here, in no order."""
        for directory in self.root.glob("[0-9a-f][0-9a-f]"):
            for path in directory.iterdir():
                yield Digest(f"sha256:{directory.name}{path.name}")

    def total_bytes(self) -> int:
        """Bytes of all blobs and of downloads under way."""
        return sum(_size(path) for path in self.root.glob("*/*"))

    def _open(self, digest: Digest) -> BufferedReader:
        path = self.path(digest)
        if path is None:
            raise UserError("not_found", f"there is no blob {digest} here")
        return path.open("rb")

    def _keep(self, file: IO[bytes], digest: Digest) -> None:
        file.flush()
        os.fsync(file.fileno())
        self._rename(Path(file.name), digest)

    def _rename(self, path: Path, digest: Digest) -> Path:
        name = _hexadecimal(digest)
        place = self.root / name[:2] / name[2:]
        place.parent.mkdir(mode=0o700, exist_ok=True)
        path.replace(place)
        directory = os.open(place.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
        return place

    def _place(self, digest: Digest) -> Path | None:
        match = _DIGEST.fullmatch(digest)
        return self.root / match[1][:2] / match[1][2:] if match else None

    @contextmanager
    def _incoming_file(self) -> Iterator[IO[bytes]]:
        """A new file, mode 0600, that is gone again unless it was renamed."""
        with tempfile.NamedTemporaryFile(dir=self._incoming, delete=False) as file:
            try:
                yield file
            finally:
                Path(file.name).unlink(missing_ok=True)

    @contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise store_error(error, self.root) from error


@contextmanager
def _open_regular(path: Path) -> Iterator[IO[bytes]]:
    """Opens a regular file; never follows a link, never waits for a FIFO's writer."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise UserError("not_found", f"there is no file {path}") from error
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENXIO, errno.EISDIR}:
            raise UserError("bad_argument", f"{path} is not a regular file") from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UserError("bad_argument", f"{path} is not a regular file")
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        yield file


def _hashed(source: IO[bytes], target: IO[bytes] | None = None) -> Hashing:
    """What is in `source`; copied to `target`."""
    hashing = Hashing()
    while chunk := source.read(CHUNK_BYTES):
        hashing.update(chunk)
        if target is not None:
            target.write(chunk)
    return hashing


def _hexadecimal(digest: Digest) -> str:
    match = _DIGEST.fullmatch(digest)
    if match is None:
        raise UserError("bad_argument", f"{digest[:80]!r} is not a digest: sha256: and 64 hexadecimal digits")
    return match[1]


def _kept(path: Path, digest: Digest) -> Iterator[Kept]:
    try:
        status = path.stat()
    except FileNotFoundError:  # deleted meanwhile
        return
    yield Kept(status.st_mtime_ns // 1_000_000, digest, status.st_size)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # deleted meanwhile
        return 0
