"""A job uses its secrets, and nobody finds them: not in either home, in no answer of either node, in no process but the job's own."""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
import uuid
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from dms.devnet.network import environment
from dms.testing.whole_market import DMS, MARK, WholeMarket, processes_marked, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.libp2p]

JOB = """\
command: |
  sha256sum < /run/secrets/KEY
  printf %s "$TOKEN" | sha256sum
  mkfifo go; read line < go
  sha256sum < /run/secrets/KEY
secrets:
  KEY: {file: client.key}
  TOKEN: {env: DMS_SECRET_TOKEN, as: variable}
wait_for_nodes: 1m  # for the only provider, while it starts again
"""


class Values(NamedTuple):
    """The two secrets of a job."""

    key: str
    token: str

    def are_in(self, data: bytes) -> bool:
        """Whether one of them stands there: as it is, in hexadecimal, or in base64, which is how JSON spells bytes."""
        return any(form in data for value in self for form in _forms(value.encode()))


def _forms(value: bytes) -> tuple[bytes, ...]:
    # What base64 makes of the middle depends on where the value begins: three ways.
    spelled = (base64.b64encode(bytes(start) + value)[4:-4] for start in range(3))
    return value, value.hex().encode(), *spelled


@pytest.fixture
def values() -> Values:
    return Values(f"key-{uuid.uuid4().hex}", f"token-{uuid.uuid4().hex}")


@pytest.fixture
def job(market: WholeMarket, mark: str, values: Values, tmp_path: Path) -> str:
    """The job, which has used its secrets once and waits."""
    (tmp_path / "client.key").write_text(values.key)
    (tmp_path / "job.yaml").write_text(f"{JOB}env: {{{MARK}: '{mark}'}}\n")
    submitted = subprocess.run(
        [*DMS, "job", "submit", str(tmp_path / "job.yaml")],
        env={**environment(market["requester"]), "DMS_SECRET_TOKEN": values.token},
        capture_output=True,
        text=True,
        check=False,
    )
    assert submitted.returncode == 0, submitted.stderr
    job = submitted.stdout.strip()
    wait_until(lambda: len(digests(market, job)) == 2, "the job has used its secrets")
    return job


def digests(market: WholeMarket, job: str) -> list[str]:
    return [line.split()[0] for line in market.dms("job", "logs", job).stdout.splitlines()]


def expected(values: Values) -> list[str]:
    key, token = (hashlib.sha256(value.encode()).hexdigest() for value in values)
    return [key, token, key]


def finish(market: WholeMarket, job: str) -> None:
    """Lets the job go on, wherever and as often as it was begun, until it is over."""

    def is_over() -> bool:
        for pipe in market["provider"].home.jobs.glob("a-*/go"):
            with suppress(OSError):  # nobody reads it yet, or it has just ended
                os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
        return bool(market.json("job", "show", job)["summary"]["ended_at"])

    wait_until(is_over, "the job is over")


def places_of(market: WholeMarket, values: Values, job: str) -> list[str]:
    """Where a value can be found: files of the homes, answers of the nodes, processes of the machine."""
    found = []
    for node in ("requester", "provider"):
        for path in market[node].home.root.rglob("*"):
            with suppress(OSError):  # removed meanwhile, or no file that can be read
                if path.is_file() and values.are_in(path.read_bytes()):
                    found.append(str(path))
        for command in (("job", "list"), ("alloc", "list"), ("events",), ("bids",)):
            found += [f"{node}: dms {' '.join(command)}"] * values.are_in(said(market, node, *command))
    for command in (("job", "show", job), ("job", "explain", job), ("trace", job), ("job", "logs", job)):
        found += [f"dms {' '.join(command)}"] * values.are_in(said(market, "requester", *command))
    for pid in (path.name for path in Path("/proc").glob("[0-9]*")):
        for name in ("cmdline", "environ"):
            with suppress(OSError):  # it has just ended
                found += [f"{name} of {pid}"] * values.are_in(Path(f"/proc/{pid}/{name}").read_bytes())
    return found


def said(market: WholeMarket, node: str, *command: str) -> bytes:
    done = market.dms(*command, "--json", node=node)
    return (done.stdout + done.stderr).encode()


def test_only_the_job_has_them(market: WholeMarket, mark: str, values: Values, job: str) -> None:
    digests_of_both = Values(*expected(values)[:2])
    assert "dms job logs" in " ".join(places_of(market, digests_of_both, job)), "what is there would be found"
    of_the_job = processes_marked(mark)
    assert set(places_of(market, values, job)) == {f"environ of {pid}" for pid in of_the_job}
    shown = b"".join(Path(f"/proc/{pid}/environ").read_bytes() for pid in of_the_job)
    assert values.token.encode() in shown
    assert values.key.encode() not in shown
    finish(market, job)
    assert digests(market, job) == expected(values)
    assert places_of(market, values, job) == []


@pytest.mark.parametrize("node", ["provider", "requester"])
def test_they_survive_a_kill(market: WholeMarket, values: Values, job: str, node: str) -> None:
    """Whether the run is adopted or begins again is a matter of the machine's speed; it has its secrets either way."""
    market[node].kill()
    market[node].launch()
    market[node].wait_ready()
    finish(market, job)
    assert digests(market, job) == expected(values)
    assert places_of(market, values, job) == []
