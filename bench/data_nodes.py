"""A large content between whole nodes, as what a job reads and as what it leaves: over a link that is cut, one that is not, and plain TCP."""

from __future__ import annotations

import socket
import tempfile
import threading
import time
from pathlib import Path
from typing import NamedTuple

from dms.testing import cut_transfers
from dms.testing.cut_transfers import Moved
from dms.testing.wired_market import WiredMarket
from dms_proto.units import MIB

BYTES = 1_000_000_000
CUTS = 5


class Way(NamedTuple):
    """One way of carrying a content, with the cuts and without."""

    cut: Moved
    whole: Moved

    @property
    def more_percent(self) -> float:
        """What crossed the wire beyond the content, when the link was cut, in hundredths of it."""
        return 100 * self.cut.more / BYTES

    @property
    def mib_per_s(self) -> float:
        """Without a cut."""
        return BYTES / MIB / self.whole.seconds

    @property
    def growth_mib(self) -> float:
        """Memory."""
        return max(self.cut.growth, self.whole.growth) / MIB


class Measured(NamedTuple):
    """Both ways, and the floor: plain TCP, in MiB a second."""

    dataset: Way
    result: Way
    tcp_mib_per_s: float


def measure() -> Measured:
    """Measures once."""
    with tempfile.TemporaryDirectory(prefix="dms-bench-data-") as name:
        directory = Path(name)
        with cut_transfers.pair(directory / "market", BYTES) as market:
            dataset = _both(market, cut_transfers.dataset, directory)
            result = _both(market, cut_transfers.result, directory)
        return Measured(dataset, result, BYTES / MIB / _tcp(directory / "content-0", directory / "floor"))


def _both(market: WiredMarket, way: cut_transfers.Way, directory: Path) -> Way:
    return Way(way(market, directory, BYTES, CUTS), way(market, directory, BYTES, 0))


def _tcp(source: Path, into: Path) -> float:
    """Seconds in which a file comes over a socket into another file."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def send() -> None:
            with socket.create_connection(listener.getsockname()) as way, source.open("rb") as file:
                way.sendfile(file)

        sending = threading.Thread(target=send)
        started = time.perf_counter()
        sending.start()
        with listener.accept()[0] as way, into.open("wb") as file:
            while piece := way.recv(MIB):
                file.write(piece)
        sending.join()
        return time.perf_counter() - started
