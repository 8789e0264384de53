"""The warden against an engine that fails in part, or for a while."""

from __future__ import annotations

import json
import socketserver
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from dms.executors.oci import warden_main
from dms.executors.oci.notes import Noted, Notes

DOWN = 20


def labels(container: str) -> dict[str, str]:
    return {"dms.allocation": container, "dms.deadline": "0"}


class FailingEngine(socketserver.ThreadingUnixStreamServer):
    """Knows overdue containers; fails its first listings, and each kill of those it cannot end until others have ended."""

    daemon_threads = True

    def __init__(self, path: str, running: list[str], *, stuck: str = "", down: int = 0) -> None:
        super().__init__(path, Answering)
        self.running = running
        self.paused: list[str] = []
        self.stuck = stuck
        self.down = down
        self.asked = 0

    def listing(self) -> tuple[int, bytes]:
        self.asked += 1
        if self.asked <= self.down:
            return 503, b"starting"
        return 200, json.dumps([{"Id": each, "Labels": labels(each)} for each in self.running]).encode()

    def unpause(self, container: str) -> tuple[int, bytes]:
        if container not in self.paused:
            return 500, b"not paused"
        self.paused.remove(container)
        return 204, b""

    def kill(self, container: str) -> tuple[int, bytes]:
        assert container not in self.paused, "it would not hear it"
        if container == self.stuck and len(self.running) > 1:
            return 500, b"stuck"
        self.running.remove(container)
        return 204, b""


class Answering(BaseHTTPRequestHandler):
    server: FailingEngine

    def do_GET(self) -> None:
        self._answer(*self.server.listing())

    def do_POST(self) -> None:
        _, _, container, order = self.path.split("?")[0].split("/")
        self._answer(*(self.server.kill(container) if order == "kill" else self.server.unpause(container)))

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "the warden"

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warden_main, "PERIOD_S", 0.01)
    monkeypatch.setattr(warden_main, "GONE_S", 0.01)


@pytest.fixture
def engine(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[FailingEngine]:
    with FailingEngine(str(tmp_path / "s"), ["a", "b", "c"], **request.param) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("engine", [{"stuck": "a"}], indirect=True)
def test_one_that_cannot_be_ended_keeps_none_of_the_others_alive(engine: FailingEngine) -> None:
    warden_main.watch(str(engine.server_address), "home", "")
    assert engine.running == []


@pytest.mark.parametrize("engine", [{"down": DOWN}], indirect=True)
def test_it_waits_for_an_engine_that_comes_back_late(engine: FailingEngine, capsys: pytest.CaptureFixture[str]) -> None:
    warden_main.complain.cache_clear()
    warden_main.watch(str(engine.server_address), "home", "")
    assert engine.running == []
    assert engine.asked > DOWN
    assert capsys.readouterr().err.count("does not answer") == 1, "it says the same once"


def test_it_goes_when_the_place_of_the_engine_is_gone(tmp_path: Path) -> None:
    warden_main.watch(str(tmp_path / "gone" / "s"), "home", "")


@pytest.mark.parametrize("engine", [{}], indirect=True)
def test_what_stands_still_has_until_what_is_noted_and_then_ends_as_well(engine: FailingEngine, tmp_path: Path) -> None:
    engine.paused += ["a", "b"]
    notes = Notes(tmp_path / "notes")
    later = int(time.time() * 1000) + 60_000
    notes.write("a", Noted(frozen_at=1, deadline_ms=1))
    notes.write("b", Noted(frozen_at=1, deadline_ms=later))

    found = warden_main.deadlines(str(engine.server_address), "home", notes.directory)
    warden_main.end_overdue(str(engine.server_address), found)

    assert engine.running == ["b"]
    assert engine.paused == ["b"]
    assert found["b"] >= later / 1000
    engine.paused.clear()
