"""account.*: what this node and its peers owe each other."""

from __future__ import annotations

from dms.node.api.base import Base, call_id
from dms.node.projecting.tables import ENTRIES, number, unpack
from dms.node.settlement import LocalCredit, Settlement, SignedIou
from dms.rpc.api.accounts import (
    AccountList,
    AccountView,
    DepositParams,
    EntryView,
    LimitParams,
    SettleBy,
    SettleParams,
    Statement,
    StatementParams,
)
from dms.rpc.ids import match_peer
from dms.store.tables import Condition
from dms_actors.node import NodeState
from dms_proto.accounts.book import Account, Accounts, Entry
from dms_proto.accounts.machine import DebtLimitWished, LimitWished, PaymentNoted
from dms_proto.errors import UserError
from dms_proto.ids import PeerId
from dms_proto.machine import Stimulus
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
        rows, total = await self._newest(ENTRIES, where, "seq", params.limit)
        entries = (accounts.under_present_name(unpack(row["entry"], Entry)) for row in rows)
        return Statement(
            tuple(entry_view(entry, number(row, "at")) for entry, row in zip(entries, rows, strict=True)), total
        )

    async def account_limit(self, params: LimitParams) -> AccountView:
        """See `AccountMethods`."""
        peer = _peer_of(params.peer, await self._state())
        wished = DebtLimitWished if params.ours else LimitWished
        return await self._told(peer, wished(peer, params.limit), call_id("account.limit"))

    async def account_deposit(self, params: DepositParams) -> AccountView:
        """See `AccountMethods`."""
        state, cause = await self._state(), call_id("account.deposit")
        peer = _peer_of(params.peer, state)
        if abs(state.accounts.of(peer).owed - params.received) > MAX_QUANTITY:
            raise UserError("bad_argument", f"no account holds more than {format_credits(MAX_QUANTITY)}")
        return await self._told(peer, PaymentNoted(peer, params.received, cause, params.detail), cause)

    async def account_settle(self, params: SettleParams) -> AccountView:
        """See `AccountMethods`."""
        state, cause = await self._state(), call_id("account.settle")
        peer = _peer_of(params.peer, state)
        ways: dict[SettleBy, Settlement] = {
            SettleBy.IOU: SignedIou(Signer(self._services.identity.seed())),
            SettleBy.LOCAL: LocalCredit(cause),
        }
        return await self._told(peer, ways[params.by].settle(state.accounts, peer), cause)

    async def _told(self, peer: PeerId, stimulus: Stimulus, cause: str) -> AccountView:
        state = await self._wish(stimulus, cause)
        return account_view(state.accounts, peer, _names(state).get(peer, ""))


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


def entry_view(entry: Entry, at: int) -> EntryView:
    """What an entry moves, booked at `at` (Unix ms)."""
    moves = {account.value: entry.moves(account) for account in Account}
    return EntryView(
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
