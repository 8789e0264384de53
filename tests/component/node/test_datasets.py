"""Datasets among whole nodes: added once, named in jobs, fetched once by each node that runs them, and bound where they are to stay."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from dms.jobs.spec import DatasetWish, JobSpec
from dms.node.dataset_jobs import with_datasets
from dms.node.sweeping import RECENT_MS, sweep
from dms.rpc.api.data import AddDataset, Dataset, DatasetParams
from dms.rpc.api.jobs import DecisionParams, JobParams, JobView
from dms.testing.market import peer_of, until
from dms_actors.testing.network import MemoryNetwork
from dms_proto.data.chunks import LISTED_FROM
from dms_proto.errors import PeerError, UserError
from dms_proto.ids import Digest, PeerId, digest_of
from dms_proto.market.preferences import Preferences
from dms_proto.units import MIB
from dms_proto.verification.policy import Policy, Verification
from dms_proto.work import EndReason, Input, Task, input_bytes

from .conftest import NEEDS, Local, spec

LARGE = os.urandom(LISTED_FROM + 17)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A directory with a large file and a program."""
    root = tmp_path / "photos"
    (root / "below").mkdir(parents=True)
    (root / "large.bin").write_bytes(LARGE)
    (root / "below" / "run").write_bytes(b"#!/bin/sh\n")
    (root / "below" / "run").chmod(0o755)
    return root


class Fetches(NamedTuple):
    """What one node has fetched."""

    seen: list[Digest]

    @classmethod
    def of(cls, local: Local, index: int, monkeypatch: pytest.MonkeyPatch) -> Fetches:
        """From now on."""
        network, seen = local.market.nodes[index].services.network, list[Digest]()
        assert isinstance(network, MemoryNetwork)
        fetch = network._fetch

        async def noted(peer: PeerId, digest: Digest, size: int, into: Path) -> None:
            seen.append(digest)
            await fetch(peer, digest, size, into)

        monkeypatch.setattr(network, "_fetch", noted)
        return cls(seen)


async def add(local: Local, path: Path, name: str = "", *, bound: bool = False) -> Dataset:
    return await local.api.data_add(AddDataset((str(path),), name, bound))


def reading(*wishes: DatasetWish, **changes: object) -> JobSpec:
    """A job that reads datasets."""
    return msgspec.structs.replace(spec("exit", "0", **changes), datasets=wishes)  # type: ignore[arg-type]


async def run_there(local: Local, index: int, *wishes: DatasetWish) -> JobView:
    node = peer_of(local.market.nodes[index])
    return await local.run(reading(*wishes, outputs=("**",), node=node))


async def results(local: Local, view: JobView) -> dict[str, Digest]:
    (slot,) = (await local.api.job_results(JobParams(view.summary.job_id))).slots
    return {file.path: file.digest for file in slot.files}


async def test_a_job_finds_its_files_where_it_wants_them(local: Local, tree: Path) -> None:
    await add(local, tree, "photos")
    view = await run_there(local, 1, DatasetWish("photos"), DatasetWish("photos", "again/here"))
    assert view.summary.reason is EndReason.COMPLETED, view.summary.detail
    found = {"below/run": digest_of(b"#!/bin/sh\n"), "large.bin": digest_of(LARGE)}
    assert await results(local, view) == {
        f"{place}/{path}": digest for place in ("photos", "again/here") for path, digest in found.items()
    }


async def test_a_node_fetches_what_it_does_not_have_once(
    local: Local, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = await add(local, tree)
    fetches = Fetches.of(local, 1, monkeypatch)
    for _ in range(3):
        view = await run_there(local, 1, DatasetWish(dataset.digest))
        assert view.summary.reason is EndReason.COMPLETED, view.summary.detail
    assert (
        len(fetches.seen) == len(set(fetches.seen)) == 4
    )  # the manifest, two files, and the list of the large one's chunks


async def test_the_same_files_are_the_same_dataset_and_another_is_not_called_the_same(local: Local, tree: Path) -> None:
    first = await add(local, tree, "photos")
    assert (await add(local, tree)).digest == first.digest
    assert (first.files, first.size, first.bound) == (2, len(LARGE) + 10, False)
    (tree / "one more").write_bytes(b"")
    with pytest.raises(UserError, match="is called 'photos' already"):
        await add(local, tree, "photos")
    second = await add(local, tree)
    assert second.digest != first.digest
    listed = (await local.api.data_list()).datasets
    assert {(one.digest, one.name) for one in listed} == {(first.digest, "photos"), (second.digest, "")}


async def test_it_is_found_by_its_name_and_by_the_beginning_of_its_id(local: Local, tree: Path) -> None:
    dataset = await add(local, tree, "photos")
    for given in ("photos", dataset.digest, dataset.digest[:20], dataset.digest[7:19]):
        view = await local.api.data_show(DatasetParams(given))
        assert view.dataset == dataset
        assert [(file.path, file.executable) for file in view.contents] == [("below/run", True), ("large.bin", False)]
        assert await asyncio.to_thread(Path(view.contents[1].blob).read_bytes) == LARGE
    with pytest.raises(UserError, match="no dataset 'films' here") as caught:
        await local.api.data_show(DatasetParams("films"))
    assert caught.value.hint == "dms data list shows them"


@pytest.mark.parametrize("name", ["a b", "a/b", "a:b", "..", ".a", "-a", "a\n", "é", "a" * 65])
async def test_what_could_not_be_named_in_a_job_is_no_name(local: Local, tree: Path, name: str) -> None:
    with pytest.raises(UserError, match="is no name of a dataset: it has letters, digits") as caught:
        await add(local, tree, name)
    assert (caught.value.code, caught.value.hint[:6]) == ("bad_argument", "--name")
    assert not (await local.api.data_list()).datasets


async def test_what_is_kept_is_not_swept_and_what_is_removed_may_be(local: Local, tree: Path) -> None:
    services = local.market.nodes[0].services
    dataset = await add(local, tree, "photos")
    late = services.clock() + services.config.store.keep_jobs_ms + RECENT_MS + 1
    await sweep(services, local.api._runner, late)
    assert services.blobs.path(digest_of(LARGE)) is not None
    await local.api.data_remove(DatasetParams("photos"))
    await sweep(services, local.api._runner, late)
    assert services.blobs.path(digest_of(LARGE)) is None
    assert services.blobs.path(dataset.digest) is None
    assert not (await local.api.data_list()).datasets


async def test_it_is_kept_over_a_restart(local: Local, tree: Path) -> None:
    dataset = await add(local, tree, "photos", bound=True)
    await local.restart(0)
    assert (await local.api.data_list()).datasets == (dataset,)
    assert local.market.nodes[0].services.datasets.is_bound(digest_of(LARGE))


async def test_a_job_that_uses_it_still_gets_it_when_it_is_removed(local: Local, tree: Path) -> None:
    await add(local, tree, "photos")
    there = peer_of(local.market.nodes[1])
    busy = await local.submit(spec("wait", needs=msgspec.structs.replace(NEEDS, cpu_millicores=4_000), node=there))
    await until(lambda: local.show(busy), lambda view: view.summary.running == 1)
    job = await local.submit(reading(DatasetWish("photos"), node=there))
    await local.api.data_remove(DatasetParams("photos"))
    services = local.market.nodes[0].services
    await sweep(services, local.api._runner, services.clock() + services.config.store.keep_jobs_ms + RECENT_MS + 1)
    await local.api.job_cancel(JobParams(busy))
    view = await until(lambda: local.show(job), lambda view: view.summary.ended_at)
    assert view.summary.reason is EndReason.COMPLETED, view.summary.detail


@pytest.mark.parametrize(
    ("wishes", "changes", "message"),
    [
        ((DatasetWish("films"),), {}, "no dataset"),
        ((DatasetWish("photos", "../x"),), {}, "no place below the job's directory"),
        ((DatasetWish("photos"), DatasetWish("photos")), {}, "and another input are both placed at photos"),
        ((DatasetWish("photos"), DatasetWish("photos", "photos/x")), {}, "are both placed at"),
        (
            (DatasetWish("photos", "in"),),
            {"inputs": (Input("in/x", digest_of(b""), 0),)},
            "are both placed at in",
        ),
        ((DatasetWish("photos"),), {"needs": type(NEEDS)(1000, 256 * MIB, MIB)}, "resources.disk: 1 MiB is less than"),
    ],
)
async def test_a_job_that_could_not_have_it_is_refused(
    local: Local, tree: Path, wishes: tuple[DatasetWish, ...], changes: dict[str, object], message: str
) -> None:
    await add(local, tree, "photos")
    with pytest.raises(UserError, match=message):
        await local.submit(reading(*wishes, **changes))


# --------------------------------------------------------------------------------------------------------------- placement


BY_DATA = Preferences(weights={"data": 100.0}, spread_percent=0)


async def test_a_job_goes_where_its_data_is_already_and_the_decision_says_so(local: Local, tree: Path) -> None:
    await add(local, tree, "photos")
    await local.api.node_pause()
    there = peer_of(local.market.nodes[2])
    first = await run_there(local, 2, DatasetWish("photos"))
    assert first.summary.reason is EndReason.COMPLETED, first.summary.detail
    for _ in range(4):
        view = await local.run(msgspec.structs.replace(reading(DatasetWish("photos")), preferences=BY_DATA))
        assert [slot.attempts[0].provider for slot in view.slots] == [there]
    decided = await local.api.job_decision(DecisionParams(view.summary.job_id))
    best, other = decided.decision.ranking.ranked
    assert best.reasons == ("has 4 MiB of the 4 MiB of data that the work reads",)
    assert other.reasons == ("has 0 B of the 4 MiB of data that the work reads",)
    assert best.score > other.score


async def test_large_plain_inputs_count_as_data_too_also_after_a_restart(local: Local, tree: Path) -> None:
    await local.api.node_pause()
    content = local.market.nodes[0].services.blobs.put_file(tree / "large.bin")
    file = Input("large.bin", content.digest, content.size, chunks=content.chunks)
    there = peer_of(local.market.nodes[1])
    await local.run(spec("exit", "0", inputs=(file,), node=there))
    await local.restart(1)
    await local.market.connect(local.market.nodes[1], local.market.nodes[0])
    await local.market.until_met(local.market.nodes[0], 2)
    for _ in range(3):
        view = await local.run(spec("exit", "0", inputs=(file,), preferences=BY_DATA))
        assert [slot.attempts[0].provider for slot in view.slots] == [there]


async def test_work_without_data_is_ranked_as_before(local: Local) -> None:
    view = await local.run(spec("exit", "0", bids_wanted=2))
    decided = await local.api.job_decision(DecisionParams(view.summary.job_id))
    assert "data" not in [term.name for term in decided.decision.ranking.terms]
    assert not any("data" in reason for entry in decided.decision.ranking.ranked for reason in entry.reasons)


# ------------------------------------------------------------------------------------------------------------------- bound


async def test_what_reads_a_bound_dataset_runs_here(local: Local, tree: Path) -> None:
    await add(local, tree, "photos", bound=True)
    me = peer_of(local.market.nodes[0])
    for _ in range(3):
        view = await local.run(reading(DatasetWish("photos")))
        assert view.summary.reason is EndReason.COMPLETED, view.summary.detail
        assert [slot.attempts[0].provider for slot in view.slots] == [me]


async def test_a_job_that_would_carry_it_away_is_refused_with_that_reason(local: Local, tree: Path) -> None:
    await add(local, tree, "photos", bound=True)
    wish = DatasetWish("photos")
    with pytest.raises(UserError, match="is bound to this node, and the job names another"):
        await local.submit(reading(wish, node=peer_of(local.market.nodes[1])))
    with pytest.raises(UserError, match="verify"):
        await local.submit(reading(wish, verify=Verification(Policy.REPLICATE, 2)))


async def test_it_is_said_where_its_node_takes_no_work(local: Local, tree: Path) -> None:
    await add(local, tree, "photos", bound=True)
    node, job = local.market.nodes[0], reading(DatasetWish("photos"))
    with pytest.raises(UserError, match="input photos is bound to this node, which takes no work") as caught:
        await asyncio.to_thread(with_datasets, job, node.services.datasets, peer_of(node), self_bids=False)
    assert "provider.enabled" in caught.value.hint


async def test_its_files_are_bound_as_plain_inputs_too(local: Local, tree: Path) -> None:
    await add(local, tree, bound=True)
    file = Input("large.bin", digest_of(LARGE), len(LARGE))
    me, other = map(peer_of, local.market.nodes[:2])
    view = await local.run(spec("exit", "0", inputs=(file,)))
    assert [slot.attempts[0].provider for slot in view.slots] == [me]
    with pytest.raises(UserError, match=r"input large.bin is bound to this node"):
        await local.submit(spec("exit", "0", inputs=(file,), node=other))


async def test_nothing_of_it_is_served_from_then_on_not_even_for_a_job_that_runs(
    local: Local, tree: Path, tmp_path: Path
) -> None:
    await add(local, tree, "photos")
    holder, other = local.market.nodes[:2]
    job = await local.submit(
        msgspec.structs.replace(spec("wait", node=peer_of(other)), datasets=(DatasetWish("photos"),))
    )
    await until(lambda: local.show(job), lambda view: view.summary.running == 1)

    async def fetch() -> None:
        await other.services.network.fetch([peer_of(holder)], digest_of(LARGE), len(LARGE), tmp_path / "fetched")

    await fetch()
    await add(local, tree, bound=True)
    with pytest.raises(PeerError, match="refused"):
        await fetch()
    await local.api.job_cancel(JobParams(job))


async def test_another_requester_does_not_get_at_it_by_its_digest(local: Local, tree: Path) -> None:
    """It is at the node that runs the job already: nothing would have to be fetched."""
    dataset = await add(local, tree, bound=True)
    holder = peer_of(local.market.nodes[0])
    other = local.apis[1]
    assert (await other.data_add(AddDataset((str(tree),)))).digest == dataset.digest
    theirs = reading(DatasetWish(dataset.digest), outputs=("**",), node=holder)
    local.apis[0], local.apis[1] = local.apis[1], local.apis[0]
    view = await local.run(theirs)
    assert view.summary.reason is EndReason.INPUT_UNAVAILABLE
    assert "dataset data: it is bound to this node, for jobs of its own" in view.summary.detail


async def test_a_bound_dataset_is_not_set_free_by_the_way(local: Local, tree: Path) -> None:
    await add(local, tree, bound=True)
    with pytest.raises(UserError, match="kept already, bound to this node"):
        await add(local, tree)
    assert (await add(local, tree, bound=True)).bound


def test_datasets_count_as_disk() -> None:
    task = Task("sandbox", inputs=(Input("a", digest_of(b"a"), 5),))
    assert input_bytes(task) == 5
