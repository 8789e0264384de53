"""Comparisons take turns: a job with answers that take long holds up itself, and no other job."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from dms.comparing.installed import GROUP
from dms.node.comparing import AT_ONCE, Comparing
from dms.node.logs import LogStore
from dms.store.blobs import BlobStore
from dms.testing.packages import install_package
from dms_proto.ids import AllocationId, RequestId
from dms_proto.market.auction_effects import Compare
from dms_proto.market.auction_stimuli import Compared
from dms_proto.market.auction_terms import Given
from dms_proto.work import Output

pytestmark = pytest.mark.slow


async def test_a_job_with_slow_answers_holds_no_other_job_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site, begun = tmp_path / "site", tmp_path / "begun"
    site.mkdir()
    os.mkfifo(begun)
    descriptor, readable = os.open(begun, os.O_RDONLY | os.O_NONBLOCK), asyncio.Event()
    monkeypatch.syspath_prepend(site)
    source = (
        "import os, time\nclass Slow:\n    def __init__(self, parameter): pass\n"
        f"    def same(self, left, right): os.write(os.open({str(begun)!r}, os.O_WRONLY), b'x'); time.sleep(99)\n"
    )
    install_package(site, "slow-results", "1", GROUP, {"slow": "slow_results:Slow"}, "slow_results", source)
    blobs = BlobStore(tmp_path / "blobs")
    comparing = Comparing(blobs, LogStore(tmp_path / "logs"))

    def given(index: int, text: bytes) -> Given:
        return Given(index, AllocationId(f"a-{index}"), (Output("out", blobs.put_bytes(text), len(text)),))

    async def compare(job: str, piece: int, comparator: str) -> Compared | None:
        wanted = Compare(piece, comparator, (), (given(0, b"[1]"), given(1, b"[1.0]")))
        return await comparing.compare(RequestId(job), wanted, lambda: True)

    slow = [asyncio.create_task(compare("r-slow", piece, "slow")) for piece in range(AT_ONCE + 1)]
    try:
        asyncio.get_running_loop().add_reader(descriptor, readable.set)
        async with asyncio.timeout(30):
            await readable.wait()
            said = await compare("r-other", 0, "json")
        assert said is not None
        assert said.grouping.camps == ((0, 1),)
        assert not any(task.done() for task in slow)
    finally:
        asyncio.get_running_loop().remove_reader(descriptor)
        os.close(descriptor)
        for task in slow:
            task.cancel()
        await asyncio.gather(*slow, return_exceptions=True)
