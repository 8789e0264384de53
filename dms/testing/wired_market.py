"""A market of whole nodes all of whose connections go over wires that count what they carry, and that are cut.

Each node listens at one port and is known by another, that of its wire. So whoever dials whom, no byte between nodes goes another way.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec

from dms.devnet.network import DevNet, DevNode
from dms.devnet.topology import NodeSpec
from dms.testing.live_networks import Wire
from dms.testing.whole_market import WholeMarket

LOOK_S: Final = 0.002
"""Seconds between two looks at how much the wires have carried."""


class Wires:
    """Those in front of some nodes, on a thread of their own: whoever uses them waits for commands meanwhile.

    Attributes:
        cuts: how often all of them were cut.
    """

    def __init__(self, nodes: Sequence[DevNode]) -> None:
        self.cuts = 0
        self._nodes = nodes
        self._wires: list[Wire] = []
        self._loop = asyncio.new_event_loop()
        self._over = asyncio.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=[self._stand()], name="wires")

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()
        self._loop.close()

    @property
    def carried(self) -> int:
        """Bytes so far, both ways."""
        return sum(wire.carried for wire in self._wires)

    @contextmanager
    def cut_after_each(self, size: int, times: int) -> Iterator[None]:
        """Breaks all connections whenever so many more bytes were carried, that often within the block."""
        cutting = asyncio.run_coroutine_threadsafe(self._cut_after_each(size, times), self._loop)
        try:
            yield
        finally:
            cutting.cancel()

    async def _cut_after_each(self, size: int, times: int) -> None:
        begun = self.carried
        for number in range(1, times + 1):
            while self.carried < begun + number * size:  # noqa: ASYNC110 - sockets count, and tell nobody
                await asyncio.sleep(LOOK_S)
            for wire in self._wires:
                await wire.cut()
            self.cuts += 1

    async def _stand(self) -> None:
        async with AsyncExitStack() as stack:
            for node in self._nodes:
                real = f"/ip4/{node.host}/tcp/{node.port}"
                wire, known = await stack.enter_async_context(Wire.to(real))
                own = {"network.listen": [real], "network.announce": [known]}
                node.spec = msgspec.structs.replace(node.spec, settings={**node.spec.settings, **own})
                node.port = int(known.rsplit("/", 1)[1])
                self._wires.append(wire)
            self._ready.set()
            await self._over.wait()


class WiredMarket(WholeMarket):
    """A running market, and its wires."""

    def __init__(self, net: DevNet, wires: Wires) -> None:
        super().__init__(net)
        self.wires = wires


@contextmanager
def wired_market(root: Path, *topology: NodeSpec) -> Iterator[WiredMarket]:
    """A market of these nodes for a while, all known by their wires."""
    net = DevNet(root, topology)
    with Wires(list(net.nodes.values())) as wires, net:
        yield WiredMarket(net, wires)


class Peak:
    """The most memory that a node and its network process have had since this was made.

    Jobs and what holds them are not counted.
    """

    def __init__(self, node: DevNode) -> None:
        assert node.process is not None
        self._processes = [Path("/proc", str(pid)) for pid in (node.process.pid, *_network_processes(node.process.pid))]
        for process in self._processes:
            (process / "clear_refs").write_text("5")
        self.before = self.bytes

    @property
    def bytes(self) -> int:
        """Resident, of both together."""
        return sum(map(_high_water, self._processes))


def _network_processes(node: int) -> Iterator[int]:
    for children in Path(f"/proc/{node}/task").glob("*/children"):
        for child in map(int, children.read_text().split()):
            with suppress(OSError):  # it has just ended
                if b"dms.net" in Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0"):
                    yield child


def _high_water(process: Path) -> int:
    (line,) = [line for line in (process / "status").read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024
