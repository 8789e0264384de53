"""account.*: what this node and its peers owe each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from dms.node.api.base import Base, call_id
from dms.node.api.tabs import kept_view, used_view
from dms.node.ledger_check import walk
from dms.node.projecting.tables import ENTRIES, number, unpack
from dms.node.settlement import LocalCredit, Settlement, SignedIou
from dms.rpc.api.accounts import (
    AcceptParams,
    AccountList,
    AccountView,
    DepositParams,
    DisputeList,
    DisputesParams,
    DisputeView,
    EntryView,
    ForgiveParams,
    LedgerFinding,
    LedgerReport,
    LimitParams,
    SettleBy,
    SettleParams,
    Statement,
    StatementParams,
)
from dms.rpc.api.tabs import TabList
from dms.rpc.ids import match_id, match_peer
from dms.store.events import EventStore
from dms.store.tables import Above, Condition
from dms_actors.events import from_row
from dms_actors.node import NodeState
from dms_proto.accounts.book import Account, Accounts, Dispute, Entry
from dms_proto.accounts.machine import AcceptWished, DebtLimitWished, ForgiveWished, LimitWished, PaymentNoted
from dms_proto.errors import UserError
from dms_proto.ids import AllocationId, PeerId, RequestId, is_tab
from dms_proto.machine import Stimulus
from dms_proto.market.agreement import receipt_for
from dms_proto.market.auction_events import AllocationFinished
from dms_proto.market.offer_judgement import is_known
from dms_proto.messages import AllocationStatus
from dms_proto.units import MAX_QUANTITY, format_credits
from dms_proto.wire import Signer


class AccountGroup(Base):
    """The methods of `dms.rpc.api.accounts.AccountMethods`."""

    async def account_show(self) -> AccountList:
        """See `AccountMethods`."""
        state = await self._state()
        accounts = state.accounts
        views = [account_view(accounts, peer, _names(state).get(peer, "")) for peer in accounts.known]
        views.sort(key=lambda view: -(abs(view.owed) + view.claimed + view.disputed))
        return AccountList(tuple(views), accounts.default_limit, accounts.default_debt_limit)

    async def account_statement(self, params: StatementParams) -> Statement:
        """See `AccountMethods`."""
        where: dict[str, Condition] = {}
        accounts = (await self._state()).accounts
        if params.peer:
            where["peer"] = accounts.names(_peer_of(params.peer, await self._state()))
        if params.after is not None:
            where["seq"] = Above(params.after)
            rows = await self._runner.query(ENTRIES.name, where, order=("seq",), limit=params.limit)
            total = len(rows)  # of each page the rest would be counted again
        else:
            rows, total = await self._newest(ENTRIES, where, "seq", params.limit)
        entries = (accounts.under_present_name(unpack(row["entry"], Entry)) for row in rows)
        return Statement(
            tuple(
                entry_view(entry, number(row, "at"), number(row, "seq"))
                for entry, row in zip(entries, rows, strict=True)
            ),
            total,
        )

    async def account_tabs(self) -> TabList:
        """See `AccountMethods`."""
        kept, used = await self._services.own_calls.tabs()
        names = _names(await self._state())
        at_work = Counter(kept.under_way.values())
        ours = (used_view(tab, names.get(tab.terms.provider, "")) for tab in used.tabs.values())
        theirs = (kept_view(tab, at_work[tab_id], names.get(tab.terms.caller, "")) for tab_id, tab in kept.tabs.items())
        return TabList((*ours, *theirs))

    async def account_limit(self, params: LimitParams) -> AccountView:
        """See `AccountMethods`."""
        peer = _peer_of(params.peer, await self._state())
        wished = DebtLimitWished if params.ours else LimitWished
        return await self._told(peer, wished(peer, params.limit), call_id("account.limit"))

    async def account_deposit(self, params: DepositParams) -> AccountView:
        """See `AccountMethods`."""
        state, cause = await self._state(), call_id("account.deposit")
        peer = _peer_of(params.peer, state)
        if not params.received:
            raise UserError("bad_argument", "the amount is 0: there is nothing to book")
        if abs(state.accounts.of(peer).owed - params.received) > MAX_QUANTITY:
            raise UserError("bad_argument", f"no account holds more than {format_credits(MAX_QUANTITY)}")
        return await self._told(peer, PaymentNoted(peer, params.received, cause, params.detail), cause)

    async def account_settle(self, params: SettleParams) -> AccountView:
        """See `AccountMethods`."""
        state, cause = await self._state(), call_id("account.settle")
        peer = _peer_of(params.peer, state)
        if params.by is SettleBy.LOCAL and not is_known(state.book, peer):
            raise UserError(
                "bad_argument",
                f"{params.peer} is no machine of this node's owner: squared here alone, it would be owed there as before",
                hint="without `--by local` an IOU is signed; `dms account deposit` books what was paid; `access.own` lists own machines",
            )
        if _is_square(state.accounts, peer, params.by):
            raise UserError("bad_argument", f"nothing is owed to {params.peer}: there is nothing to settle")
        ways: dict[SettleBy, Settlement] = {
            SettleBy.IOU: SignedIou(Signer(self._services.identity.seed())),
            SettleBy.LOCAL: LocalCredit(cause),
        }
        return await self._told(peer, ways[params.by].settle(state.accounts, peer), cause)

    async def account_disputes(self, params: DisputesParams) -> DisputeList:
        """See `AccountMethods`."""
        state = await self._state()
        peers = (_peer_of(params.peer, state),) if params.peer else state.accounts.known
        return DisputeList(dispute_views(state.accounts, peers, _names(state)))

    async def account_verify(self) -> LedgerReport:
        """See `AccountMethods`."""
        await self._services.written()
        return await ledger_report(self._services.store, self._me)

    async def account_forgive(self, params: ForgiveParams) -> AccountView:
        """See `AccountMethods`."""
        state, cause = await self._state(), call_id("account.forgive")
        peer = _peer_of(params.peer, state)
        chosen = chosen_disputes(state.accounts.disputed_with(peer, ours=True), params.allocation_id)
        ids = tuple(AllocationId(dispute.allocation_id) for dispute in chosen)
        return await self._told(peer, ForgiveWished(peer, ids), cause)

    async def account_accept(self, params: AcceptParams) -> AccountView:
        """See `AccountMethods`."""
        state, cause = await self._state(), call_id("account.accept")
        peer, accounts = _peer_of(params.peer, state), state.accounts
        if is_tab(params.allocation_id):
            why = f"{params.allocation_id} is a sum of a tab, and what was not signed of one stays so"
            raise UserError("bad_argument", why, hint="dms account deposit --paid books what you pay all the same")
        asked = {dispute.allocation_id: dispute for dispute in accounts.disputed_with(peer, ours=False)}
        if accounts.charged(peer, params.allocation_id) and params.allocation_id not in asked:
            row, price = await self._allocation(params.allocation_id), accounts.charged(peer, params.allocation_id)
            request = RequestId(str(row["request_id"]))
        else:
            (dispute,) = chosen_disputes(tuple(asked.values()), params.allocation_id, only=True)
            request, price = RequestId(dispute.request_id), dispute.asked
            params = msgspec.structs.replace(params, allocation_id=dispute.allocation_id)
        receipt = receipt_for(await self._ended_there(request, params.allocation_id), price)
        return await self._told(peer, AcceptWished(peer, receipt), cause)

    async def _ended_there(self, request: RequestId, allocation_id: str) -> AllocationStatus:
        """What a provider told of the end of an allocation of ours."""
        for row in await self._services.store.read_stream(request):
            event = from_row(row) if row.kind == AllocationFinished.__name__ else None
            if isinstance(event, AllocationFinished) and event.status.allocation_id == allocation_id:
                return event.status
        raise UserError("not_found", f"how {allocation_id} ended was not told here")

    async def _told(self, peer: PeerId, stimulus: Stimulus, cause: str) -> AccountView:
        state = await self._wish(stimulus, cause)
        return account_view(state.accounts, peer, _names(state).get(peer, ""))


def _is_square(accounts: Accounts, peer: PeerId, by: SettleBy) -> bool:
    """Whether settling would change nothing. An IOU of before over more is taken back by one over nothing."""
    owed, given = accounts.of(peer).owed, accounts.given.get(peer)
    return owed == 0 if by is SettleBy.LOCAL else owed >= 0 and (given is None or not given.amount)


def account_view(accounts: Accounts, peer: PeerId, name: str) -> AccountView:
    """How the book stands with a peer."""
    balances = accounts.of(peer)
    return AccountView(
        peer=peer,
        name=name,
        owed=balances.owed,
        signed=balances.noted,
        claimed=balances.claimed,
        disputed=balances.disputed,
        refused=sum(dispute.amount for dispute in accounts.disputed_with(peer, ours=False)),
        earned=-balances.income,
        spent=balances.expense,
        paid=balances.paid,
        limit=accounts.limit(peer),
        credit=accounts.credit(peer),
        debt_limit=accounts.debt_limit(peer),
        debt_left=accounts.debt_limit(peer) + balances.owed,
        received=accounts.received.get(peer),
        given=accounts.given.get(peer),
    )


async def ledger_report(store: EventStore, me: PeerId) -> LedgerReport:
    """Checks the accounts of node `me` against its store."""
    verdict = await store.verify()
    found = await walk(me, store.read_all())
    chain = f"{verdict.broken.what}: {verdict.broken.detail}" if verdict.broken is not None else ""
    return LedgerReport(found.entries, tuple(LedgerFinding(*finding) for finding in found.findings), chain)


def dispute_views(accounts: Accounts, peers: Iterable[PeerId], names: Mapping[str, str]) -> tuple[DisputeView, ...]:
    """What is in dispute with some peers."""
    return tuple(
        DisputeView(
            peer=peer,
            name=names.get(peer, ""),
            allocation_id=dispute.allocation_id,
            job_id=dispute.request_id,
            asked=dispute.asked,
            accepted=dispute.asked - dispute.amount,
            disputed=dispute.amount,
            ours=dispute.ours,
        )
        for peer in peers
        for dispute in accounts.disputed_with(peer)
    )


def chosen_disputes(found: Sequence[Dispute], given: str, *, only: bool = False) -> tuple[Dispute, ...]:
    """Those a person means: of one allocation, or, with nothing given and not `only` one, all.

    Raises:
        UserError: `not_found`: there is none, with what there is.
    """
    if not found:
        raise UserError("not_found", "nothing of that kind is in dispute with this peer", hint="dms account disputes")
    if not given and not only:
        return tuple(found)
    wanted = match_id(given, [dispute.allocation_id for dispute in found], "dispute over an allocation")
    return tuple(dispute for dispute in found if dispute.allocation_id == wanted)


def entry_view(entry: Entry, at: int, seq: int) -> EntryView:
    """What an entry moves, booked at `at` (Unix ms) with the event `seq`."""
    moves = {account.value: entry.moves(account) for account in Account}
    return EntryView(
        seq=seq,
        at=at,
        peer=entry.peer,
        why=entry.why.value,
        about=entry.about,
        job_id=entry.request_id,
        detail=entry.detail,
        **moves,
    )


def _names(state: NodeState) -> dict[str, str]:
    """Every peer this node knows or has accounts with, by name where it has one."""
    met: dict[str, str] = {peer.peer: peer.hello.name if peer.hello else "" for peer in state.membership.peers.values()}
    return {**dict.fromkeys(state.accounts.known, ""), **met}


def _peer_of(given: str, state: NodeState) -> PeerId:
    return PeerId(match_peer(given, _names(state)))
