"""Calls of this node's owner: those that come to nothing are over on their tab as well, and those that come at once share one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dms.config.paths import Home
from dms.node.own_calls import OwnCalls
from dms.node.tunnels import Led
from dms.testing.sample_tabs import tab_at
from dms.trust.wallet import Wallet
from dms_actors.letters import ShowTabs, Told
from dms_actors.loop_calls import LoopCalls
from dms_proto.errors import DmsError, MachineError, PeerError, UserError
from dms_proto.ids import PeerId
from dms_proto.machine import Stimulus
from dms_proto.sim.tabs import CALLER, PROVIDER, SERVICE, Pair
from dms_proto.tabs import used, used_machine
from dms_proto.tabs.kept import KeptTabs
from dms_proto.tabs.terms import Ceiling
from dms_proto.tabs.used import CallTried, TabReady, UsedTabs
from dms_proto.tunnels import Opening
from dms_proto.units import CREDIT

TAB = tab_at(PROVIDER)
MOST = Ceiling(CREDIT, 10 * CREDIT)
FULL = MachineError("disk_full", "nothing was written")
BROKEN = PeerError("peer_timeout", "the connection is broken")
AWAY = PeerError("call_refused", "too many calls")


class Ground:
    """An address of a pool that remembers one tab, and tunnels that lead nowhere. What cannot be written at first is written later."""

    name = "pool"

    def __init__(self, answer: object, opened: DmsError) -> None:
        self.tabs = UsedTabs({TAB.terms.tab_id: TAB})
        self.asked = asyncio.Event()
        self._answer = answer
        self._opened = opened
        self._later: list[Stimulus] = []

    def pass_on(self, message: object, answer: Callable[[object], object]) -> None:
        if isinstance(message, ShowTabs):
            answer((KeptTabs(), self.tabs))
            return
        assert isinstance(message, Told)
        assert isinstance(message.stimulus, CallTried)
        self._later.append(message.stimulus)
        self.asked.set()
        if self._answer is not NotImplemented:
            answer(self._answer)

    def tell(self, message: Any) -> bool:
        self._later.append(message.stimulus)
        return True

    async def open(self, _provider: PeerId, _opening: object) -> None:
        raise self._opened

    def write(self) -> used.UsedTab:
        """What it remembers in the end."""
        for stimulus in self._later:
            for event in used_machine.decide(self.tabs, stimulus, 1_000).events:
                self.tabs = used.evolve(self.tabs, event)
        return self.tabs.tabs[TAB.terms.tab_id]


def calls_on(ground: Ground, home: Path) -> OwnCalls:
    calls = OwnCalls(CALLER, Wallet(Home(home), CALLER), LoopCalls(asyncio.get_running_loop()))
    calls.begin(ground, ground)  # type: ignore[arg-type] # as much of them as is used
    return calls


@pytest.mark.parametrize(
    ("answer", "opened", "let_in"),
    [(FULL, AWAY, 0), (None, AWAY, 0), (None, BROKEN, 1)],
    ids=["full", "away", "broken"],
)
async def test_one_that_fails_is_over(tmp_path: Path, answer: object, opened: DmsError, let_in: int) -> None:
    ground = Ground(answer, opened)
    with pytest.raises(DmsError):
        await calls_on(ground, tmp_path).lead(PROVIDER, TAB.terms.service, MOST)
    tab = ground.write()
    assert (dict(tab.under_way), tab.seen - TAB.seen) == ({}, let_in)


async def test_one_that_is_given_up_before_it_was_written_down_is_over(tmp_path: Path) -> None:
    ground = Ground(NotImplemented, AWAY)
    calling = asyncio.create_task(calls_on(ground, tmp_path).lead(PROVIDER, TAB.terms.service, MOST))
    await ground.asked.wait()
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    tab = ground.write()
    assert (dict(tab.under_way), tab.seen) == ({}, TAB.seen)


class Paid:
    """A pool and a provider between which nothing is lost, and tunnels to whatever is called on an open tab."""

    name = "pool"

    def __init__(self) -> None:
        self.pair = Pair()
        self.calls: OwnCalls

    def pass_on(self, message: object, answer: Callable[[object], object]) -> None:
        if isinstance(message, ShowTabs):
            answer((self.pair.provider.state, self.pair.caller.state))
        else:
            self.tell(message)
            answer(None)

    def tell(self, message: Any) -> bool:
        self.pair.tell(self.pair.caller, message.stimulus)
        said, self.pair.caller.said = self.pair.caller.said, []
        for each in said:
            if isinstance(each, TabReady):
                self.calls.tab_ready(each)
        return True

    async def open(self, _provider: PeerId, opening: Opening) -> Led:
        tab = self.pair.provider.state.tabs.get(opening.tab)
        if tab is None or tab.why_over:
            raise UserError("tab_wanted", "there is no open tab")
        return Led(opening.tab, Ended())  # type: ignore[arg-type] # as much of it as is used


class Ended:
    async def wait_over(self) -> None:
        return


async def test_those_that_come_at_once_wait_for_one_tab(tmp_path: Path) -> None:
    paid = Paid()
    paid.calls = calls_on(paid, tmp_path)  # type: ignore[arg-type]
    led = await asyncio.gather(*(paid.calls.lead(PROVIDER, SERVICE, MOST) for _ in range(5)))
    assert {each.name for each in led} == set(paid.pair.caller.state.tabs)
    assert len(paid.pair.caller.state.tabs) == 1
    await paid.calls.close()
