"""What is removed from a node's disk, and what never is. The clock is that of the files: they are made old, nobody waits."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dms.cli.views.jobs import job as job_blocks
from dms.node.sweeping import Swept, sweep, sweep_blobs
from dms.rpc.api.jobs import JobLogParams, JobParams
from dms.store.blobs import BlobStore
from dms.testing.market import until
from dms_proto.data.chunks import LISTED_FROM
from dms_proto.errors import UserError
from dms_proto.ids import Digest
from dms_proto.units import GIB, HOUR
from dms_proto.work import Input

from .conftest import Local, spec

LONG_AGO = 1_000_000_000


def aged(blobs: BlobStore, digest: Digest, at: int) -> Digest:
    """Makes a blob last used at `at` (Unix ms)."""
    path = blobs.path(digest)
    assert path is not None
    os.utime(path, (at / 1000, at / 1000))
    return digest


def there(blobs: BlobStore) -> set[Digest]:
    return set(blobs.digests())


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs")


def test_the_longest_unused_go_first_until_the_rest_fits(blobs: BlobStore) -> None:
    old, mid, new = (aged(blobs, blobs.put_bytes(bytes([n]) * 100), 1000 * n) for n in (1, 2, 3))
    assert sweep_blobs(blobs, frozenset(), 0, 10_000, largest=250) == Swept(blobs=1, bytes=100)
    assert there(blobs) == {mid, new}
    assert sweep_blobs(blobs, frozenset(), 0, 10_000, largest=200) == Swept()
    assert old not in there(blobs)


def test_using_a_blob_makes_it_the_last_to_go(blobs: BlobStore) -> None:
    first, _ = (aged(blobs, blobs.put_bytes(bytes([n]) * 100), LONG_AGO + n) for n in (1, 2))
    assert blobs.use(first) is not None
    sweep_blobs(blobs, frozenset(), 0, 2**50, largest=100)
    assert there(blobs) == {first}


def test_pinned_and_just_used_blobs_stay_and_what_is_over_is_told(blobs: BlobStore) -> None:
    pinned, recent, loose = (aged(blobs, blobs.put_bytes(bytes([n]) * 100), 1000 * n) for n in (1, 3, 2))
    assert sweep_blobs(blobs, frozenset({pinned}), 0, 3000, largest=0) == Swept(blobs=1, bytes=100, over=200)
    assert there(blobs) == {pinned, recent}
    assert loose not in there(blobs)


def test_what_is_older_than_it_is_kept_goes_though_there_is_room_and_half_downloads_with_it(blobs: BlobStore) -> None:
    old, new = (aged(blobs, blobs.put_bytes(bytes([n]) * 100), 1000 * n) for n in (1, 3))
    half = blobs.partial_path(Digest("sha256:" + "a" * 64))
    half.write_bytes(b"half")
    os.utime(half, (1, 1))
    assert sweep_blobs(blobs, frozenset(), 2000, 10_000, largest=GIB) == Swept(blobs=2, bytes=104)
    assert there(blobs) == {new}
    assert not half.exists()
    assert old not in there(blobs)


def make_old(local: Local) -> None:
    """All blobs and logs of the first node were last used long ago."""
    home = local.market.nodes[0].services.home
    for path in (*home.blobs.glob("*/*"), *(home.log / "jobs").glob("*")):
        os.utime(path, (LONG_AGO / 1000, LONG_AGO / 1000))


async def test_results_and_logs_of_an_ended_job_go_after_their_time_and_job_show_says_so(local: Local) -> None:
    view = await local.run(spec("write", "out.txt", "result", "print", "hello", outputs=("out.txt",)))
    job, services = view.summary.job_id, local.market.nodes[0].services
    keep = services.config.store.keep_jobs_ms
    assert (view.kept_until, view.gone) == (view.summary.ended_at + keep, 0)
    assert (await local.api.job_results(JobParams(job))).complete

    await sweep(services, local.api._runner, services.clock())
    assert (await local.api.job_results(JobParams(job))).complete

    make_old(local)
    swept = await sweep(services, local.api._runner, services.clock())

    assert (swept.logs, swept.blobs >= 1) == (1, True)
    assert (await local.show(job)).gone == 1
    assert "1 result file is gone" in str(list(job_blocks(await local.show(job), {}, services.clock())))
    assert not (await local.api.job_results(JobParams(job))).complete
    with pytest.raises(UserError, match="is not here any more"):
        await local.api.job_logs(JobLogParams(job, stream="stdout"))


async def test_what_an_open_job_needs_stays_however_old_it_is(local: Local, tmp_path: Path) -> None:
    source = tmp_path / "in.bin"
    source.write_bytes(bytes(LISTED_FROM + 1))
    services = local.market.nodes[0].services
    content = services.blobs.put_file(source)
    inputs = (Input("in.bin", content.digest, content.size, chunks=content.chunks),)
    job = await local.submit(spec("print", "x", "wait", inputs=inputs))
    await until(lambda: local.show(job), lambda view: view.summary.running == 1)
    make_old(local)

    swept = await sweep(services, local.api._runner, services.clock() + 10_000 * HOUR)

    assert services.blobs.path(content.digest) is not None
    assert services.blobs.path(content.chunks) is not None
    assert swept.logs == 0
    await local.api.job_cancel(JobParams(job))
