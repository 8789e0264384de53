"""Freezing against an engine that refuses, and by a node that dies at the worst moment."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from dms.executors.limiter import Allowance
from dms.executors.oci.engine import Engine, EngineError, open_engine
from dms.executors.oci.freezing import Freezing
from dms.executors.oci.notes import Noted, Notes
from dms.executors.oci.run import Figures
from dms.executors.sandbox.limit_watch import LimitWatch

HOUR = 3_600_000
ALLOWANCE = Allowance(1000, 1 << 20, 1, 1 << 20, 1 << 20, 10 * HOUR)


class Refusing:
    """An engine with one container, which answers each order as it is told to."""

    def __init__(self) -> None:
        self.is_running = self.is_paused = True
        self.answers = [500]
        self.is_asked = asyncio.Event()

    def application(self) -> web.Application:
        application = web.Application()
        application.router.add_get("/_ping", self._ping)
        application.router.add_get("/v1.41/info", self._info)
        application.router.add_get("/v1.41/containers/c/json", self._state)
        application.router.add_post("/v1.41/containers/c/{order}", self._order)
        return application

    async def _ping(self, _: web.Request) -> web.Response:
        return web.Response(text="OK", headers={"Api-Version": "1.41"})

    async def _info(self, _: web.Request) -> web.Response:
        return web.json_response({"ServerVersion": "20"})

    async def _state(self, _: web.Request) -> web.Response:
        status = "paused" if self.is_paused else "running"
        state = {"Running": self.is_running, "Paused": self.is_paused, "Status": status, "ExitCode": 0, "Pid": 1}
        return web.json_response({"Id": "c", "State": state})

    async def _order(self, request: web.Request) -> web.Response:
        self.is_asked.set()
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer == 204 and request.match_info["order"] == "unpause":
            self.is_paused = False
        return web.Response(status=answer, text='{"message": "no"}', content_type="application/json")


@pytest.fixture
def refusing() -> Refusing:
    return Refusing()


@pytest.fixture
async def engine(refusing: Refusing, tmp_path: Path) -> AsyncIterator[Engine]:
    runner = web.AppRunner(refusing.application())
    await runner.setup()
    await web.UnixSite(runner, str(tmp_path / "s")).start()
    opened = await open_engine(str(tmp_path / "s"))
    yield opened
    await opened.close()
    await runner.cleanup()


@pytest.mark.parametrize("status", [404, 409, 500])
async def test_a_refusal_is_none_where_the_container_does_already_what_it_should(
    refusing: Refusing, engine: Engine, status: int
) -> None:
    refusing.answers = [status]
    with pytest.raises(EngineError):
        await engine.unpause("c")
    with pytest.raises(EngineError):
        await engine.signal("c", "SIGTERM")
    refusing.is_running = refusing.is_paused = False
    await engine.unpause("c")
    await engine.signal("c", "SIGTERM")


def freezing(engine: Engine, notes: Notes, tmp_path: Path) -> Freezing:
    return Freezing(engine, notes, "run", LimitWatch(Figures(), 1.0, ALLOWANCE, tmp_path), ALLOWANCE.wall_ms)


async def test_what_is_not_let_go_on_is_asked_for_again(refusing: Refusing, engine: Engine, tmp_path: Path) -> None:
    notes = Notes(tmp_path / "notes")
    still = freezing(engine, notes, tmp_path)
    still.meet("c", int(time.time() * 1000), is_paused=True)
    refusing.answers = [500, 204]
    await still.thaw()
    assert not refusing.is_paused
    assert not still.clock.is_frozen
    assert notes.read("run").frozen_at == 0


async def test_a_node_that_finds_it_going_on_knows_since_when(
    refusing: Refusing, engine: Engine, tmp_path: Path
) -> None:
    """The node died after its engine had let it go on, and before it noted that."""
    now = int(time.time() * 1000)
    started, frozen_at = now - 3 * HOUR, now - 2 * HOUR
    notes = Notes(tmp_path / "notes")
    notes.write("run", Noted(frozen_at, 0, now + HOUR))
    dying = freezing(engine, notes, tmp_path)
    dying.meet("c", started, is_paused=True)
    asked = asyncio.create_task(dying.thaw())
    await refusing.is_asked.wait()
    asked.cancel()
    noted = notes.read("run")
    assert abs(noted.frozen_at - frozen_at) < 1000
    notes.write("run", Noted(noted.frozen_at, noted.frozen_ms, noted.deadline_ms, noted.let_go_at - HOUR))

    later = freezing(engine, notes, tmp_path)
    later.meet("c", started, is_paused=False)
    assert later.clock.seconds() == pytest.approx(2 * 3600, abs=60), "an hour before, and one since"
    standing = freezing(engine, notes, tmp_path)
    standing.meet("c", started, is_paused=True)
    assert standing.clock.seconds() == pytest.approx(3600, abs=60), "it was asked for, and did not happen"
