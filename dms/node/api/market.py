"""market.*, bids.*, requests.*: what was asked, offered and declined; and asking without a job."""

from __future__ import annotations

import asyncio
import os
from typing import Final

import msgspec

from dms.node.api.base import Row, call_id
from dms.node.api.jobs import JobGroup
from dms.node.api.views import bid_view, request_view
from dms.node.explain import Inquiry, answers_of, dry_request, explanation, lost_meanwhile, whom_to_ask, with_agents
from dms.node.pricing import could_do, policy_of
from dms.node.projecting.tables import BIDS, REQUESTS
from dms.rpc.api.market import (
    AskParams,
    BidList,
    BidListParams,
    BidState,
    BidView,
    Direction,
    PriceSuggestion,
    PriceSuggestParams,
    RequestList,
    RequestListParams,
)
from dms.store.tables import MAX_ROWS, Condition
from dms_actors.letters import ListenFor, StopListening
from dms_proto.ids import PeerId, request_id
from dms_proto.market.explain import Explanation
from dms_proto.market.price_history import suggest
from dms_proto.messages import AnyMessage, Bid, BidRequest, Clause, Decline
from dms_proto.units import DAY

LEAST_WINDOW_S: Final = 1.0
"""A question is asked of everybody, far ones too; it ends as soon as all have answered."""


class MarketGroup(JobGroup):
    """The methods of `dms.rpc.api.market.MarketMethods`. Asking is submitting without the job, so it shares the checks of `JobGroup`."""

    async def market_ask(self, params: AskParams) -> Explanation:
        """See `MarketMethods`."""
        spec = await self._pinned(params.spec)
        terms = self._terms(spec, request_id(os.urandom(16)))
        state = await self._state()
        await self._check(terms)
        request = msgspec.structs.replace(dry_request(terms), reply_to=self._parts.reply_to)
        asked = whom_to_ask(state.membership, terms.only, self_bids=self._services.config.provider.enabled)
        heard = await self._ask_all(request, asked)
        state = await self._state()  # who came or went while we asked has a verdict as well
        heard |= lost_meanwhile(asked, heard, state.membership)
        facts = {peer: self._facts(state, peer) for peer in heard}
        inquiry = Inquiry(
            request,
            terms.preferences,
            frozenset(asked),
            frozenset(),
            answers_of(heard, facts),
            terms.max_price,
            only=terms.only,
        )
        return with_agents(explanation(inquiry, state.membership, self._now(), is_over=True), terms)

    async def _ask_all(self, request: BidRequest, asked: tuple[PeerId, ...]) -> dict[PeerId, Bid | tuple[Clause, ...]]:
        """Sends a dry run to `asked` and gathers the answers, until all have answered or the window closes."""
        services, heard = self._services, dict[PeerId, Bid | tuple[Clause, ...]]()
        complete = asyncio.Event()

        def note(peer: PeerId, message: AnyMessage) -> None:
            if peer in asked and isinstance(message, Bid | Decline):
                heard[peer] = message if isinstance(message, Bid) else message.clauses
                if len(heard) == len(asked):
                    complete.set()

        def hear(peer: PeerId, message: AnyMessage) -> None:
            services.loop.call_soon_threadsafe(note, peer, message)

        if not asked:
            return heard
        cause = call_id("market.ask")
        services.node.tell(ListenFor(request.request_id, hear))
        try:
            for peer in asked:
                services.post.send(peer, request, cause)
            async with asyncio.timeout(max(services.config.market.window_ms / 1000, LEAST_WINDOW_S)):
                await complete.wait()
        except TimeoutError:
            pass  # who has not answered is silent, and the explanation says so
        finally:
            services.node.tell(StopListening(request.request_id, hear))
        return heard

    async def bids_list(self, params: BidListParams) -> BidList:
        """See `MarketMethods`."""
        where: dict[str, Condition] = {}
        if params.direction is not Direction.BOTH:
            where[params.direction.value] = 1
        if params.request_id:
            where["request_id"] = await self._request_id(params.request_id)
        if params.open_only:
            return await self._open_bids(where, params.limit)
        rows, total = await self._newest(BIDS, where, "at", params.limit)
        return BidList(self._bids(rows), total)

    async def _open_bids(self, where: dict[str, Condition], limit: int) -> BidList:
        """Those that can still be taken: what has lapsed without a word is open in the table for ever."""
        newest_first = await self._runner.query(
            BIDS.name, {**where, "state": "open"}, order=("-valid_until",), limit=MAX_ROWS
        )
        still = [bid for bid in self._bids(newest_first) if bid.state is BidState.OPEN]
        return BidList(tuple(sorted(still, key=lambda bid: -bid.at)[:limit]), len(still))

    def _bids(self, rows: list[Row]) -> tuple[BidView, ...]:
        now = self._now()
        return tuple(bid_view(row, now) for row in rows)

    async def price_suggest(self, params: PriceSuggestParams) -> PriceSuggestion:
        """See `MarketMethods`."""
        since, tariff = self._now() - params.days * DAY, policy_of(self._services.config).tariff
        rows, total = await self._newest(REQUESTS, {"direction": Direction.RECEIVED.value}, "at", MAX_ROWS)
        heard = [
            request for request in map(request_view, rows) if request.at >= since and request.requester != self._me
        ]
        history = suggest([asked for request in heard if (asked := could_do(request, tariff)) is not None])
        return PriceSuggestion(since, tariff, tariff.scaled(history.factor), history, len(heard) == len(rows) < total)

    async def requests_list(self, params: RequestListParams) -> RequestList:
        """See `MarketMethods`."""
        where: dict[str, Condition] = (
            {} if params.direction is Direction.BOTH else {"direction": params.direction.value}
        )
        rows, total = await self._newest(REQUESTS, where, "at", params.limit)
        return RequestList(tuple(request_view(row) for row in rows), total)
