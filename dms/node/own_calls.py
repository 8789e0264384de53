"""Calls of this node's owner to services, here and elsewhere, and what they cost. On the loop.

::

    lead ── a tab for it? ──▶ opening of a tunnel ──▶ let in ── watched to its end ──▶ told to the pool
                                   └─ "tab_wanted" ──▶ agreed on with the provider, if it is not too dear, and opened again

Each tab ends the one before. So for a service of a provider one is agreed on at a time, and all its calls wait for that.
"""

from __future__ import annotations

import asyncio
import os
from typing import Final, NamedTuple

from dms.node.tunnels import Led, Tunnels
from dms.tasks import Tasks, cancel
from dms.trust.wallet import Wallet
from dms_actors.behaviour import Address
from dms_actors.letters import ShowTabs, Told
from dms_actors.loop_calls import LoopCalls
from dms_actors.runtime import ask_from_loop
from dms_proto.errors import DmsError, PeerError, UserError
from dms_proto.grants.rights import CALL
from dms_proto.ids import ID_BYTES, AllocationId, PeerId, TabId, tab_id
from dms_proto.machine import Stimulus
from dms_proto.pool.records import CallId
from dms_proto.tabs.kept import KeptTabs
from dms_proto.tabs.terms import Ceiling
from dms_proto.tabs.used import (
    CallSeenIn,
    CallSeenOver,
    CallTried,
    TabGivenUp,
    TabReady,
    TabRefused,
    TabTried,
    UsedTabs,
)
from dms_proto.tabs.used_machine import open_tab
from dms_proto.tunnels import Opening, ToService, write_target

ASK_S: Final = 5.0
"""Seconds an actor may take to answer."""
AGREE_S: Final = 10.0
"""Seconds a provider may take to say what calls cost."""
NOT_LET_IN: Final = frozenset({"call_refused", "tab_wanted", "not_granted", "not_found", "bad_argument"})
"""A provider that answers so has not let the call in; after anything else it may have."""
NO_TAB: Final = TabId("")


CEILINGS: Final = (
    "dms service call --max-price says what may be paid in all, --max-rate what an hour may cost; --dry-run shows what it costs; "
    "dms account limit --ours says what may be owed"
)


class _Agreeing(NamedTuple):
    most: Ceiling
    work: asyncio.Task[TabId]

    def covers(self, most: Ceiling) -> bool:
        """Whether what is found will do for a call as well, and nothing else could be found for it."""
        return most.price <= self.most.price and most.rate == self.most.rate


class OwnCalls:
    """One per node."""

    def __init__(self, me: PeerId, wallet: Wallet, calls: LoopCalls) -> None:
        self._me = me
        self._wallet = wallet
        self._calls = calls
        self._tasks = Tasks()
        self._waiting: dict[TabId, asyncio.Future[TabReady]] = {}
        self._agreeing: dict[tuple[PeerId, str], _Agreeing] = {}
        self._pool: Address
        self._tunnels: Tunnels

    def begin(self, pool: Address, tunnels: Tunnels) -> None:
        """Calls can be made."""
        self._pool, self._tunnels = pool, tunnels

    async def close(self) -> None:
        """Lets go of the calls under way: how long they took is known from when they began."""
        await cancel(each.work for each in self._agreeing.values())
        await self._tasks.close()

    def tab_ready(self, ready: TabReady) -> None:
        """A tab that was wanted is open, or there is none, and why. From any thread."""
        self._calls.call(self._ready, ready)

    async def tabs(self) -> tuple[KeptTabs, UsedTabs]:
        """Those of others here, and those of this node elsewhere."""
        found: tuple[KeptTabs, UsedTabs] = await ask_from_loop(self._pool, ShowTabs(), ASK_S)
        return found

    async def ask(self, provider: PeerId, service: str, most: Ceiling) -> TabReady:
        """What calls of a service of another node cost: its offer, and why it would not be agreed; or why there is none.

        Raises:
            PeerError: `peer_timeout`.
        """
        return await self._wanted(TabTried(_new_tab(), self._me, provider, service, most, only_asks=True))

    async def lead(self, provider: PeerId, service: str, most: Ceiling) -> Led:
        """Calls a service of a provider; where that is paid, on a tab, and for no more than `most`.

        Raises:
            DmsError: why the call is not let in.
        """
        tab = await self._tab_for(provider, service, most)
        try:
            return await self._open(provider, service, tab, most)
        except DmsError as error:
            if error.code != "tab_wanted":
                raise
        if tab:
            self._tell(TabRefused(tab), tab)
        return await self._open(provider, service, await self._agreed(provider, service, most), most)

    async def _tab_for(self, provider: PeerId, service: str, most: Ceiling) -> TabId:
        """The tab that there is; another, if more may be paid now than was agreed."""
        if provider == self._me:
            return NO_TAB
        tab = open_tab((await self.tabs())[1], provider, service)
        if tab is None:
            return NO_TAB
        return tab.terms.tab_id if most.price <= tab.most else await self._agreed(provider, service, most)

    async def _agreed(self, provider: PeerId, service: str, most: Ceiling) -> TabId:
        """The tab that others of its calls wait for, if it is over as much; else one is found for all who come meanwhile."""
        place = (provider, service)
        while (found := self._agreeing.get(place)) is not None and not found.covers(most):
            await asyncio.wait((found.work,))
        if found is None:
            work = asyncio.get_running_loop().create_task(self._find(provider, service, most), name=f"tab of {service}")
            work.add_done_callback(lambda work: self._found(place, work))
            found = self._agreeing[place] = _Agreeing(most, work)
        return await asyncio.shield(found.work)

    async def _find(self, provider: PeerId, service: str, most: Ceiling) -> TabId:
        tab = open_tab((await self.tabs())[1], provider, service)
        if tab is not None and most.price <= tab.most:
            return tab.terms.tab_id
        return await self._agree(provider, service, most)

    def _found(self, place: tuple[PeerId, str], work: asyncio.Task[TabId]) -> None:
        del self._agreeing[place]
        if not work.cancelled():
            work.exception()  # whoever waits has it; if nobody does, it is no defect

    async def _agree(self, provider: PeerId, service: str, most: Ceiling) -> TabId:
        ready = await self._wanted(TabTried(_new_tab(), self._me, provider, service, most))
        if ready.why:
            raise UserError("call_refused", f"no price is agreed for calls of {service}: {ready.why}", hint=CEILINGS)
        return ready.tab_id

    async def _wanted(self, tried: TabTried) -> TabReady:
        """What becomes of a tab that is wanted."""
        new = tried.tab_id
        self._waiting[new] = waiting = asyncio.get_running_loop().create_future()
        try:
            self._tell(tried, new)
            async with asyncio.timeout(AGREE_S):
                ready: TabReady = await waiting
        except TimeoutError:
            late = f"{tried.provider} did not say within {AGREE_S:.0f} s what calls cost"
            raise PeerError("peer_timeout", late) from None
        finally:
            del self._waiting[new]
            self._tell(TabGivenUp(new), new)
        return ready

    async def _open(self, provider: PeerId, service: str, tab: TabId, most: Ceiling) -> Led:
        grant = b"" if provider == self._me else self._wallet.shown_to(provider, (CALL,))
        opening = Opening(AllocationId(""), write_target(ToService(service)), grant=grant, tab=tab)
        if not tab:
            return await self._tunnels.open(provider, opening)
        call_id = CallId(os.urandom(8).hex())
        led, let_in = None, False
        try:
            tried = Told(CallTried(tab, call_id, most), call_id)
            why_not = await ask_from_loop(self._pool, tried, ASK_S)  # its time runs from here on
            if why_not:
                raise UserError("call_refused", why_not, hint=CEILINGS)
            let_in = True  # as far as is known here
            led = await self._tunnels.open(provider, opening)
        except DmsError as error:
            let_in = let_in and error.code not in NOT_LET_IN
            raise
        finally:
            if led is None:  # even one that was given up before its beginning was known to be written: it may be yet
                self._tell(CallSeenOver(tab, call_id, let_in), call_id)
        self._tell(CallSeenIn(tab, call_id), call_id)
        self._tasks.start(self._watch(tab, call_id, led), f"call {call_id}")
        return led

    async def _watch(self, tab: TabId, call_id: CallId, led: Led) -> None:
        await led.tunnel.wait_over()
        self._tell(CallSeenOver(tab, call_id), call_id)

    def _ready(self, ready: TabReady) -> None:
        waiting = self._waiting.get(ready.tab_id)
        if waiting is not None and not waiting.done():
            waiting.set_result(ready)

    def _tell(self, stimulus: Stimulus, cause_id: str) -> None:
        self._pool.tell(Told(stimulus, cause_id))


def _new_tab() -> TabId:
    return tab_id(os.urandom(ID_BYTES))
