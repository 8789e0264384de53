"""The accounts of a node in memory: the real book and its machine, with two peers in it; no market, no network."""

# ruff: noqa: D102 - every method is described where it is declared, in dms.rpc.api

from __future__ import annotations

from dms.node.api.accounts import account_view, chosen_disputes, dispute_views, entry_view
from dms.node.api.tabs import kept_view, used_view
from dms.node.settlement import LocalCredit, SignedIou
from dms.rpc.api import accounts as api
from dms.rpc.api.tabs import TabList
from dms.rpc.ids import match_peer
from dms.testing.node_jobs import ALPHA, BETA, NOW
from dms.testing.sample_tabs import tab_at, tab_of
from dms_proto.accounts import machine
from dms_proto.accounts.book import Accounts, Entry, answered, charge, claim
from dms_proto.accounts.machine import (
    AcceptWished,
    DebtLimitWished,
    DisputeSettled,
    EntryWritten,
    ForgiveWished,
    IouGiven,
    IouKept,
    LimitWished,
    PaymentBooked,
    PaymentNoted,
)
from dms_proto.ids import AllocationId, PeerId, RequestId
from dms_proto.machine import Stimulus
from dms_proto.messages import Receipt
from dms_proto.units import CREDIT
from dms_proto.wire import Signer
from dms_proto.work import EndReason, Usage


class MemoryAccounts:
    """Implements `AccountMethods`. We owe ALPHA for two allocations, not all it asked; BETA owes us for one, and does not accept all of it."""

    def __init__(self, seed: bytes, names: dict[str, str]) -> None:
        self._signer = Signer(seed)
        self._names = names
        self._book = Accounts(self._signer.peer_id, 100 * CREDIT, default_debt_limit=100 * CREDIT)
        self._entries: list[Entry] = []
        for booked in (
            *charge(ALPHA, "r-1", "a-01", 15_000, "20000 were claimed", refused=5_000),
            *charge(ALPHA, "r-1", "a-1", 5_000),
            *claim(BETA, "r-2", "a-2", 1_250_000),
            *answered(BETA, "r-2", "a-2", 1_250_000, 1_000_000),
        ):
            self._tell(EntryWritten(booked.entry))
            self._entries.append(booked.entry)

    def _tell(self, stimulus: Stimulus) -> None:
        for event in machine.decide(self._book, stimulus, NOW).events:
            self._book = machine.evolve(self._book, event)
            if isinstance(event, PaymentBooked | IouGiven | IouKept | DisputeSettled):
                self._entries.append(event.entry)

    def _peer(self, given: str) -> PeerId:
        return PeerId(match_peer(given, self._names))

    def _account(self, peer: PeerId) -> api.AccountView:
        return account_view(self._book, peer, self._names.get(peer, ""))

    async def account_show(self) -> api.AccountList:
        return api.AccountList(
            tuple(self._account(peer) for peer in self._book.known),
            self._book.default_limit,
            self._book.default_debt_limit,
        )

    async def account_statement(self, params: api.StatementParams) -> api.Statement:
        peer = self._peer(params.peer) if params.peer else ""
        all_of_it = enumerate(self._entries, start=1)
        found = [entry_view(entry, NOW, seq) for seq, entry in all_of_it if peer in ("", entry.peer)]
        asked = found[::-1] if params.after is None else [view for view in found if view.seq > params.after]
        shown = tuple(asked[: params.limit])
        return api.Statement(shown, len(asked) if params.after is None else len(shown))

    async def account_limit(self, params: api.LimitParams) -> api.AccountView:
        peer = self._peer(params.peer)
        self._tell((DebtLimitWished if params.ours else LimitWished)(peer, params.limit))
        return self._account(peer)

    async def account_deposit(self, params: api.DepositParams) -> api.AccountView:
        peer = self._peer(params.peer)
        self._tell(PaymentNoted(peer, params.received, f"p-{len(self._entries)}", params.detail))
        return self._account(peer)

    async def account_disputes(self, params: api.DisputesParams) -> api.DisputeList:
        peers = (self._peer(params.peer),) if params.peer else self._book.known
        return api.DisputeList(dispute_views(self._book, peers, self._names))

    async def account_tabs(self) -> TabList:
        return TabList((used_view(tab_at(BETA), "beta"), kept_view(tab_of(BETA), 0, "beta")))

    async def account_verify(self) -> api.LedgerReport:
        finding = api.LedgerFinding(7, BETA, "a-2", "claim: no allocation of that id ended here")
        return api.LedgerReport(len(self._entries), (finding,) if self._book.disputes else ())

    async def account_forgive(self, params: api.ForgiveParams) -> api.AccountView:
        peer = self._peer(params.peer)
        chosen = chosen_disputes(self._book.disputed_with(peer, ours=True), params.allocation_id)
        self._tell(ForgiveWished(peer, tuple(AllocationId(dispute.allocation_id) for dispute in chosen)))
        return self._account(peer)

    async def account_accept(self, params: api.AcceptParams) -> api.AccountView:
        peer = self._peer(params.peer)
        found = self._book.disputed_with(peer, ours=False)
        (dispute,) = chosen_disputes(found, params.allocation_id, only=True)
        allocation, request = AllocationId(dispute.allocation_id), RequestId(dispute.request_id)
        receipt = Receipt(request, allocation, EndReason.COMPLETED, Usage(), dispute.asked)
        self._tell(AcceptWished(peer, receipt))
        return self._account(peer)

    async def account_settle(self, params: api.SettleParams) -> api.AccountView:
        peer = self._peer(params.peer)
        local = params.by is api.SettleBy.LOCAL
        way = LocalCredit(f"s-{len(self._entries)}") if local else SignedIou(self._signer)
        self._tell(way.settle(self._book, peer))
        return self._account(peer)
