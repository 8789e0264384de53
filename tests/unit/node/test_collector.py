"""The requester's hands: a provider that drips its log does not hold a request up for ever."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from dms.node import collector as module
from dms.node.collector import Collector
from dms.node.logs import LogStore
from dms_actors.loop_calls import LoopCalls
from dms_proto.ids import AllocationId, PeerId, RequestId
from dms_proto.messages import AllocationMessage, AllocationStatus, Phase
from dms_proto.work import Ending, EndReason, Task

ALLOCATION, REQUEST, PROVIDER = AllocationId("a-x"), RequestId("r-x"), PeerId("p")


class Post:
    """Sends nothing."""

    def send_now(self, *_arguments: object) -> bool:
        return True


async def test_a_log_that_comes_byte_by_byte_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAIT_S", 0.05)
    monkeypatch.setattr(module, "PAUSE_S", 0.02)
    monkeypatch.setattr(module, "SLOWEST_BYTES_PER_S", 1e6, raising=False)
    told: list[Any] = []
    loop, nothing = asyncio.get_running_loop(), None
    hands: Any = {"blobs": nothing, "network": nothing, "post": Post()}
    collector = Collector(
        loop=loop,
        calls=LoopCalls(loop),
        me=PeerId("me"),
        logs=LogStore(tmp_path),
        tell=lambda _request, stimulus: told.append(stimulus),
        **hands,
    )
    collector.expect(REQUEST, PROVIDER, ALLOCATION, Task(executor="sandbox"))
    ending = Ending(EndReason.COMPLETED)
    status = AllocationStatus(REQUEST, ALLOCATION, 5, Phase.ENDED, ending=ending, log_bytes=(100_000, 0))
    collector.collect(REQUEST, PROVIDER, status)
    for offset in range(100):
        collector.log_arrived(PROVIDER, AllocationMessage(REQUEST, ALLOCATION, "stdout", offset, b"x"))
        await asyncio.sleep(0.03)
        if told:
            break
    await collector.close()
    assert [stimulus.failed for stimulus in told] == ["parts of its log are missing"]
