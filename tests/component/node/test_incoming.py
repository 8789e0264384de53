"""Inputs that were copied for a job nobody ran are taken back; others stay."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from dms.jobs.spec import JobSpec
from dms.rpc.api.jobs import JobParams
from dms.testing.market import until
from dms_proto.capability import Resources
from dms_proto.errors import UserError
from dms_proto.ids import Digest, digest_of
from dms_proto.units import GIB, HOUR, MIB
from dms_proto.work import EndReason, Input

from .conftest import NEEDS, Local, spec

TOO_MUCH = Resources(cpu_millicores=1000, memory_bytes=64 * GIB, disk_bytes=256 * MIB)


def with_input(tmp_path: Path, content: bytes, needs: Resources = NEEDS, **changes: object) -> tuple[JobSpec, Digest]:
    """A job with one input, and its digest."""
    file = tmp_path / content[:8].hex()
    file.write_bytes(content)
    digest = digest_of(content)
    wanted = spec("print", "x", needs=needs, inputs=(Input("data", digest, len(content)),), **changes)
    return msgspec.structs.replace(wanted, sources={digest: str(file)}), digest


async def test_inputs_of_a_job_that_nobody_can_run_are_taken_back(local: Local, tmp_path: Path) -> None:
    wanted, digest = with_input(tmp_path, b"huge", TOO_MUCH)
    blobs = local.market.nodes[0].services.blobs
    assert (await local.run(wanted)).summary.reason is EndReason.IMPOSSIBLE
    await until(lambda: blobs.path(digest) is None, bool)


async def test_inputs_of_a_job_that_ran_stay_so_that_it_can_be_submitted_again(local: Local, tmp_path: Path) -> None:
    wanted, digest = with_input(tmp_path, b"small")
    blobs = local.market.nodes[0].services.blobs
    assert (await local.run(wanted)).summary.reason is EndReason.COMPLETED
    impossible, _ = with_input(tmp_path, b"small", TOO_MUCH)
    await local.run(impossible)
    other, taken_back = with_input(tmp_path, b"other", TOO_MUCH)
    await local.run(other)
    await until(lambda: blobs.path(taken_back) is None, bool)
    assert blobs.path(digest) is not None, "it was there before the job that nobody ran"


async def test_what_another_job_still_needs_stays_until_that_is_over_too(local: Local, tmp_path: Path) -> None:
    first, digest = with_input(tmp_path, b"both", TOO_MUCH, patience_ms=HOUR)
    other, taken_back = with_input(tmp_path, b"other", TOO_MUCH)
    blobs = local.market.nodes[0].services.blobs
    job = await local.submit(first)
    waiting, _ = with_input(tmp_path, b"both", TOO_MUCH, patience_ms=HOUR)
    await local.submit(waiting)
    await local.api.job_cancel(JobParams(job))
    await local.run(other)
    await until(lambda: blobs.path(taken_back) is None, bool)
    assert blobs.path(digest) is not None


async def test_a_file_that_changed_leaves_nothing_behind(local: Local, tmp_path: Path) -> None:
    wanted, digest = with_input(tmp_path, b"before")
    (tmp_path / b"before".hex()).write_bytes(b"after")
    blobs = local.market.nodes[0].services.blobs
    with pytest.raises(UserError, match="has changed"):
        await local.submit(wanted)
    await until(lambda: not any(blobs.digests()), bool)
    assert blobs.path(digest) is None


async def test_who_leaves_while_inputs_are_copied_leaves_nothing_behind(local: Local, tmp_path: Path) -> None:
    wanted, digest = with_input(tmp_path, b"x" * (64 * MIB))
    blobs = local.market.nodes[0].services.blobs
    submitting = asyncio.ensure_future(local.submit(wanted))
    while not any((blobs.root / "incoming").iterdir()):
        assert not submitting.done()
        await asyncio.sleep(0)
    submitting.cancel()
    await asyncio.gather(submitting, return_exceptions=True)
    await until(lambda: blobs.path(digest) is None and not any((blobs.root / "incoming").iterdir()), bool)
