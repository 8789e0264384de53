"""Fetching blobs from the peers that hold them; the conversation is in `dms.net.blobs`.

With a list of its chunks (`dms_proto.data.chunks`) a content comes from several holders at once, each sending runs of chunks on a stream of its own.
A wrong chunk ends its sender's part in the transfer, and its name is told to the node. In the end all of it is read once more: the list is its
requester's word, and blobs are shared by all.

Without a list a content comes from one holder, from the first byte to the last, and is verified as a whole; if it fails, the next is asked.
"""

from __future__ import annotations

import errno
import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import trio

from dms.net.blob_items import MAX_HEAD, MAX_ITEM, Reader, Request, TransferError, check_offer, item
from dms.net.bridge import Bridge
from dms.net.config import BLOB_PROTOCOL
from dms.net.guards.crashes import ENDS
from dms.net.guards.yamux_stream import stream_under
from dms.net.host import Host
from dms.net.partial_file import PartialFile
from dms.net.pipe import Fetch, Fetched
from dms_proto.data.chunks import CHUNK_BYTES, ChunkList
from dms_proto.data.transfer import SLOWEST_BYTES_PER_MS, Transfer
from dms_proto.units import SECOND, format_bytes, format_count
from dms_proto.wire import Offence

SLOWEST_BYTES_PER_S: Final = SLOWEST_BYTES_PER_MS * SECOND
WINDOW: Final = 2 * 1024 * 1024
"""Bytes a server may send ahead: 100 ms of round trip still give 20 MB/s."""


class _Told(NamedTuple):
    """What becomes known of the holders on the way: who sent something wrong, and how many bytes of each were kept."""

    wrong: set[str]
    came: Counter[str]


class Fetching:
    """Fetches blobs. Lives on the trio thread."""

    def __init__(self, host: Host, bridge: Bridge) -> None:
        self._host = host
        self._bridge = bridge
        self._limiter = trio.CapacityLimiter(host.config.max_blobs_fetched)
        self._begun: dict[int, trio.CancelScope] = {}

    def begin(self, request: int) -> trio.CancelScope:
        """What `end` ends, for `fetch`."""
        scope = self._begun[request] = trio.CancelScope()
        return scope

    def end(self, request: int) -> None:
        """The node waits for it no longer."""
        if request in self._begun:
            self._begun[request].cancel()

    async def fetch(self, wanted: Fetch, scope: trio.CancelScope) -> None:
        """Fetches a blob and tells the node how it went, unless it is ended."""
        try:
            with scope:
                await self._fetch_and_tell(wanted)
        finally:
            del self._begun[wanted.request]

    async def _fetch_and_tell(self, wanted: Fetch) -> None:
        told = _Told(set(), Counter())

        def tell(code: str = "", message: str = "", *, retryable: bool = True) -> None:
            wrong, came = tuple(sorted(told.wrong)), tuple(sorted(told.came.items()))
            self._bridge.send(Fetched(wanted.request, code, message, retryable, wrong, came))

        try:
            async with self._limiter:
                await self._fetch(wanted, told)
            self._host.counters.add("blobs.fetched")
            tell()
        except TransferError as error:
            tell(error.code, str(error), retryable=error.retryable)
        except OSError as error:
            code = "disk_full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "store_failed"
            tell(code, f"{wanted.into}: {error.strerror}", retryable=False)

    async def _fetch(self, wanted: Fetch, told: _Told) -> None:
        into = Path(wanted.into)
        part = into.with_name(into.name + ".part")
        chunks = await trio.to_thread.run_sync(_list_of, wanted)
        if chunks is None:
            await self._fetch_whole(wanted, part, told)
            await trio.to_thread.run_sync(part.replace, into)
        else:
            with self._patience(wanted.size):
                await self._fetch_chunks(wanted, PartialFile(part, wanted.digest, chunks), into, told)

    @contextmanager
    def _patience(self, size: int) -> Iterator[None]:
        """Raises when so many bytes do not come in time."""
        with trio.move_on_after(self._host.config.blob_stall_s + size / SLOWEST_BYTES_PER_S) as patience:
            yield
        if patience.cancelled_caught:
            raise TransferError("peer_timeout", f"it came at less than {format_bytes(SLOWEST_BYTES_PER_S)} a second")

    async def _fetch_whole(self, wanted: Fetch, part: Path, told: _Told) -> None:
        """Asks one holder after the other for what has no list, each from where the partial file ends."""
        failed: list[TransferError] = []
        for peer in dict.fromkeys(wanted.holders):
            try:
                with self._patience(wanted.size):
                    await self._fetch_from(peer, wanted, part, told)
            except TransferError as error:
                failed.append(error)
                if error.code == "digest_mismatch":
                    told.wrong.add(peer)
            else:
                return
        raise _most_hopeful(failed)

    async def _fetch_from(self, peer: str, wanted: Fetch, part: Path, told: _Told) -> None:
        hasher, offset = await trio.to_thread.run_sync(_resume, part, wanted.size)

        def keep(data: bytes) -> None:
            hasher.update(data)
            file.write(data)

        async with self.asked(peer, Request(wanted.digest, offset), wanted.size) as reader:
            left = wanted.size - offset
            with part.open("ab", buffering=0) as file:
                while data := await reader.item(MAX_ITEM):
                    left -= len(data)
                    if left < 0:
                        raise TransferError("digest_mismatch", "the peer sends more than the blob has", retryable=False)
                    await trio.to_thread.run_sync(keep, data)
                    told.came[peer] += len(data)
        if left:
            raise TransferError("peer_unreachable", f"the peer ended {format_count(left, 'byte')} early")
        if f"sha256:{hasher.hexdigest()}" != wanted.digest:
            await trio.to_thread.run_sync(part.unlink)
            told.came.clear()
            if offset:  # what was there before may be what is wrong
                await self._fetch_from(peer, wanted, part, told)
                return
            self._host.blame(peer, Offence.OTHER_CONTENT)
            raise TransferError("digest_mismatch", f"what {peer} sent is not {wanted.digest}", retryable=False)

    async def _fetch_chunks(self, wanted: Fetch, file: PartialFile, into: Path, told: _Told) -> None:
        missing = await trio.to_thread.run_sync(file.missing)
        transfer = Transfer[str](missing, len(wanted.holders))
        try:
            if missing:
                await _InChunks(self, wanted, file, transfer, told.came).run()
        finally:
            told.wrong.update(transfer.wrong)
        if not await trio.to_thread.run_sync(file.finish, into):
            what = f"{wanted.digest} is not what the list of its chunks says"
            raise TransferError("digest_mismatch", what, retryable=False)

    @asynccontextmanager
    async def asked(self, peer: str, request: Request, size: int) -> AsyncIterator[Reader]:
        """What a holder sends of a blob of `size` bytes, as requested.

        Raises:
            TransferError: it is not connected, does not offer that, or the stream ends, also later in the block.
        """
        connections = self._host.connections(peer)
        if not connections:
            raise TransferError("peer_unreachable", f"not connected to {peer}")
        try:
            net_stream = await self._host.open_stream(connections[-1], BLOB_PROTOCOL)
            stream = stream_under(net_stream)
            try:
                stream.widen(WINDOW)
                reader = Reader(stream, self._host.config.blob_stall_s)
                await stream.write(item(msgspec.msgpack.encode(request)))
                check_offer(await reader.item(MAX_HEAD), request.digest, size)
                yield reader
            finally:
                stream.break_off()
                connections[-1].remove_stream(net_stream)
        except ENDS as error:
            raise TransferError("peer_unreachable", f"the transfer was cut: {error!r}") from error


class _InChunks:
    """One content on its way from its holders into a file."""

    def __init__(
        self, fetching: Fetching, wanted: Fetch, file: PartialFile, transfer: Transfer[str], came: Counter[str]
    ) -> None:
        self._fetching = fetching
        self._wanted = wanted
        self._file = file
        self._chunks = file.chunks
        self._transfer = transfer
        self._came = came
        self._failed: list[TransferError] = []
        self._unwritten: OSError | None = None
        self._changed = trio.Event()
        """Something that others owed may be to be asked again."""

    async def run(self) -> None:
        """Returns when nothing is missing.

        Raises:
            TransferError: no holder gives what is still missing.
            OSError: it cannot be written.
        """
        async with trio.open_nursery() as nursery:
            for peer in dict.fromkeys(self._wanted.holders):
                nursery.start_soon(self._from, peer, nursery.cancel_scope)
        if self._unwritten is not None:
            raise self._unwritten
        if not self._transfer.is_whole:
            raise _most_hopeful(self._failed)

    async def _from(self, peer: str, all_of_them: trio.CancelScope) -> None:
        """Asks one holder again and again, until all is here or it fails."""
        try:
            while not self._transfer.is_whole:
                changed = self._changed
                if self._transfer.ask(peer):
                    await self._run_of(peer)
                else:
                    await changed.wait()
            all_of_them.cancel()
        except TransferError as error:
            self._failed.append(error)
            self._transfer.ended(peer)
        except OSError as error:
            self._unwritten = error
            all_of_them.cancel()
        finally:
            self._changed.set()
            self._changed = trio.Event()

    async def _run_of(self, peer: str) -> None:
        """Takes the run of chunks that a holder owes; it may become shorter meanwhile."""
        owed = self._transfer.owes(peer)
        start, end = self._chunks.place(owed.start)[0], self._chunks.place(owed.stop - 1)[1]
        request = Request(self._wanted.digest, start, end - start)
        async with self._fetching.asked(peer, request, self._wanted.size) as reader:
            rest = bytearray()
            while owed := self._transfer.owes(peer):
                await self._chunk(peer, owed.start, reader, rest)

    async def _chunk(self, peer: str, index: int, reader: Reader, rest: bytearray) -> None:
        """Takes the next chunk of a run. `rest`: what came beyond the one before."""
        start, end = self._chunks.place(index)
        while len(rest) < end - start:
            data = await reader.item(MAX_ITEM)
            if not data:
                raise TransferError("peer_unreachable", f"{peer} ended before chunk {index + 1}")
            rest += data
        chunk = bytes(memoryview(rest)[: end - start])
        del rest[: end - start]
        if not await trio.to_thread.run_sync(self._file.keep, index, chunk):
            self._transfer.was_wrong(peer)
            what = f"chunk {index + 1} of {len(self._chunks)} of {self._wanted.digest}, as {peer} sent it, is wrong"
            raise TransferError("digest_mismatch", what, retryable=False)
        self._transfer.arrived(index)
        self._came[peer] += len(chunk)


def _most_hopeful(failed: Sequence[TransferError]) -> TransferError:
    """The first after which trying again may help; else the first."""
    return min(failed, key=lambda error: not error.retryable)


def _list_of(wanted: Fetch) -> ChunkList | None:
    """The chunks of what is wanted; None where no list of them is given.

    Raises:
        TransferError: what is given is no list of that.
    """
    if not wanted.chunks:
        return None
    try:
        return ChunkList(Path(wanted.chunks).read_bytes(), wanted.size)
    except ValueError as error:
        raise TransferError("digest_mismatch", f"{wanted.digest}: {error}", retryable=False) from error


def _resume(part: Path, size: int) -> tuple[hashlib._Hash, int]:
    """The digest so far and the length of a partial file; one that is too long is begun anew."""
    hasher = hashlib.sha256()
    part.parent.mkdir(parents=True, exist_ok=True)
    if not part.exists() or part.stat().st_size > size:
        part.unlink(missing_ok=True)
        return hasher, 0
    with part.open("rb") as file:
        while data := file.read(CHUNK_BYTES):
            hasher.update(data)
        return hasher, file.tell()
