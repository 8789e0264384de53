"""Calls of this node's owner to services, here and elsewhere, and what they cost. On the loop.

::

    lead ── a tab for it? ──▶ opening of a tunnel ──▶ let in ── watched to its end ──▶ told to the pool
                                   └─ "tab_wanted" ──▶ agreed on with the provider, and opened again

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
from dms_proto.tabs.used import CallSeenIn, CallSeenOver, CallTried, TabGivenUp, TabRefused, TabTried, UsedTabs
from dms_proto.tabs.used_machine import open_tab
from dms_proto.tunnels import Opening, ToService, write_target

ASK_S: Final = 5.0
"""Seconds an actor may take to answer."""
AGREE_S: Final = 10.0
"""Seconds a provider may take to say what calls cost."""
NOT_LET_IN: Final = frozenset({"call_refused", "tab_wanted", "not_granted", "not_found", "bad_argument"})
"""A provider that answers so has not let the call in; after anything else it may have."""
NO_TAB: Final = TabId("")


class _Agreeing(NamedTuple):
    most: int
    work: asyncio.Task[TabId]


class OwnCalls:
    """One per node."""

    def __init__(self, me: PeerId, wallet: Wallet, calls: LoopCalls) -> None:
        self._me = me
        self._wallet = wallet
        self._calls = calls
        self._tasks = Tasks()
        self._waiting: dict[TabId, asyncio.Future[str]] = {}
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

    def tab_ready(self, tab: TabId, why: str) -> None:
        """A tab that was wanted is open, or there is none, and why. From any thread."""
        self._calls.call(self._ready, tab, why)

    async def tabs(self) -> tuple[KeptTabs, UsedTabs]:
        """Those of others here, and those of this node elsewhere."""
        found: tuple[KeptTabs, UsedTabs] = await ask_from_loop(self._pool, ShowTabs(), ASK_S)
        return found

    async def lead(self, provider: PeerId, service: str, max_price: int) -> Led:
        """Calls a service of a provider; where that is paid, on a tab over `max_price` micro-credits at least.

        Raises:
            DmsError: why the call is not let in.
        """
        tab = await self._tab_for(provider, service, max_price)
        try:
            return await self._open(provider, service, tab)
        except DmsError as error:
            if error.code != "tab_wanted":
                raise
        if tab:
            self._tell(TabRefused(tab), tab)
        return await self._open(provider, service, await self._agreed(provider, service, max_price))

    async def _tab_for(self, provider: PeerId, service: str, max_price: int) -> TabId:
        """The tab that there is; another, if more may be paid now than was agreed."""
        if provider == self._me:
            return NO_TAB
        tab = open_tab((await self.tabs())[1], provider, service)
        if tab is None:
            return NO_TAB
        return tab.terms.tab_id if max_price <= tab.most else await self._agreed(provider, service, max_price)

    async def _agreed(self, provider: PeerId, service: str, max_price: int) -> TabId:
        """The tab that others of its calls wait for, if it is over as much; else one is found for all who come meanwhile."""
        place = (provider, service)
        while (found := self._agreeing.get(place)) is not None and found.most < max_price:
            await asyncio.wait((found.work,))
        if found is None:
            work = asyncio.get_running_loop().create_task(
                self._find(provider, service, max_price), name=f"tab of {service}"
            )
            work.add_done_callback(lambda work: self._found(place, work))
            found = self._agreeing[place] = _Agreeing(max_price, work)
        return await asyncio.shield(found.work)

    async def _find(self, provider: PeerId, service: str, max_price: int) -> TabId:
        tab = open_tab((await self.tabs())[1], provider, service)
        if tab is not None and max_price <= tab.most:
            return tab.terms.tab_id
        return await self._agree(provider, service, max_price)

    def _found(self, place: tuple[PeerId, str], work: asyncio.Task[TabId]) -> None:
        del self._agreeing[place]
        if not work.cancelled():
            work.exception()  # whoever waits has it; if nobody does, it is no defect

    async def _agree(self, provider: PeerId, service: str, max_price: int) -> TabId:
        new = tab_id(os.urandom(ID_BYTES))
        self._waiting[new] = waiting = asyncio.get_running_loop().create_future()
        try:
            self._tell(TabTried(new, self._me, provider, service, max_price), new)
            async with asyncio.timeout(AGREE_S):
                why = await waiting
        except TimeoutError:
            raise PeerError("peer_timeout", f"{provider} did not say within {AGREE_S:.0f} s what calls cost") from None
        finally:
            del self._waiting[new]
            self._tell(TabGivenUp(new), new)
        if why:
            hint = (
                "dms service call --max-price says what may be paid in all, dms account limit --ours what may be owed"
            )
            raise UserError("call_refused", f"no price is agreed for calls of {service}: {why}", hint=hint)
        return new

    async def _open(self, provider: PeerId, service: str, tab: TabId) -> Led:
        grant = b"" if provider == self._me else self._wallet.shown_to(provider, (CALL,))
        opening = Opening(AllocationId(""), write_target(ToService(service)), grant=grant, tab=tab)
        if not tab:
            return await self._tunnels.open(provider, opening)
        call_id = CallId(os.urandom(8).hex())
        led, let_in = None, False
        try:
            await ask_from_loop(self._pool, Told(CallTried(tab, call_id), call_id), ASK_S)  # its time runs from here on
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

    def _ready(self, tab: TabId, why: str) -> None:
        waiting = self._waiting.get(tab)
        if waiting is not None and not waiting.done():
            waiting.set_result(why)

    def _tell(self, stimulus: Stimulus, cause_id: str) -> None:
        self._pool.tell(Told(stimulus, cause_id))
