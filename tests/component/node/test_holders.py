"""Data that a node fetches from those who have it already: named by the requester, let in by the holder, and told of."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from dms.jobs.spec import DatasetWish, JobSpec
from dms.node.services import Services
from dms.node.trace import gather, steps
from dms.rpc.api.data import AddDataset, Dataset
from dms.rpc.api.jobs import JobParams, JobView, WaitParams
from dms.testing.market import peer_of, until
from dms_actors.testing.network import MemoryNetwork
from dms_proto.data.chunks import LISTED_FROM
from dms_proto.data.marks import marks_of
from dms_proto.errors import PeerError
from dms_proto.ids import AllocationId, BidId, Digest, PeerId, RequestId, allocation_id, digest_of, request_id, short
from dms_proto.messages import HoldersWanted, Serve
from dms_proto.work import DatasetInput, EndReason, Task

from .conftest import Local, spec

LARGE = os.urandom(LISTED_FROM + 17)
OF_LARGE = digest_of(LARGE)


@pytest.fixture
async def dataset(local: Local, tmp_path: Path) -> Dataset:
    """Of the first node."""
    root = tmp_path / "photos"
    root.mkdir()
    (root / "large.bin").write_bytes(LARGE)
    return await local.api.data_add(AddDataset((str(root),), "photos"))


def reading(local: Local, index: int) -> JobSpec:
    """A job that reads it, at a node."""
    job = spec("exit", "0", node=peer_of(local.market.nodes[index]))
    return msgspec.structs.replace(job, datasets=(DatasetWish("photos"),))


async def run_at(local: Local, index: int) -> JobView:
    view = await local.run(reading(local, index))
    assert view.summary.reason is EndReason.COMPLETED, view.summary.detail
    return view


def watch(local: Local, index: int, monkeypatch: pytest.MonkeyPatch, seen: Callable[[PeerId, Digest], None]) -> None:
    """Has `seen` called whenever a node begins to fetch something from a peer."""
    network = local.market.nodes[index].services.network
    assert isinstance(network, MemoryNetwork)
    fetch = network._fetch

    async def noted(peer: PeerId, digest: Digest, size: int, into: Path) -> None:
        seen(peer, digest)
        await fetch(peer, digest, size, into)

    monkeypatch.setattr(network, "_fetch", noted)


async def told_of(local: Local, index: int, view: JobView) -> str:
    """The line of a node's trace on where the inputs of a job came from."""
    services = local.market.nodes[index].services
    rows = await gather(services.store, local.apis[index]._runner, view.summary.job_id)
    return next(step.text for step in steps(rows) if "inputs are here" in step.text)


async def there(services: Services) -> bool:
    return services.blobs.path(OF_LARGE) is not None


@pytest.mark.parametrize("restarted", [(), (0, 1)], ids=["", "both restarted"])
async def test_what_a_requester_no_longer_gives_comes_from_a_node_that_ran_such_a_job_before(
    local: Local, dataset: Dataset, monkeypatch: pytest.MonkeyPatch, restarted: tuple[int, ...]
) -> None:
    requester, holder, third = map(peer_of, local.market.nodes)
    await run_at(local, 1)
    for index in restarted:
        await local.restart(index)
    for one, other in ((0, 1), (0, 2), (1, 2)) if restarted else ():
        await local.market.connect(local.market.nodes[one], local.market.nodes[other])
    for node in local.market.nodes:
        await local.market.until_met(node, 2)

    def cut_off(peer: PeerId, digest: Digest) -> None:
        if (peer, digest) == (requester, OF_LARGE):
            local.market.fabric.cut(requester, third)

    watch(local, 2, monkeypatch, cut_off)
    job = await local.submit(reading(local, 2))
    services = local.market.nodes[2].services
    await until(lambda: there(services), bool)
    local.market.fabric.heal(requester, third)
    await local.market.connect(local.market.nodes[2], local.market.nodes[0])
    view = await local.api.job_wait(WaitParams(job, 20_000))
    assert view.summary.reason is EndReason.COMPLETED, view.summary.detail
    assert f"4 MiB of {short(holder)}" in await told_of(local, 2, view)


async def test_it_is_told_who_sent_how_much(local: Local, dataset: Dataset) -> None:
    view = await run_at(local, 1)
    assert f"inputs are here, 4 MiB of {short(peer_of(local.market.nodes[0]))};" in await told_of(local, 1, view)
    again = await run_at(local, 1)
    assert "inputs are here;" in await told_of(local, 1, again)


async def test_a_holder_that_has_it_no_longer_costs_nothing(
    local: Local, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    await run_at(local, 1)
    local.market.nodes[1].services.blobs.delete(OF_LARGE)
    view = await run_at(local, 2)
    assert f"4 MiB of {short(peer_of(local.market.nodes[0]))};" in await told_of(local, 2, view)


async def fetch_from_holder(local: Local, into: Path) -> None:
    """The third node asks the second for the large file."""
    network = local.market.nodes[2].services.network
    await network.fetch([peer_of(local.market.nodes[1])], OF_LARGE, len(LARGE), into)


async def test_nobody_gets_at_it_by_knowing_what_it_is(local: Local, dataset: Dataset, tmp_path: Path) -> None:
    """The peer knows every digest, and claims by the very words of a requester that it is to be served."""
    await run_at(local, 1)
    holder, me = local.market.nodes[1].services, peer_of(local.market.nodes[2])
    with pytest.raises(PeerError, match="refused"):
        await fetch_from_holder(local, tmp_path / "fetched")
    job = request_id(bytes(16))
    task = Task("scripted", datasets=(DatasetInput("d", dataset.digest, 100, dataset.size),))
    word = Serve(job, me, marks_of(job, task))
    holder.workbench.serve(me, word)
    with pytest.raises(PeerError, match="refused"):
        await fetch_from_holder(local, tmp_path / "fetched")
    holder.workbench.serve(peer_of(local.market.nodes[0]), word)  # as its requester may
    await fetch_from_holder(local, tmp_path / "fetched")


async def test_what_the_holder_has_bound_since_stays(local: Local, dataset: Dataset, tmp_path: Path) -> None:
    await run_at(local, 1)
    await run_at(local, 2)
    await fetch_from_holder(local, tmp_path / "fetched")
    (tmp_path / "fetched").unlink()
    await local.apis[1].data_add(AddDataset((str(tmp_path / "photos"),), bound=True))
    with pytest.raises(PeerError, match="refused"):
        await fetch_from_holder(local, tmp_path / "fetched")


async def test_a_provider_asks_about_the_request_it_works_for_and_no_other(local: Local, dataset: Dataset) -> None:
    """The marks that holders are shown are of the request that it names."""
    waiting = msgspec.structs.replace(reading(local, 1), task=spec("print", "x", "wait").task)
    job = await local.submit(waiting)
    view = await until(lambda: local.show(job), lambda view: view.summary.running == 1)
    (attempt,) = view.slots[0].attempts
    collector = local.market.nodes[0].services.collector
    before = set(collector._teller._answered)
    collector._teller._answered.take(attempt.allocation_id)

    async def answered() -> set[AllocationId]:
        return set(collector._teller._answered)

    collector.holders_wanted(attempt.provider, HoldersWanted(request_id(bytes(16)), attempt.allocation_id))
    await asyncio.sleep(0)
    assert attempt.allocation_id not in await answered()
    collector.holders_wanted(attempt.provider, HoldersWanted(RequestId(job), attempt.allocation_id))
    assert await until(answered, lambda known: attempt.allocation_id in known) == before | {attempt.allocation_id}
    await local.api.job_cancel(JobParams(job))


async def test_who_asks_twice_for_one_allocation_ends_both_questions_in_peace(local: Local) -> None:
    """As an actor does that began anew while it asked."""
    seeker, peer = local.market.nodes[0].services.workbench._seeker, peer_of(local.market.nodes[1])
    asked = allocation_id(BidId("b"), 0)
    asking = [asyncio.ensure_future(seeker.others(asked, request_id(bytes(16)), peer)) for _ in range(2)]
    await asyncio.sleep(0)
    for question in asking:
        question.cancel()
    ended = await asyncio.gather(*asking, return_exceptions=True)
    assert [type(each) for each in ended] == [asyncio.CancelledError] * 2
