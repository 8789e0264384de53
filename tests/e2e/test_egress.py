"""Ways out of a job, by whole nodes: a provider whose owner allows one destination, and what a person sees of it."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from dms.devnet.network import DevNet
from dms.devnet.topology import NodeSpec
from dms.testing.whole_market import PROVIDER, REQUESTER, WholeMarket, whole_market

pytestmark = [pytest.mark.slow, pytest.mark.libp2p]
SIZE = ("--cpu", "500m", "--memory", "64MiB", "--disk", "16MiB")
PROGRAM = """
import os, sys, urllib.error, urllib.request
for address in sys.argv[1:]:
    try:
        print(urllib.request.urlopen(address, timeout=20).read().decode())
    except urllib.error.HTTPError as error:
        print(error.code)
"""

SERVICE = """
import socket, urllib.request
listener = socket.create_server(("127.0.0.1", 8080))
while True:
    connection, _ = listener.accept()
    with connection:
        asked = b"".join(iter(lambda: connection.recv(65536), b"")).decode()
        if asked:
            try:
                connection.sendall(urllib.request.urlopen(asked, timeout=20).read())
            except OSError as error:
                connection.sendall(str(error).encode())
"""


class Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"elsewhere")

    def log_message(self, *_arguments: object) -> None:
        """Not into the output of the tests."""


@contextmanager
def serving(host: str, port: int = 0) -> Iterator[int]:
    """The page; gives its port."""
    with ThreadingHTTPServer((host, port), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def there() -> Iterator[str]:
    """A destination on this machine, at an address for which programs look for no other way."""
    with serving("127.0.0.2") as port:
        yield f"127.0.0.2:{port}"


@pytest.fixture(scope="module")
def market(there: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeMarket]:
    allowed = {"provider.egress": [there], "provider.egress_networks": ["127.0.0.2/32"]}
    room = {"provider.cpu": "1", "provider.memory": "1GiB", "provider.disk": "1GiB"}
    allowed |= {"pool.cpu": "500m", "pool.memory": "192MiB", "pool.disk": "64MiB"}
    with whole_market(
        tmp_path_factory.mktemp("egress"), REQUESTER, NodeSpec("provider", "provider", {**room, **allowed})
    ) as market:
        yield market


def test_a_job_gets_to_what_both_name_and_the_rest_is_told(market: WholeMarket, there: str) -> None:
    command = ("/usr/bin/python3", "-c", PROGRAM, f"http://{there}/", "http://example.org/")
    ran = market.dms("run", *SIZE, "--egress", there, "--", *command)
    assert (ran.returncode, ran.stdout) == (0, "elsewhere\n403\n"), ran.stderr
    assert "dms: no connection to example.org:80: the job does not ask for it" in ran.stderr
    (barred,) = market.json("events", "query", "--kind", "EgressBarred", node="provider")["events"]
    assert "example.org:80" in json.dumps(barred)
    allocation = market.json("alloc", "show", barred["stream"], node="provider")
    assert allocation["usage"]["egress_bytes"] > len("elsewhere")
    assert "both ways" in market.dms("alloc", "show", barred["stream"]).stdout
    assert "no connection to example.org:80" in market.dms("trace", allocation["request_id"], node="provider").stdout


def test_who_does_not_allow_it_does_not_run_it(market: WholeMarket, there: str) -> None:
    ran = market.dms("run", *SIZE, "--egress", there, "--egress", "example.org:443", "--", "true")
    assert ran.returncode != 0
    assert "example.org:443" in ran.stderr
    asked = market.dms("ask", *SIZE, "--egress", there, "--", "true")
    assert asked.returncode == 0, asked.stderr


def test_a_service_gets_to_what_its_node_allows_and_to_nothing_else(
    market: WholeMarket, there: str, tmp_path: Path
) -> None:
    script = tmp_path / "fetch.py"
    script.write_text(SERVICE)
    install = ("service", "install", "python-script", "fetch", "-p", f"script={script}", "-p", "port=8080", *SIZE)
    refused = market.dms(*install, "--egress", "example.org:443", node="provider")
    assert (refused.returncode, "it wants a way out to example.org:443" in refused.stderr) == (2, True), refused.stderr
    for command in ((*install, "--egress", there), ("service", "start", "python-script", "fetch")):
        done = market.dms(*command, node="provider")
        assert done.returncode == 0, done.stderr

    def fetched(address: str) -> str:
        return market.dms("service", "call", "python-script", "fetch", node="provider", given=address).stdout

    assert fetched(f"http://{there}/") == "elsewhere"
    assert "403" in fetched("http://example.org/")


def test_the_example_fetches_a_page(tmp_path: Path) -> None:
    """As it is; but on the provider's machine its host is one of this machine, and its page that of this test."""
    host = "127.0.0.3"
    (tmp_path / "hosts").write_text(f"{host} example.org\n")
    allowed = {"provider.egress": ["example.org:80"], "provider.egress_networks": [f"{host}/32"]}
    net = DevNet(tmp_path / "market", (REQUESTER, NodeSpec("provider", "provider", {**PROVIDER.settings, **allowed})))
    net["provider"].program = (*knowing(tmp_path / "hosts"), *net["provider"].program)
    with serving(host, 80), net:
        market = WholeMarket(net)
        if lack := market.lacks():
            pytest.skip(lack)
        done = market.dms("job", "submit", "examples/jobs/elsewhere.yaml", "--follow")
    assert (done.returncode, done.stdout) == (0, "elsewhere\n"), done.stderr


def knowing(hosts: Path) -> tuple[str, ...]:
    """Before a command, has it and what it starts look names up in this file. Skips where that cannot be."""
    prefix = ("unshare", "--mount", "sh", "-c", f'mount --bind {hosts} /etc/hosts && exec "$@"', "sh")
    tried = subprocess.run([*prefix, "true"], capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        pytest.skip(f"no mount namespace can be made here: {tried.stderr.strip()}")
    return prefix
