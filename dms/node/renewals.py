"""Grants made anew, as tokens: asked for by who holds them, given by who issued them. Implements `dms_actors.world.Renewals`.

::

    wallet ── a grant in use is near its end ──▶ node ── GrantWanted ──▶ its issuer ─ trust machine: may it? ──▶ give
    wallet ◀── kept in its place ── keep ◀── GrantGiven ─────────────────────────────────────────────────────────┘

A grant is in use if it was shown, or would be shown to a node that has work of this one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from dms.node.post import NodePost
from dms.trust.grant import issue, read_grant
from dms.trust.wallet import Wallet
from dms_actors.behaviour import Address
from dms_actors.letters import WantGrant
from dms_actors.loop_calls import LoopCalls
from dms_proto.errors import UserError
from dms_proto.grants.rights import TIME
from dms_proto.grants.trust import Renew, issuer_of
from dms_proto.ids import GrantId, PeerId
from dms_proto.messages import GrantGiven

log = logging.getLogger(__name__)

CHECK_S: Final = 60.0
"""Seconds between two looks at what is near its end."""


class Renewals:
    """One per node.

    Args:
        seed: of this node's key.
        wallet: what it holds.
        post: by which grants are given.
        providers: the nodes that have work of this one now.
        clock: Unix ms.
        calls: to the loop.
    """

    def __init__(
        self,
        *,
        seed: bytes,
        wallet: Wallet,
        post: NodePost,
        providers: Callable[[], Iterable[PeerId]],
        clock: Callable[[], int],
        calls: LoopCalls,
    ) -> None:
        self._seed = seed
        self._wallet = wallet
        self._post = post
        self._providers = providers
        self._clock = clock
        self._calls = calls
        self._asked: dict[GrantId, int] = {}

    # ------------------------------------------------------------------------------------------------ from the actors' thread

    def give(self, wanted: Renew, cause_id: str) -> None:
        """See `world.Renewals.give`."""
        proven = read_grant(wanted.grant)
        assert proven is not None, "it was read when it was asked about"
        rights = msgspec.structs.replace(proven.rights, at_most={**proven.rights.at_most, TIME: wanted.until})
        try:
            grant = issue(self._seed, rights, proven.renewal, proven.origin)
        except UserError as error:
            log.warning("no renewal of %s can be made: %s", proven.origin, error)
            return
        self._post.send(wanted.peer, GrantGiven(grant), cause_id)

    def keep(self, sender: PeerId, grant: bytes) -> None:
        """See `world.Renewals.keep`."""
        self._calls.call(self._keep, sender, grant)

    # ------------------------------------------------------------------------------------------------------------- on the loop

    async def ask_on_time(self, node: Address, every_s: float = CHECK_S) -> None:
        """Asks, for as long as the node lives."""
        while True:
            self.ask(node)
            await asyncio.sleep(every_s)

    def ask(self, node: Address) -> None:
        """Has the node ask for every grant that is in use and near its end, unless an answer may still come."""
        for provider in self._providers():
            self._wallet.shown_to(provider)
        try:
            self._wallet.save_used()
        except OSError as error:
            log.warning("which grants are in use is not written down: %s", error)
        now = self._clock()
        due = self._wallet.due(now)
        self._asked = {held.grant_id: self._asked.get(held.grant_id, 0) for held in due}
        for held in due:
            renewal = held.proven.renewal
            if renewal is not None and now >= self._asked[held.grant_id] + renewal.pause_ms:
                self._asked[held.grant_id] = now
                node.tell(WantGrant(held.proven.issuer, held.grant))

    def _keep(self, sender: PeerId, grant: bytes) -> None:
        if not self._awaits(sender, grant):
            return
        try:
            kept = self._wallet.renew(grant, sender)
        except (UserError, OSError) as error:
            log.warning("what was given as a renewal is not kept: %s", error)
            return
        if kept is not None:
            self._asked.pop(kept.grant_id, None)
            log.info("the grant %s was renewed", kept.proven.origin)

    def _awaits(self, sender: PeerId, grant: bytes) -> bool:
        """Whether `sender` was asked for a renewal, and this names it as its issuer. Anybody may send one: looked at before anything is verified."""
        asked = (self._wallet.held.get(grant_id) for grant_id, at in self._asked.items() if at)
        return issuer_of(grant) == sender and any(held is not None and held.proven.issuer == sender for held in asked)
