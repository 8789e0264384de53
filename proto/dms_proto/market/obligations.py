"""What all requests of this node together may come to owe, provider by provider, so that no commit goes past the debt limit its owner has set.

::

    Accounts ── what is owed, the debt limit ───┐        tabs of calls count as requests do
    other requests ── what they have at work ───┼──▶ Purse of a provider ──▶ auction: a bid that costs more is passed over
    entries written, not in the live book yet ──┘

An allocation counts with its agreed price from the award on, and with what is owed for it from its end on. A stake grows as soon as a request decides
on it, and shrinks only when what it became is written down: in between both count, so the sum is never too small.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import msgspec

from dms_proto.accounts.book import NO_LIMIT, Account, Accounts, Entry
from dms_proto.ids import PeerId, RequestId
from dms_proto.machine import Stimulus
from dms_proto.market.auction_money import settled_by
from dms_proto.market.auction_state import Auction
from dms_proto.market.auction_stimuli import BidHeard, ResizeAsked
from dms_proto.market.purse import Purse


class Obligations:
    """One per node. Not shared between threads."""

    def __init__(self) -> None:
        self._accounts = Accounts(PeerId(""))
        self._stakes: dict[RequestId, Mapping[PeerId, int]] = {}
        self._total: Counter[PeerId] = Counter()
        self._unposted: dict[str, Entry] = {}

    def note(self, accounts: Accounts) -> None:
        """The live book is this now."""
        self._accounts = accounts
        if self._unposted:
            self._unposted = {name: entry for name, entry in self._unposted.items() if name not in accounts.posted}

    def written(self, entry: Entry) -> None:
        """An entry is in the log, and will be in the live book."""
        if entry.name not in self._accounts.posted:
            self._unposted[entry.name] = entry

    def stake(self, request_id: RequestId, stakes: Mapping[PeerId, int]) -> None:
        """What a request has at work now, in micro-credits by provider; nothing, when it is over."""
        if stakes == self._stakes.get(request_id, {}):
            return
        self._total.subtract(self._stakes.pop(request_id, {}))
        if stakes:
            self._stakes[request_id] = stakes
            self._total.update(stakes)
        self._total = +self._total

    def hold(self, request_id: RequestId, stakes: Mapping[PeerId, int]) -> None:
        """What a request will have at work if what it decided is written: counts at once, beside what it has."""
        held = self._stakes.get(request_id, {})
        if any(amount > held.get(provider, 0) for provider, amount in stakes.items()):
            most = {provider: max(held.get(provider, 0), stakes.get(provider, 0)) for provider in {**held, **stakes}}
            self.stake(request_id, most)

    def informed(self, request_id: RequestId, auction: Auction, stimulus: Stimulus) -> Auction:
        """The state of a request with a purse for each bidder, the one that is being heard included."""
        bidders = {bid.provider for bid in auction.bids.values()}
        if isinstance(stimulus, BidHeard):
            bidders.add(stimulus.provider)
        if isinstance(stimulus, ResizeAsked):
            bidders |= {slot.provider for slot in auction.slots if slot.allocation_id == stimulus.allocation_id}
        limited = [peer for peer in bidders if self._ceiling(peer) < NO_LIMIT]
        if not limited:
            return auction
        settled = settled_by(auction)
        purses = {peer: self._purse(request_id, peer, settled.get(peer, 0)) for peer in limited}
        return msgspec.structs.replace(auction, purses=purses)

    def left(self, peer: PeerId) -> int:
        """What this node may still come to owe a peer, if all that it has at work there comes to what it may."""
        purse = self._purse(RequestId(""), peer, 0)
        return purse.most - purse.elsewhere

    def _ceiling(self, peer: PeerId) -> int:
        return self._accounts.debt_limit(self._accounts.present(peer))

    def _purse(self, request_id: RequestId, peer: PeerId, settled: int) -> Purse:
        """`settled`: what this very request has come to owe the peer, which is in the book, or will be."""
        accounts, present = self._accounts, self._accounts.present(peer)
        names = accounts.names(present)
        unposted = sum(-entry.moves(Account.OPEN) for entry in self._unposted.values() if entry.peer in names)
        owed = unposted - accounts.of(present).owed
        elsewhere = sum(self._total[name] for name in names) - self._stakes.get(request_id, {}).get(peer, 0)
        return Purse(self._ceiling(peer) - owed + settled, elsewhere)
