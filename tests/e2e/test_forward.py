"""dms forward: a server inside a sandbox on another node, used through a port of this machine, by whole nodes."""

from __future__ import annotations

import hashlib
import json
import signal
import socket
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from dms.testing.whole_market import (
    MARK,
    TIMEOUT_S,
    WholeMarket,
    first_line,
    marked_job,
    wait_until,
    whole_market,
)

pytestmark = [pytest.mark.slow, pytest.mark.libp2p]
MIB = 1024 * 1024
SERVER = '''
import hashlib, socketserver, time

class Exchange(socketserver.BaseRequestHandler):
    """Takes a word. give N: N MiB. take: until the end, then the digest. hold: takes and says nothing more."""
    def handle(self):
        word, _, rest = self.request.makefile("rb", buffering=0).readline().decode().strip().partition(" ")
        if word == "give":
            for number in range(int(rest)):
                self.request.sendall(number.to_bytes(8, "big") * 131072)
        elif word == "take":
            digest = hashlib.sha256()
            while data := self.request.recv(1 << 20):
                digest.update(data)
            self.request.sendall(digest.hexdigest().encode())
        else:
            self.request.sendall(b"held")
            time.sleep(600)

socketserver.ThreadingTCPServer.allow_reuse_address = True
print("ready", flush=True)
socketserver.ThreadingTCPServer(("127.0.0.1", 9000), Exchange).serve_forever()
'''


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeMarket]:
    with whole_market(tmp_path_factory.mktemp("forward")) as open_market:
        yield open_market


@contextmanager
def serving(market: WholeMarket, tmp_path: Path) -> Iterator[str]:
    """A job with the server above, and a declared port on which nothing listens. It is cancelled at the end."""
    with marked_job(market) as mark:
        document = {
            "command": ["/usr/bin/python3", "-c", SERVER],
            "ports": [9000, 9001],
            "env": {MARK: mark},
            "timeouts": {"run": "10m"},
            "wait_for_nodes": "1m",  # for the only provider, while it starts again
        }
        (tmp_path / "job.json").write_text(json.dumps(document))
        job = market.json("job", "submit", str(tmp_path / "job.json"))["job_id"]
        try:
            yield job
        finally:
            market.dms("job", "cancel", job)
            market.dms("job", "wait", job)


@contextmanager
def forwarded(market: WholeMarket, job: str, port: int | str = 9000) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """`dms forward`, ready, and the port it listens on."""
    with market.started("forward", job, f"0:{port}", "--json") as process:
        line = json.loads(first_line(process))
        assert line["type"] == "forwarding", line
        yield process, int(line["address"].rpartition(":")[2])


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), TIMEOUT_S)


def hold(client: socket.socket) -> None:
    """Has the server take and say nothing more."""
    client.sendall(b"hold\n")
    assert client.recv(4, socket.MSG_WAITALL) == b"held"


def exchanged(port: int, word: bytes, data: bytes = b"") -> bytes:
    """Sends a word and data, ends, and reads to the end. A server that is not there yet is asked again."""

    def once() -> bytes:
        with connected(port) as client:
            sending = threading.Thread(target=send, args=(client,))
            sending.start()
            received = bytearray()
            with suppress(ConnectionError):
                while part := client.recv(1 << 20):
                    received += part
            sending.join()
            return bytes(received)

    def send(client: socket.socket) -> None:
        with suppress(OSError):
            client.sendall(word + b"\n" + data)
            client.shutdown(socket.SHUT_WR)

    got: list[bytes] = []
    wait_until(lambda: got.append(once()) or got[-1], "the server answers")
    return got[-1]


def next_line(process: subprocess.Popen[str]) -> Any:
    return json.loads(first_line(process))


def test_much_passes_in_each_direction_unchanged_and_ends_are_told(market: WholeMarket, tmp_path: Path) -> None:
    with serving(market, tmp_path) as job, forwarded(market, job) as (_, port):
        wanted = b"".join(number.to_bytes(8, "big") * 131_072 for number in range(100))
        assert hashlib.sha256(exchanged(port, b"give 100")).digest() == hashlib.sha256(wanted).digest()
        assert exchanged(port, b"take", wanted).decode() == hashlib.sha256(wanted).hexdigest()


def test_who_does_not_read_holds_up_nobody_else(market: WholeMarket, tmp_path: Path) -> None:
    with serving(market, tmp_path) as job, forwarded(market, job) as (_, port):
        exchanged(port, b"give 1")  # it listens
        with connected(port) as slow, connected(port) as stuffed:
            slow.sendall(b"give 100\n")
            hold(stuffed)
            stuffed.settimeout(1)
            with suppress(TimeoutError):
                stuffed.sendall(bytes(100 * MIB))
            assert len(exchanged(port, b"give 5")) == 5 * MIB


def test_a_port_on_which_nothing_listens_closes_the_connection_and_says_so(market: WholeMarket, tmp_path: Path) -> None:
    with serving(market, tmp_path) as job, forwarded(market, job, 9001) as (process, port):
        with connected(port) as client, suppress(ConnectionError):
            assert not client.recv(1)
        failed = next_line(process)
        assert (failed["type"], failed["port"], failed["code"]) == ("failed", 9001, "not_listening")
        for _ in range(20):
            with connected(port) as client, suppress(ConnectionError):
                assert not client.recv(1)
        process.send_signal(signal.SIGINT)
        assert not list(process.stdout or ()), "the same is said once"


def test_it_ends_with_the_job_and_says_why(market: WholeMarket, tmp_path: Path) -> None:
    with serving(market, tmp_path) as job, forwarded(market, job) as (process, port):
        exchanged(port, b"give 1")
        with connected(port) as held:
            hold(held)
            assert market.dms("job", "cancel", job).returncode == 0
            with suppress(ConnectionError):
                assert not held.recv(1)
        lines = [json.loads(line) for line in process.stdout or ()]
        assert lines[-1]["type"] == "ended"
        assert lines[-1]["reason"] == "cancelled"
        assert process.wait(TIMEOUT_S) == 1
        over = market.dms("forward", job, "9000")
        assert over.returncode == 1
        assert "is over" in over.stderr


def test_ctrl_c_ends_it_and_leaves_the_job_alone(market: WholeMarket, tmp_path: Path) -> None:
    with serving(market, tmp_path) as job, forwarded(market, job) as (process, port):
        exchanged(port, b"give 1")
        with connected(port) as held:
            hold(held)
            process.send_signal(signal.SIGINT)
            assert process.wait(TIMEOUT_S) == 130
        assert process.stderr is not None
        assert not process.stderr.read()
        assert market.json("job", "show", job)["summary"]["reason"] is None


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["9999"], "bad_argument", "declares 9000, 9001"),
        (["9000", "--slot", "3"], "not_found", "has one, slot 0"),
        (["http"], "bad_argument", "no port called 'http'"),
        (["HTTP"], "bad_argument", "not [LOCAL:]PORT"),
        (["70000"], "bad_argument", "not [LOCAL:]PORT"),
    ],
)
def test_what_cannot_be_forwarded_says_why(
    market: WholeMarket, tmp_path: Path, arguments: list[str], code: str, says: str
) -> None:
    with serving(market, tmp_path) as job:
        done = market.dms("forward", job, *arguments, "--json")
        error = json.loads(done.stderr)["error"]
        assert error["code"] == code
        assert says in error["message"]


def test_a_port_in_use_here_and_an_unknown_job_are_said(market: WholeMarket, tmp_path: Path) -> None:
    with serving(market, tmp_path) as job, socket.create_server(("127.0.0.1", 0)) as taken:
        done = market.dms("forward", job, f"{taken.getsockname()[1]}:9000", "--json")
        assert json.loads(done.stderr)["error"]["code"] == "port_in_use"
    assert "not_found" in market.dms("forward", "r-none", "9000").stderr


def test_the_example_serves_a_page(market: WholeMarket) -> None:
    """As the guide shows it: submitted, forwarded, asked for a page."""
    job = market.json("job", "submit", "examples/jobs/page.yaml")["job_id"]
    try:
        with forwarded(market, job, 8080) as (_, port):

            def page() -> bytes:
                with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=TIMEOUT_S) as got:
                    body: bytes = got.read()
                    return body
                return b""

            wait_until(lambda: b"Directory listing" in page(), "the page is served")
    finally:
        market.dms("job", "cancel", job)
        market.dms("job", "wait", job)
    market.wait_free()


def test_a_command_with_a_port_is_reached_while_it_runs_and_again_once_its_own_node_is_back(
    market: WholeMarket,
) -> None:
    """`dms run --port` declares the port and leads to it. Its standard output stays the job's own."""
    with marked_job(market) as mark, market.started(
        "run", "--port", "0:9000", "-e", f"{MARK}={mark}", "--", "/usr/bin/python3", "-c", SERVER
    ) as process:  # fmt: skip
        assert process.stderr is not None
        port = int(
            process.stderr.readline().partition(" leads to port 9000 of the job, on provider")[0].rpartition(":")[2]
        )
        assert len(exchanged(port, b"give 2")) == 2 * MIB
        assert first_line(process) == "ready\n"
        market["requester"].kill()
        market["requester"].launch()
        market["requester"].wait_ready()
        assert len(exchanged(port, b"give 3")) == 3 * MIB
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT_S) == 130


def test_a_port_with_a_name_is_found_by_it_on_both_sides(market: WholeMarket) -> None:
    program = SERVER.replace("9000", "int(os.environ['DMS_PORT_ECHO'])")
    assert program != SERVER
    with marked_job(market) as mark, market.started(
        "run", "--port", "echo", "-e", f"{MARK}={mark}", "--", "/usr/bin/python3", "-c", f"import os\n{program}"
    ) as process:  # fmt: skip
        assert process.stderr is not None
        address, _, where = process.stderr.readline().removeprefix("dms: ").partition(" leads to port ")
        assert where.endswith(" of the job, on provider\n")
        assert first_line(process) == "ready\n"
        assert len(exchanged(int(address.rpartition(":")[2]), b"give 1")) == MIB
        with forwarded(market, market.last_job()["job_id"], "echo") as (_, port):
            assert len(exchanged(port, b"give 2")) == 2 * MIB
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT_S) == 130


def test_a_killed_provider_cuts_connections_and_the_job_goes_on_where_it_is_back(
    market: WholeMarket, tmp_path: Path
) -> None:
    """The last test: it kills the provider's node. Its job goes on and is adopted by the next, and so is its port."""
    with serving(market, tmp_path) as job, forwarded(market, job) as (process, port):
        exchanged(port, b"give 1")
        with connected(port) as held:
            hold(held)
            market["provider"].kill()
            with suppress(ConnectionError):
                assert not held.recv(1)
        while (failed := next_line(process))["code"]:
            assert failed["type"] == "failed"  # tried before it listened
        assert "the connection with the peer ended" in failed["message"]
        market["provider"].launch()
        market["provider"].wait_ready()
        assert len(exchanged(port, b"give 2")) == 2 * MIB
