"""A large content between whole nodes over a link that is cut again and again: as a dataset that a job reads, and as what a job leaves."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from dms.devnet.topology import NodeSpec
from dms.testing.whole_market import REQUESTER
from dms.testing.wired_market import Peak, WiredMarket, wired_market
from dms_proto.units import MIB

PATIENCE_S: Final = 600.0
PIECE: Final = MIB


class Moved(NamedTuple):
    """How a content came.

    Attributes:
        more: bytes that crossed the wires beyond it, whatever else was said meanwhile included.
        seconds: that it took, as the node that got it has written down.
        growth: bytes by which the memory of a node and its network process grew at the most: of the node where it grew most.
    """

    more: int
    seconds: float
    growth: int


Way = Callable[[WiredMarket, Path, int, int], Moved]


@contextmanager
def pair(root: Path, size: int) -> Iterator[WiredMarket]:
    """One that asks and one that runs jobs, for contents of `size` bytes."""
    room = {"provider.cpu": "1", "provider.memory": "512MiB", "provider.disk": 4 * size + 64 * MIB}
    with wired_market(root, REQUESTER, NodeSpec("provider", "provider", room)) as market:
        yield market


def dataset(market: WiredMarket, directory: Path, size: int, cuts: int) -> Moved:
    """A new dataset of one file, named in a job that says what it read.

    Raises:
        AssertionError: it did not come whole, or the link was cut less often.
    """
    file = directory / f"content-{cuts}"
    digest = _write(file, size)
    added = market.dms("data", "add", str(file), "--name", file.name, seconds=PATIENCE_S)
    assert added.returncode == 0, added.stderr
    read = ("--dataset", f"{file.name}:in", "--", "sha256sum", f"in/{file.name}")
    before, peaks = market.wires.carried, _peaks(market)
    said = _run(market, size, cuts, *read)
    assert said == digest, "it did not come whole"
    took = _between(market, "provider", "AllocationInvoked", "AllocationReady")
    return Moved(market.wires.carried - before - size, took, _growth(peaks))


def result(market: WiredMarket, directory: Path, size: int, cuts: int) -> Moved:
    """A new file that a job leaves, brought home.

    Raises:
        AssertionError: as for `dataset`.
    """
    into = directory / f"into-{cuts}"
    make = f"head -c {size} /dev/urandom > out && sha256sum out"
    before, peaks = market.wires.carried, _peaks(market)
    said = _run(market, size, cuts, "--output", "out", "--into", str(into), "--", "sh", "-c", make)
    with (into / "out").open("rb") as file:
        assert said == hashlib.file_digest(file, "sha256").hexdigest(), "it did not come whole"
    took = _between(market, "requester", "AllocationFinished", "AttemptEnded")
    return Moved(market.wires.carried - before - size, took, _growth(peaks))


def _write(path: Path, size: int) -> str:
    """Random bytes, and their digest."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for start in range(0, size, PIECE):
            piece = os.urandom(min(PIECE, size - start))
            digest.update(piece)
            file.write(piece)
    return digest.hexdigest()


def _run(market: WiredMarket, size: int, cuts: int, *command: str) -> str:
    """The first word that a job prints while the link is cut so often, each time that the next part of the content has crossed it."""
    cut_before = market.wires.cuts
    room = ("--disk", str(2 * size + 16 * MIB), "--time", "10m")
    with market.wires.cut_after_each(size // (cuts + 1), cuts):
        done = market.dms("run", *room, *command, seconds=PATIENCE_S)
    assert done.returncode == 0, done.stderr
    assert market.wires.cuts == cut_before + cuts, "it was to be cut more often"
    return done.stdout.split()[0]


def _between(market: WiredMarket, node: str, begun: str, over: str) -> float:
    """Seconds between the last events of two kinds."""
    return (_last(market, node, over) - _last(market, node, begun)) / 1000


def _last(market: WiredMarket, node: str, kind: str) -> int:
    """Unix ms of the last event of a kind."""
    return int(market.json("events", "query", "--kind", kind, node=node)["events"][-1]["at"])


def _peaks(market: WiredMarket) -> list[Peak]:
    return [Peak(node) for node in market.net.nodes.values()]


def _growth(peaks: list[Peak]) -> int:
    return max(peak.bytes - peak.before for peak in peaks)
