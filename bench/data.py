"""A large content between two network processes: over a link that is cut again and again, and over one that is not."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from dms.testing.live_networks import Crew, Wire
from dms_proto.data.chunks import Content, Hashing
from dms_proto.errors import PeerError

BYTES = 1_000_000_000
CUTS = 5
PIECE = 1_000_000


class Measured(NamedTuple):
    """What crossed the wire beyond the content itself, in hundredths of it, and how fast all of it came without a cut."""

    more_percent: float
    mib_per_s: float


def measure() -> Measured:
    """Measures once."""
    with tempfile.TemporaryDirectory(prefix="dms-bench-data-") as directory:
        return asyncio.run(_measure(Path(directory)))


async def _measure(directory: Path) -> Measured:
    content = await asyncio.to_thread(_make, directory)
    crew = Crew()
    try:
        ann, bob = await crew(), await crew()
        bob.network.serve_blobs(lambda _peer, _digest: directory / "source")

        async def fetch(into: str) -> None:
            listed = directory / "list"
            await ann.network.fetch([bob.peer], content.digest, content.size, directory / into, listed)

        async with Wire.to(bob.addresses[0]) as (wire, address):
            for cut in range(1, CUTS + 1):
                await ann.network.dial([address])
                wire.break_after = cut * content.size // (CUTS + 1)
                try:
                    await fetch("cut")
                except PeerError:
                    wire.break_after = None
                else:
                    raise RuntimeError("the link was to be cut, and the content arrived")
            await ann.network.dial([address])
            await fetch("cut")
            more = wire.carried / content.size - 1
        await ann.connect(bob)
        started = time.perf_counter()
        await fetch("whole")
        return Measured(100 * more, content.size / 2**20 / (time.perf_counter() - started))
    finally:
        await crew.stop()


def _make(directory: Path) -> Content:
    hashing = Hashing()
    with (directory / "source").open("wb") as file:
        for _ in range(BYTES // PIECE):
            piece = os.urandom(PIECE)
            hashing.update(piece)
            file.write(piece)
    (directory / "list").write_bytes(hashing.chunk_list())
    return hashing.content()
