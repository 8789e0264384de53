"""A large content between network processes: over links that are cut again and again, to one holder and to several, and over one that is not."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NamedTuple

from dms.testing.live_networks import Crew, LiveMember, Wire, through_cuts
from dms_proto.data.chunks import Content, Hashing

BYTES = 1_000_000_000
CUTS = 5
HOLDERS = 3
PIECE = 1_000_000


class Measured(NamedTuple):
    """What crossed the wire beyond the content itself, in hundredths of it, from one holder and from several; and how fast it came without a cut."""

    more_percent: float
    more_of_several_percent: float
    mib_per_s: float


def measure() -> Measured:
    """Measures once."""
    with tempfile.TemporaryDirectory(prefix="dms-bench-data-") as directory:
        return asyncio.run(_measure(Path(directory)))


async def _measure(directory: Path) -> Measured:
    content = await asyncio.to_thread(_make, directory)
    crew = Crew()
    try:
        ann, *holders = [await crew() for _ in range(1 + HOLDERS)]
        for holder in holders:
            holder.network.serve_blobs(lambda _peer, _digest: directory / "source")

        async def fetch(of: Sequence[LiveMember]) -> None:
            peers, into = [holder.peer for holder in of], directory / "fetched"
            await ann.network.fetch(peers, content.digest, content.size, into, directory / "list")

        async def more(of: Sequence[LiveMember]) -> float:
            async with AsyncExitStack() as stack:
                wires = [await stack.enter_async_context(Wire.to(holder.addresses[0])) for holder in of]
                carried = await through_cuts(ann, wires, lambda: fetch(of), content.size, CUTS)
            return 100 * (carried / content.size - 1)

        of_one, of_several = await more(holders[:1]), await more(holders)
        await ann.connect(holders[0])
        started = time.perf_counter()
        await fetch(holders[:1])
        return Measured(of_one, of_several, content.size / 2**20 / (time.perf_counter() - started))
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
