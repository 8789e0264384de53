"""Spot checks among whole nodes on an in-memory network. Time is a clock of the test's own: a check takes as long as the test's machine says."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import msgspec
import pytest

from dms.cli.views.jobs import job as job_blocks
from dms.cli.views.peers import one_peer
from dms.executors.scripted import ScriptedExecutor
from dms.node.api import LocalApi
from dms.node.app import unix_ms
from dms.rpc.api.jobs import JobListParams, JobView
from dms.rpc.api.peers import PeerParams, PeerView
from dms.testing.market import CAPABILITY, CONFIG, DEADLINE, Market, auction_of, peer_of, until
from dms_actors.letters import Told
from dms_actors.ports import Run
from dms_proto.capability import ExecutorOffer, Isolation, Resources
from dms_proto.market.offer_state import PressureSeen
from dms_proto.market.preferences import ProviderPolicy
from dms_proto.reputation import Kind
from dms_proto.secrets import OpenSecret
from dms_proto.units import CORE, MIB
from dms_proto.verification.spot_check import APART_MS, SHORT_IN_A_ROW
from dms_proto.verification.spot_work import EXECUTOR, PROGRAM, ROUND_US
from dms_proto.work import Task

from .conftest import Local, spec

pytestmark = pytest.mark.slow
CLAIMED = 24
"""Thousandths: so little that working out the answers takes no time."""
JOB = ("print", "done")


class Clock:
    """Unix ms, ahead of the machine's by what has been waited."""

    def __init__(self) -> None:
        self.ahead_ms = 0

    def __call__(self) -> int:
        return unix_ms() + self.ahead_ms


class Machine(ScriptedExecutor):
    """A machine that plays scripts, and does spot checks as fast as a core of score `truth`.

    Attributes:
        checked: how many checks ran.
        heard: waits until the requester has heard that a check runs.
        is_at_work: set once it has.
        may_end: cleared, a check goes on.
    """

    name = EXECUTOR

    def __init__(self, truth: int, clock: Clock) -> None:
        super().__init__(sleep=self._work)
        self._truth = truth
        self._clock = clock
        self.checked = 0
        self.heard: Any = None
        self.is_at_work = asyncio.Event()
        self.may_end = asyncio.Event()
        self.may_end.set()

    async def _work(self, seconds: float) -> None:
        await self.heard()
        self.is_at_work.set()
        await self.may_end.wait()
        self._clock.ahead_ms += round(seconds * 1000)

    async def run(
        self,
        allocation_id: str,
        task: Task,
        directory: Path,
        secrets: Sequence[OpenSecret] = (),
        *,
        gives_way: bool = False,
    ) -> Run:
        """Computes what a check asks for at once, and says it when its time has passed."""
        if PROGRAM in task.command:
            self.checked += 1
            rounds = int(task.command[-1])
            command = [sys.executable, *task.command[1:]]
            printed = await asyncio.to_thread(subprocess.check_output, command, text=True)
            script = ("sleep_ms", str(rounds * ROUND_US // self._truth), "print", printed)
            task = msgspec.structs.replace(task, command=script)
        return await super().run(allocation_id, task, directory, secrets, gives_way=gives_way)


class Checked:
    """A requester and a provider that claims `CLAIMED` and is as fast as `truth`."""

    def __init__(self, root: Path, truth: int, **config: Any) -> None:
        self.clock = Clock()
        self.machine = Machine(truth, self.clock)
        offer = ExecutorOffer(EXECUTOR, "1", Isolation.NAMESPACES, ("cpu", "memory", "wall"))
        config = {"market": msgspec.structs.replace(CONFIG.market, **{"bid_validity_ms": 60_000, **config})}

        def build(index: int) -> dict[str, Any]:
            shared = {"clock": self.clock, "config": msgspec.structs.replace(CONFIG, **config)}
            if index == 0:
                return shared | {"policy": ProviderPolicy(accepts_work=False)}
            capability = msgspec.structs.replace(CAPABILITY, cpu_score=CLAIMED, executors=(offer,))
            return shared | {"capability": capability, "executors": {EXECUTOR: (self.machine, offer)}}

        self.market = Market(root, 2, build=build)
        self.local = Local(self.market)
        self.machine.heard = self._heard

    async def __aenter__(self) -> Self:
        await self.market.__aenter__()
        self.local.apis = [await LocalApi.start(self.market.nodes[0].services)]
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.local.api.close()
        await self.market.__aexit__(*error)

    async def crash(self) -> None:
        """The requester's process dies, and is started again."""
        await self.local.api.close()
        await self.market.crash(0)
        await self.market.rejoin(0)
        self.local.apis = [await LocalApi.start(self.market.nodes[0].services)]

    async def _heard(self) -> None:
        services = self.market.nodes[0].services

        async def started() -> bool:
            states = [await auction_of(services, request) for request in services.orchestrators.ids()]
            checks = [s for s in states if s is not None and s.terms is not None and s.terms.spot_check is not None]
            return any(check.slots[0].started_at for check in checks)

        await until(started, bool)

    async def run_job(self, cores: int = CORE) -> None:
        """An ordinary job of the requester's owner, to its end; `cores` in thousandths."""
        wanted = spec(*JOB, needs=Resources(cores, 64 * MIB))
        executors = (ExecutorOffer(EXECUTOR),)
        wanted = msgspec.structs.replace(
            wanted,
            task=msgspec.structs.replace(wanted.task, executor=EXECUTOR),
            needs=msgspec.structs.replace(wanted.needs, executors=executors),
        )
        await self.local.run(wanted)

    async def checks(self, count: int) -> list[JobView]:
        """Waits until so many checks are over; the jobs that they are, oldest first."""

        async def over() -> list[JobView]:
            jobs = (await self.local.api.job_list(JobListParams())).jobs
            views = [await self.local.show(job.job_id) for job in jobs]
            return [view for view in reversed(views) if view.benchmark is not None and view.summary.ended_at]

        found: list[JobView] = await until(over, lambda views: len(views) >= count)
        return found

    async def peer(self) -> PeerView:
        """The provider, as the requester sees it."""
        return await self.local.api.peers_show(PeerParams(peer_of(self.market.nodes[1])))


def kinds(view: PeerView) -> dict[Kind, int]:
    return {part.kind: part.count for part in view.evidence}


def shown(blocks: Any) -> str:
    return "\n".join(map(str, blocks))


async def test_one_that_claims_twice_its_score_is_caught_and_everybody_can_see_by_what(tmp_path: Path) -> None:
    async with Checked(tmp_path, CLAIMED // 2) as checked:
        for number in range(1, SHORT_IN_A_ROW + 1):
            await checked.run_job()
            (*_, last) = await checked.checks(number)
            assert Kind.OVERSTATED not in kinds(await checked.peer()) or number == SHORT_IN_A_ROW
            checked.clock.ahead_ms += APART_MS
        peer = await checked.peer()

        assert kinds(peer)[Kind.OVERSTATED] == 1
        assert peer.standing < 0.4  # its twelve runs were kept all the same: without the lie it were 0.81
        assert last.summary.name.startswith("spot check of ")
        assert last.benchmark == peer.benchmark
        assert last.benchmark is not None
        assert last.benchmark.claimed == CLAIMED / 1000
        assert 0 < last.benchmark.measured <= 0.55 * last.benchmark.claimed
        assert last.summary.price > 0
        for screen in (shown(one_peer(peer)), shown(job_blocks(last, {}, 0))):
            assert "claims 0.02 reference cores, 0.01 measured: overstated" in screen


async def test_an_honest_provider_is_found_honest_and_is_not_asked_again_at_once(tmp_path: Path) -> None:
    async with Checked(tmp_path, CLAIMED) as checked:
        await checked.run_job()
        await checked.checks(1)
        for _ in range(3):
            await checked.run_job()
        assert checked.machine.checked == 1
        checked.clock.ahead_ms += APART_MS
        await checked.run_job()
        await checked.checks(2)

        peer = await checked.peer()
        assert kinds(peer)[Kind.HONEST] == 2
        assert peer.benchmark is not None
        assert peer.benchmark.good == 2


async def test_what_was_found_is_still_known_after_a_crash(tmp_path: Path) -> None:
    async with Checked(tmp_path, CLAIMED // 2) as checked:
        await checked.run_job()
        await checked.checks(1)
        before = (await checked.peer()).benchmark
        await checked.crash()

        assert (await checked.peer()).benchmark == before
        await checked.run_job()
        assert checked.machine.checked == 1
        checked.clock.ahead_ms += APART_MS
        await checked.run_job()
        await checked.checks(2)
        after = (await checked.peer()).benchmark
        assert after is not None
        assert after.short == 2


async def test_a_crash_in_the_midst_of_a_check_sends_no_second_one_and_proves_nothing(tmp_path: Path) -> None:
    async with Checked(tmp_path, CLAIMED // 2) as checked:
        checked.machine.may_end.clear()
        await checked.run_job()
        await asyncio.wait_for(checked.machine.is_at_work.wait(), DEADLINE)
        await checked.crash()
        await checked.run_job()
        checked.machine.may_end.set()
        (check,) = await checked.checks(1)

        assert checked.machine.checked == 1
        assert check.benchmark is not None
        assert (check.benchmark.measured, check.benchmark.short) == (0, 0)
        assert "lost meanwhile" in check.benchmark.why
        assert not {Kind.HONEST, Kind.OVERSTATED} & kinds(await checked.peer()).keys()


async def test_none_is_sent_where_the_owner_pays_for_none(tmp_path: Path) -> None:
    async with Checked(tmp_path, CLAIMED // 2, spot_check_price=0) as checked:
        for _ in range(3):
            await checked.run_job()
        assert len((await checked.local.api.job_list(JobListParams())).jobs) == 3
        assert (await checked.peer()).benchmark is None


async def test_one_that_costs_more_than_that_finds_nothing(tmp_path: Path) -> None:
    async with Checked(tmp_path, CLAIMED // 2, spot_check_price=1) as checked:
        await checked.run_job()
        (check,) = await checked.checks(1)

        assert (checked.machine.checked, check.summary.price) == (0, 0)
        assert check.benchmark is not None
        assert check.benchmark.why
        assert check.benchmark.short == 0


async def test_a_machine_that_its_owner_uses_is_not_measured_until_it_has_a_whole_core_again(tmp_path: Path) -> None:
    async with Checked(tmp_path, CLAIMED // 2) as checked:
        provider = checked.market.nodes[1].services.node
        used = Resources(CAPABILITY.resources.cpu_millicores - CORE + 100)
        provider.tell(Told(PressureSeen(used), "monitor"))
        for _ in range(3):
            await checked.run_job(CORE // 2)
        provider.tell(Told(PressureSeen(Resources()), "monitor"))
        await checked.run_job()
        (check,) = await checked.checks(1)

        assert checked.machine.checked == 1
        assert check.benchmark is not None
        assert check.benchmark.short == 1
        assert len((await checked.local.api.job_list(JobListParams())).jobs) == 5
