"""dms alloc exec by whole nodes: a command beside a job on another node, a shell on a terminal, a guest with a grant, the provider's log."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dms.devnet.network import environment
from dms.devnet.topology import NodeSpec
from dms.testing.whole_market import (
    DMS,
    MARK,
    PROVIDER,
    REQUESTER,
    TIMEOUT_S,
    WholeMarket,
    marked_job,
    wait_until,
    whole_market,
)

pytestmark = [pytest.mark.slow, pytest.mark.libp2p]
GUEST = NodeSpec("guest", "guest", {"provider.enabled": False})


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeMarket]:
    with whole_market(tmp_path_factory.mktemp("exec"), REQUESTER, PROVIDER, GUEST) as open_market:
        yield open_market


@contextmanager
def running(market: WholeMarket, tmp_path: Path, who: str) -> Iterator[tuple[str, str]]:
    """A job that runs, and its allocation. It is cancelled at the end."""
    with marked_job(market) as mark:
        document = {
            "command": ["/bin/sh", "-c", "echo up; exec sleep 600"],
            "exec": who,
            "env": {MARK: mark},
            "resources": {"cpu": "0.5", "memory": "64MiB", "disk": "16MiB"},
        }
        path = tmp_path / "job.json"
        path.write_text(json.dumps(document))
        job = market.json("job", "submit", str(path))["job_id"]
        wait_until(lambda: market.dms("job", "logs", job).stdout == "up\n", "it runs")
        yield job, market.json("job", "show", job)["slots"][0]["attempts"][-1]["allocation_id"]
        market.dms("job", "cancel", job)
        market.dms("job", "wait", job)


def piped(market: WholeMarket, *arguments: str, given: bytes = b"", node: str = "requester") -> tuple[int, bytes, str]:
    done = subprocess.run(
        [*DMS, *arguments],
        env=environment(market[node]),
        input=given,
        capture_output=True,
        check=False,
        timeout=TIMEOUT_S,
    )
    return done.returncode, done.stdout, done.stderr.decode()


def test_a_command_beside_a_job_elsewhere(market: WholeMarket, tmp_path: Path) -> None:
    with running(market, tmp_path, "requester") as (job, allocation):
        given = os.urandom(3_000_000)
        assert piped(market, "job", "exec", "-i", job, "--", "cat", given=given) == (0, given, "")
        looks = "pwd; id -u; echo oops >&2; exit 7"
        assert piped(market, "alloc", "exec", allocation, "--", "/bin/sh", "-c", looks) == (
            7,
            b"/job\n10000\n",
            "oops\n",
        )
        assert piped(market, "job", "exec", "-i", job, "--", "head", "-c", "5", given=b"first" * 4_000_000) == (
            0,
            b"first",
            "",
        )
        noisy = piped(market, "job", "exec", job, "--", "/bin/sh", "-c", "yes | head -c 20000000")
        assert (noisy[0], len(noisy[1])) == (0, 20_000_000)
        admitted = market.json("events", "query", "--kind", "CommandAdmitted", node="provider")["events"]
        assert [event["stream"] for event in admitted] == [allocation] * 4
        assert market["requester"].peer_id in json.dumps(admitted[0])
        for node, on in (("guest", ("--on", "provider")), ("provider", ())):
            code, out, said = piped(market, "alloc", "exec", *on, allocation, "--", "id", node=node)
            assert (code, out) == (1, b""), said
            assert "nothing of yours runs here" in said


def test_a_shell_on_a_terminal(market: WholeMarket, tmp_path: Path) -> None:
    with running(market, tmp_path, "requester") as (job, _):
        master, slave = pty.openpty()
        env = {**environment(market["requester"]), "TERM": "xterm", "LINES": "33", "COLUMNS": "99"}
        process = subprocess.Popen(
            [*DMS, "job", "exec", "-it", job, "--", "/bin/sh"], stdin=slave, stdout=slave, stderr=slave, env=env
        )
        os.close(slave)
        try:
            said = b""

            def hears(word: bytes) -> None:
                nonlocal said
                while word not in said:
                    said += os.read(master, 4096)

            hears(b"$ ")
            os.write(master, b"stty size\n")
            hears(b"33 99")
            os.write(master, b"sh -c \"echo as''leep; exec sleep 500\"\n")
            hears(b"asleep")
            os.write(master, b"\x03")
            os.write(master, b"exit 5\n")
            assert process.wait(TIMEOUT_S) == 5
        finally:
            process.kill()
            process.wait()
            os.close(master)


def test_a_guest_with_the_right_and_the_jobs_consent(market: WholeMarket, tmp_path: Path) -> None:
    with running(market, tmp_path, "granted") as (_, allocation):
        asked = ("alloc", "exec", "--on", "provider", allocation, "--", "/bin/echo", "hello")
        assert piped(market, *asked, node="guest")[0] == 1
        guest = market["guest"].peer_id
        given = market.json("grant", "create", "--to", guest, "--can", "exec", "--until", "1h", node="provider")
        kept = market.dms("grant", "keep", given["text"], node="guest")
        assert kept.returncode == 0, kept.stderr
        assert piped(market, *asked, node="guest") == (0, b"hello\n", "")


def test_what_runs_beside_a_job_ends_with_it(market: WholeMarket, tmp_path: Path) -> None:
    with (
        running(market, tmp_path, "requester") as (job, _),
        market.started("job", "exec", job, "--", "/bin/sh", "-c", "echo in; sleep 500") as process,
    ):
        assert process.stdout is not None
        assert process.stdout.readline() == "in\n"
        market.dms("job", "cancel", job)
        assert process.wait(TIMEOUT_S) == 1
        assert process.stderr is not None
        assert "dms: " in process.stderr.read()
        code, _, said = piped(market, "job", "exec", job, "--", "id")
        assert code == 1
        assert "is over" in said


def test_a_job_that_a_new_node_took_over_still_lets_commands_in(market: WholeMarket, tmp_path: Path) -> None:
    """The last test: it kills the provider's node."""
    with running(market, tmp_path, "requester") as (job, _):
        assert piped(market, "job", "exec", job, "--", "/bin/echo", "before") == (0, b"before\n", "")
        market["provider"].kill()
        market["provider"].launch()
        market["provider"].wait_ready()
        wait_until(
            lambda: piped(market, "job", "exec", job, "--", "/bin/echo", "after") == (0, b"after\n", ""), "it is let in"
        )
