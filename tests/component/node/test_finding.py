"""Datasets that were added at another node, named in jobs by their id: found by asking, and let go only where they are shared."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import msgspec
import pytest

from dms.jobs.spec import DatasetWish, JobSpec
from dms.rpc.api.data import AddDataset, Dataset, DatasetParams
from dms.rpc.api.jobs import JobParams, WaitParams
from dms.testing.market import peer_of
from dms_proto.data.chunks import LISTED_FROM, Hashing
from dms_proto.errors import PeerError, UserError
from dms_proto.ids import Digest, PeerId, digest_of, short
from dms_proto.messages import AnyMessage, DatasetHeld, DatasetWanted
from dms_proto.work import DatasetInput, EndReason, Task

from .conftest import Local, spec

LARGE = os.urandom(LISTED_FROM + 17)
SMALL = b"a few bytes"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    root.mkdir()
    (root / "small.txt").write_bytes(SMALL)
    return root


async def add(local: Local, tree: Path, **how: bool) -> Dataset:
    """At the second node: the owner of the first asks for it."""
    return await local.apis[1].data_add(AddDataset((str(tree),), "photos", **how))


def reading(local: Local, dataset: str, index: int) -> JobSpec:
    job = spec("exit", "0", outputs=("data/*.txt",), node=peer_of(local.market.nodes[index]))
    return msgspec.structs.replace(job, datasets=(DatasetWish(dataset),))


async def files_at(local: Local, dataset: str, index: int) -> dict[str, Digest]:
    """What a job at a node finds, submitted at the first."""
    view = await local.run(reading(local, dataset, index))
    assert view.summary.reason is EndReason.COMPLETED, view.summary.detail
    (slot,) = (await local.api.job_results(JobParams(view.summary.job_id))).slots
    return {file.path: file.digest for file in slot.files}


@pytest.mark.parametrize("index", range(3))
async def test_a_large_one_is_read_wherever_the_job_runs_and_does_not_pass_through_the_requester(
    local: Local, tree: Path, index: int
) -> None:
    (tree / "large.bin").write_bytes(LARGE)
    dataset = await add(local, tree, shared=True)
    assert await files_at(local, dataset.digest, index) == {"data/small.txt": digest_of(SMALL)}
    has_it = [node.services.blobs.path(digest_of(LARGE)) is not None for node in local.market.nodes]
    assert has_it == [number in {1, index} for number in range(3)]


async def test_who_shares_it_is_found_again_when_the_requester_has_been_restarted(local: Local, tree: Path) -> None:
    (tree / "large.bin").write_bytes(LARGE)
    dataset = await add(local, tree, shared=True)
    requester, holder, provider = local.market.nodes
    local.market.fabric.cut(peer_of(requester), peer_of(provider))
    job = await local.submit(reading(local, dataset.digest, 2))
    await local.restart(0)
    local.market.fabric.heal(peer_of(requester), peer_of(provider))
    requester = local.market.nodes[0]
    for other in (holder, provider):
        await local.market.connect(requester, other)
    await local.market.until_met(requester, 2)
    view = await local.api.job_wait(WaitParams(job, 20_000))
    assert view.summary.reason is EndReason.COMPLETED, view.summary.detail
    assert len(view.slots[0].attempts) == 1
    assert provider.services.blobs.path(digest_of(LARGE)) is not None


async def test_peers_are_asked_once_for_all_who_want_to_know(local: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    """They mute who asks without end, and a job has hundreds of providers that ask."""
    services = local.market.nodes[0].services
    send, asked = services.post.send_now, list[str]()

    def counted(peer: PeerId, message: AnyMessage, cause: str = "") -> bool:
        if isinstance(message, DatasetWanted):
            asked.append(peer)
        return send(peer, message, cause)

    monkeypatch.setattr(services.post, "send_now", counted)
    nobodys = Task("", datasets=(DatasetInput("data", digest_of(LARGE), 100, 2 * LISTED_FROM),))
    await asyncio.gather(*(services.finding.find_again(nobodys) for _ in range(20)))
    assert sorted(asked) == sorted(peer_of(node) for node in local.market.nodes[1:])


async def test_what_nobody_gives_any_more_ends_the_job_and_it_is_told_what_that_is_and_who_was_asked(
    local: Local, tree: Path
) -> None:
    (tree / "large.bin").write_bytes(LARGE)
    dataset = await add(local, tree, shared=True)
    requester, holder, provider = map(peer_of, local.market.nodes)
    local.market.fabric.cut(requester, provider)
    job = await local.submit(msgspec.structs.replace(reading(local, dataset.digest, 2), retry_node_faults=0))
    await local.apis[1].data_remove(DatasetParams(dataset.digest))
    local.market.fabric.heal(requester, provider)
    await local.market.connect(local.market.nodes[0], local.market.nodes[2])
    view = await local.api.job_wait(WaitParams(job, 20_000))
    assert view.summary.reason is EndReason.INPUT_UNAVAILABLE
    asked = f"is not to be had of its requester {short(requester)}, {short(holder)}: "
    assert f"large.bin: {digest_of(LARGE)} {asked}" in view.summary.detail


async def test_a_large_result_comes_with_the_list_of_its_chunks(local: Local, tree: Path) -> None:
    (tree / "large.bin").write_bytes(LARGE)
    dataset = await add(local, tree, shared=True)
    job = reading(local, dataset.digest, 2)
    view = await local.run(msgspec.structs.replace(job, task=spec("exit", "0", outputs=("data/*",)).task))
    assert view.summary.reason is EndReason.COMPLETED, view.summary.detail
    hashing = Hashing()
    hashing.update(LARGE)
    for digest in (digest_of(LARGE), hashing.content().chunks):
        assert local.market.nodes[0].services.blobs.path(digest) is not None


async def test_a_small_one_comes_to_the_requester(local: Local, tree: Path) -> None:
    dataset = await add(local, tree, shared=True)
    for given in (dataset.digest, dataset.digest.removeprefix("sha256:")):
        assert await files_at(local, given, 2) == {"data/small.txt": digest_of(SMALL)}
    assert local.market.nodes[0].services.blobs.path(digest_of(SMALL)) is not None
    await local.apis[1].data_remove(DatasetParams(dataset.digest))  # what is here need not be found again
    assert await files_at(local, dataset.digest, 2) == {"data/small.txt": digest_of(SMALL)}


async def test_what_is_not_shared_is_not_found_by_its_id_nor_fetched(local: Local, tree: Path, tmp_path: Path) -> None:
    dataset = await add(local, tree)
    with pytest.raises(UserError, match="is not kept here, and of 2 connected nodes none shares it") as caught:
        await local.submit(reading(local, dataset.digest, 2))
    assert (caught.value.code, caught.value.hint) == ("not_found", "dms data add PATH --shared, where it is")
    network, holder = local.market.nodes[0].services.network, peer_of(local.market.nodes[1])
    with pytest.raises(PeerError, match="refused"):
        await network.fetch([holder], digest_of(SMALL), len(SMALL), tmp_path / "fetched")


async def test_the_beginning_of_an_id_names_none_of_another_node(local: Local, tree: Path) -> None:
    """Somebody could make another dataset that begins like it."""
    dataset = await add(local, tree, shared=True)
    with pytest.raises(UserError, match="no dataset"):
        await local.submit(reading(local, dataset.digest[:30], 2))


async def test_what_is_shared_stays_so_until_it_is_removed(local: Local, tree: Path) -> None:
    api, services = local.apis[1], local.market.nodes[1].services
    dataset = await add(local, tree, shared=True)
    assert (await add(local, tree)).shared
    await local.restart(1)
    services = local.market.nodes[1].services
    assert services.datasets.is_shared(digest_of(SMALL))
    api = local.apis[1]
    await api.data_remove(DatasetParams(dataset.digest))
    assert not services.datasets.is_shared(digest_of(SMALL))
    assert not (await add(local, tree)).shared


async def test_what_is_bound_is_not_shared(local: Local, tree: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="what is bound never leaves, so it cannot be shared"):
        await add(local, tree, shared=True, bound=True)
    await add(local, tree, shared=True)
    bound = await add(local, tree, bound=True)
    assert (bound.bound, bound.shared) == (True, False)
    with pytest.raises(UserError, match="none shares it"):
        await local.submit(reading(local, bound.digest, 2))


async def test_a_file_of_a_bound_one_stays_though_it_is_in_a_shared_one_too(
    local: Local, tree: Path, tmp_path: Path
) -> None:
    await add(local, tree, bound=True)
    other = tmp_path / "other"
    other.mkdir()
    (other / "renamed.txt").write_bytes(SMALL)
    shared = await local.apis[1].data_add(AddDataset((str(other),), shared=True))
    with pytest.raises(PeerError, match="refused"):
        await local.submit(reading(local, shared.digest, 2))


async def test_who_says_another_size_or_was_not_asked_changes_nothing(
    local: Local, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = await add(local, tree, shared=True)
    finding, liar = local.market.nodes[0].services.finding, peer_of(local.market.nodes[2])
    send = local.market.nodes[0].services.post.send_now

    def lied_to(peer: str, message: object, cause: str = "") -> bool:
        """The answer of a peer that lies is there before any other."""
        for question in finding._questions._open:
            finding.heard(liar, DatasetHeld(question, 5))
        return send(peer, message, cause)  # type: ignore[arg-type]

    monkeypatch.setattr(local.market.nodes[0].services.post, "send_now", lied_to)
    assert await files_at(local, dataset.digest, 2) == {"data/small.txt": digest_of(SMALL)}
