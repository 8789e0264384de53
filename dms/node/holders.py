"""Who else has what a job reads: asked by its provider, answered by its requester; the conversation is in `dms_proto.messages.data`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Final

from dms.node.post import NodePost
from dms.node.questions import Questions
from dms.node.reaching import Reaching
from dms_actors.ports import Network
from dms_proto.data.holders import KnownHolders
from dms_proto.data.marks import marks_of
from dms_proto.ids import AllocationId, PeerId, RequestId
from dms_proto.messages import Holders, HoldersWanted, KnownPeer, Serve
from dms_proto.recent import Recent
from dms_proto.work import Task

ANSWER_S: Final = 2.0
"""Seconds that a provider waits for the answer; a requester of before gives none. Then it fetches from the requester alone."""
REACH_S: Final = 3.0
"""Seconds in which a holder has to be connected."""
AGAIN_S: Final = 2 * (ANSWER_S + REACH_S)
"""Seconds in which a requester answers once for an allocation: each answer is a message to every holder too."""
MOST_ANSWERED: Final = 4_096


class Seeker:
    """At the provider. Lives on the loop."""

    def __init__(self, me: PeerId, network: Network, reaching: Reaching, post: NodePost) -> None:
        self._me = me
        self._network = network
        self._reaching = reaching
        self._post = post
        self._asked: Questions[AllocationId, Holders] = Questions()

    async def others(self, allocation_id: AllocationId, request_id: RequestId, requester: PeerId) -> tuple[PeerId, ...]:
        """Who beside the requester may have what an allocation reads, and is connected."""
        question = HoldersWanted(request_id, allocation_id)
        send = partial(self._post.send_now, message=question)
        told = await self._asked.ask(allocation_id, (requester,), send, ANSWER_S)
        named = told[requester].holders if told else ()
        others = [known for known in named if known.peer not in (self._me, requester)]
        await asyncio.gather(*(self._reaching.reach(each.peer, each.addresses, requester, REACH_S) for each in others))
        return tuple(dict.fromkeys(known.peer for known in others if known.peer in self._network.links()))

    def heard(self, peer: PeerId, message: Holders) -> None:
        """Takes an answer, from whoever was asked."""
        self._asked.heard(message.allocation_id, peer, message)


class Teller:
    """At the requester. Lives on the loop.

    Args:
        me: this node.
        post: to answer by.
        known: who holds what; gets told of nodes that had work of ours.
        find_again: asks who shares what a task reads and is not here, unless that is known of late.
    """

    def __init__(
        self, me: PeerId, post: NodePost, known: KnownHolders, find_again: Callable[[Task], Awaitable[None]]
    ) -> None:
        self._me = me
        self._post = post
        self._known = known
        self._find_again = find_again
        self._answered: Recent[AllocationId, float] = Recent(MOST_ANSWERED)

    def note(self, provider: PeerId, task: Task) -> None:
        """A node had a task of ours."""
        if provider != self._me:
            self._known.note(provider, task)

    async def answer(self, provider: PeerId, asked: HoldersWanted, task: Task, beside: Iterable[PeerId]) -> None:
        """Names who may have what a task reads, and has them serve its provider; `beside`: others that have the same task."""
        now = asyncio.get_running_loop().time()
        if now < (self._answered.get(asked.allocation_id) or 0.0):
            return
        self._answered.keep(asked.allocation_id, now + AGAIN_S)
        await self._find_again(task)
        holders = self._known.of(task, beside, but=(self._me, provider))
        data = marks_of(asked.request_id, task)
        for holder in holders if data else ():
            self._post.send(holder, Serve(asked.request_id, provider, data), "")
        self._post.send_now(provider, Holders(asked.request_id, asked.allocation_id, self._with_addresses(holders)))

    def _with_addresses(self, holders: Sequence[PeerId]) -> tuple[KnownPeer, ...]:
        return tuple(KnownPeer(holder, self._post.addresses_of(holder)[:16]) for holder in holders)
