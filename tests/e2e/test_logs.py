"""Logs by whole nodes: byte-exact, merged, from now on, and there after their provider was killed."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dms.devnet.network import environment
from dms.testing.whole_market import DMS, TIMEOUT_S, WholeMarket, first_line, wait_until, whole_market

pytestmark = [pytest.mark.slow, pytest.mark.libp2p]
MIB = 1024 * 1024
LOTS = """
import hashlib, os, sys
size, digest = int(sys.argv[1]), hashlib.sha256()
block = os.urandom(1 << 20)
for number in range(size >> 20):
    piece = number.to_bytes(8, "big") + block[8:]
    digest.update(piece)
    sys.stdout.buffer.write(piece)
sys.stdout.buffer.flush()
sys.stderr.write(digest.hexdigest())
"""


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeMarket]:
    with whole_market(tmp_path_factory.mktemp("logs")) as open_market:
        yield open_market


def submitted(market: WholeMarket, directory: Path, *command: str, **fields: object) -> str:
    document = directory / "job.json"
    document.write_text(json.dumps({"command": list(command), **fields}))
    job: str = market.json("job", "submit", str(document))["job_id"]
    return job


def raw(market: WholeMarket, *arguments: str) -> bytes:
    """What `dms job logs` prints, byte by byte."""
    done = subprocess.run(
        [*DMS, "job", "logs", *arguments],
        env=environment(market["requester"]),
        capture_output=True,
        check=True,
        timeout=TIMEOUT_S,
    )
    return done.stdout


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def later() -> str:
    """A time that is over a second after all that has come: which second something came in is all that is known of it."""
    return (datetime.now(UTC) + timedelta(minutes=1)).isoformat()


def test_eight_mebibytes_of_any_bytes_are_the_same_here_as_there(market: WholeMarket, tmp_path: Path) -> None:
    job = submitted(
        market,
        tmp_path,
        "/usr/bin/python3",
        "-c",
        LOTS,
        str(8 * MIB),
        limits={"log": "16MiB"},
        resources={"memory": "256MiB"},
    )
    followed = raw(market, job, "-f")
    assert len(followed) == 8 * MIB
    digest = sha256(followed)  # compared in place of the bytes: a failure would print all of them
    assert digest == raw(market, job, "--stderr").decode()
    assert sha256(raw(market, job)) == digest
    assert sha256(raw(market, job, "--since", "10m")) == digest
    assert len(raw(market, job, "--since", later())) == 0


def test_several_allocations_are_merged_line_by_line(market: WholeMarket, tmp_path: Path) -> None:
    job = submitted(
        market, tmp_path, "/bin/sh", "-c", "echo $DMS_INDEX begins; sleep 0.3; echo $DMS_INDEX ends", count=2
    )
    lines = market.dms("job", "logs", "-f", job).stdout.splitlines()
    assert sorted(lines) == ["[0] 0 begins", "[0] 0 ends", "[1] 1 begins", "[1] 1 ends"]
    assert market.dms("job", "logs", job, "--slot", "1").stdout == "1 begins\n1 ends\n"


def test_what_a_killed_provider_had_sent_is_still_there(market: WholeMarket, tmp_path: Path) -> None:
    """The last test: it kills the provider's node, and its job with it."""
    job = submitted(market, tmp_path, "/bin/sh", "-c", "echo before; echo last words >&2; sleep 600")
    with market.started("job", "logs", "-f", job) as following:
        assert first_line(following) == "before\n"
        wait_until(lambda: market.dms("job", "logs", "--stderr", job).stdout == "last words\n", "it has spoken")
        market["provider"].kill()
        following.send_signal(signal.SIGINT)
        following.wait()
    assert market.dms("job", "logs", job).stdout == "before\n"
    assert market.dms("job", "logs", "--stderr", job).stdout == "last words\n"
    market.dms("job", "cancel", job)
    market.dms("job", "wait", job)
    assert market.dms("job", "logs", job).stdout == "before\n"
