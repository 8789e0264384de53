"""A long log, from a program in a sandbox at one node to the file at the other, byte for byte."""

from __future__ import annotations

import asyncio
import hashlib
import time
from typing import NamedTuple

import msgspec

from bench import market
from dms.devnet.network import DevNet
from dms.jobs.spec import JobSpec
from dms.rpc.api.allocations import LogPart
from dms.rpc.api.jobs import JobLogParams, SubmitParams
from dms.rpc.async_client import AsyncClient
from dms_proto.units import MIB

BYTES = 100 * MIB
WRITER = """
import hashlib, os, sys
digest, block = hashlib.sha256(), os.urandom(1 << 20)
for number in range(int(sys.argv[1]) >> 20):
    piece = number.to_bytes(8, "big") + block[8:]
    digest.update(piece)
    sys.stdout.buffer.write(piece)
sys.stdout.buffer.flush()
sys.stderr.write(digest.hexdigest())
"""


class Measured(NamedTuple):
    """Of one log: until the job is over with all of it, and until a program has read it from there."""

    mirrored_s: float
    read_s: float


def measure() -> Measured:
    """Measures it, and compares every byte."""
    with market.devnet(1) as net:
        return asyncio.run(_measure(net))


async def _measure(net: DevNet) -> Measured:
    async with market.connected(net["requester"]) as client:
        started = time.perf_counter()
        submitted = await client.call("job.submit", SubmitParams(_job()))
        ended = await market.until_ended(client, submitted["job_id"])
        mirrored = time.perf_counter()
        assert ended["reason"] == "completed", ended
        out = await _read(client, submitted["job_id"], "stdout")
        read = time.perf_counter()
        err = await _read(client, submitted["job_id"], "stderr")
        assert len(out) == BYTES
        assert hashlib.sha256(out).hexdigest() == err.decode()
        return Measured(mirrored - started, read - mirrored)


def _job() -> JobSpec:
    spec = market.spec("/usr/bin/python3", "-c", WRITER, str(BYTES))
    limits = msgspec.structs.replace(spec.task.limits, log_bytes=2 * BYTES)
    return msgspec.structs.replace(spec, task=msgspec.structs.replace(spec.task, limits=limits))


async def _read(client: AsyncClient, job: str, stream: str) -> bytes:
    data, params = bytearray(), JobLogParams(job, stream=stream)
    while not (part := await client.call("job.logs", params, LogPart)).complete:
        data += part.data
        params = msgspec.structs.replace(params, offset=part.next_offset)
    return bytes(data + part.data)
