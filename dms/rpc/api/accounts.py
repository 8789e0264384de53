"""account.*: what this node and its peers owe each other."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Protocol

import msgspec

from dms.rpc.api.tabs import TabList
from dms.rpc.registry import method
from dms_proto.ids import PeerId
from dms_proto.messages import Iou
from dms_proto.rules import Amount, Line
from dms_proto.units import MAX_QUANTITY


class AccountView(msgspec.Struct, frozen=True):
    """How this node stands with one peer, in micro-credits.

    Attributes:
        peer: its PeerID.
        name: chosen by its owner; nothing proves it.
        owed: what both sides agree on: above zero the peer owes us, below zero we owe it.
        signed: the part of `owed` that an IOU says.
        claimed: asked of the peer for our work; its receipt has not come.
        disputed: asked of the peer, and not accepted by its receipt.
        refused: asked of us, and not accepted by our receipts.
        earned: for all our work for it, accepted or not.
        spent: for all its work for us.
        paid: received from it outside of the market, less paid to it.
        limit: the most it may owe; owed, claimed and disputed count.
        credit: what it may still come to owe.
        debt_limit: the most this node may owe it, over all jobs.
        debt_left: what this node may still come to owe it, without what is at work there now.
        received: its newest IOU to us.
        given: our newest IOU to it.
    """

    peer: PeerId
    name: str
    owed: int
    signed: int
    claimed: int
    disputed: int
    refused: int
    earned: int
    spent: int
    paid: int
    limit: int
    credit: int
    debt_limit: int
    debt_left: int
    received: Iou | None = None
    given: Iou | None = None


class AccountList(msgspec.Struct, frozen=True):
    """The whole book.

    Attributes:
        accounts: a peer each, with whom something was ever booked or who has a limit of its own; the largest sums first.
        default_limit: micro-credits that a peer without a limit of its own may owe.
        default_debt_limit: micro-credits that may be owed to a peer without a limit of its own.
    """

    accounts: tuple[AccountView, ...]
    default_limit: int
    default_debt_limit: int


class DisputesParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which disputes.

    Attributes:
        peer: with this peer only: its PeerID, a unique beginning or end of it, or its name; empty: with all.
    """

    peer: str = ""


class DisputeView(msgspec.Struct, frozen=True):
    """What was asked for an allocation and not accepted, in micro-credits.

    Attributes:
        peer: with whom.
        name: chosen by its owner; nothing proves it.
        allocation_id: for what.
        job_id: whose job.
        asked: for all of it.
        accepted: by the receipt.
        disputed: the rest.
        ours: this node asks for it, and may forgive it; otherwise the peer does, and this node may accept it.
    """

    peer: PeerId
    name: str
    allocation_id: str
    job_id: str
    asked: int
    accepted: int
    disputed: int
    ours: bool


class DisputeList(msgspec.Struct, frozen=True):
    """Disputes.

    Attributes:
        disputes: oldest first with each peer.
    """

    disputes: tuple[DisputeView, ...]


class LedgerFinding(msgspec.Struct, frozen=True):
    """An entry that does not follow from what happened and was signed, or one that is missing.

    Attributes:
        seq: of the event, or of the one whose entry is missing.
        peer: with whom; empty where that cannot be read.
        about: the allocation, the payment, the number of the IOU, or the stream of what cannot be read.
        what: one line for a person.
    """

    seq: int
    peer: str
    about: str
    what: str


class LedgerReport(msgspec.Struct, frozen=True):
    """Whether the accounts follow from the event store alone.

    Attributes:
        entries: how many were checked.
        findings: in the order of the events.
        chain: where the store was changed since it was written; empty: nowhere.
    """

    entries: int
    findings: tuple[LedgerFinding, ...]
    chain: str = ""

    @property
    def is_right(self) -> bool:
        """Whether there is nothing to say."""
        return not self.findings and not self.chain


class ForgiveParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to ask for no longer.

    Attributes:
        peer: its PeerID, a unique beginning or end of it, or its name.
        allocation_id: for this allocation, or a unique beginning of it; empty: for all.
    """

    peer: str
    allocation_id: str = ""


class AcceptParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to accept after all.

    Attributes:
        peer: its PeerID, a unique beginning or end of it, or its name.
        allocation_id: the allocation, or a unique beginning of it.
    """

    peer: str
    allocation_id: str


class StatementParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which entries.

    Attributes:
        peer: of this peer only: its PeerID, a unique beginning or end of it, or its name; empty: of all.
        limit: at most so many, newest first.
        after: instead the oldest after the event with this number, oldest first; 0 from the beginning: so all are read, page by page.
    """

    peer: str = ""
    limit: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 100
    after: Annotated[int, msgspec.Meta(ge=0)] | None = None


class EntryView(msgspec.Struct, frozen=True):
    """One entry, with what it moves in micro-credits: debits less credits, so their sum is zero.

    Attributes:
        seq: number of the event it was booked with; they grow.
        at: Unix ms it was booked.
        peer: whose accounts.
        why: claim, receipt, charge, payment, iou_received, iou_given, forgiven or accepted.
        about: the allocation, the payment, or the number of the IOU.
        job_id: the job, where there is one.
        open: of what is owed without a signature.
        noted: of what is owed by IOU.
        claimed: of what is claimed.
        disputed: of what is disputed.
        income: of what was earned; below zero when it grows.
        expense: of what was spent.
        paid: of what changed hands outside of the market.
        detail: one line for a person, such as why a claim was not accepted.
    """

    seq: int
    at: int
    peer: PeerId
    why: str
    about: str
    job_id: str
    open: int
    noted: int
    claimed: int
    disputed: int
    income: int
    expense: int
    paid: int
    detail: str = ""


class Statement(msgspec.Struct, frozen=True):
    """Entries.

    Attributes:
        entries: newest first, or as was asked.
        total: how many match, shown or not; of a page, those in it: one that is not full is the last.
    """

    entries: tuple[EntryView, ...]
    total: int


class LimitParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a peer may owe, or be owed.

    Attributes:
        peer: its PeerID, a unique beginning or end of it, or its name.
        limit: micro-credits; 0: it prepays, or gets what is free only; null: as much as any other.
        ours: the other way: the most this node may owe it.
    """

    peer: str
    limit: Amount | None
    ours: bool = False


class DepositParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A payment outside of the market.

    Attributes:
        peer: its PeerID, a unique beginning or end of it, or its name.
        received: micro-credits that it paid us; below zero: that we paid it.
        detail: one line for the statement.
    """

    peer: str
    received: Annotated[int, msgspec.Meta(ge=-MAX_QUANTITY, le=MAX_QUANTITY)]
    detail: Line = ""


class SettleBy(StrEnum):
    """A way of settling."""

    IOU = "iou"
    """Signs what this node owes, and sends it; what is owed stays owed, and can be proven."""
    LOCAL = "local"
    """Squares the account in this node's own book alone: for machines of one owner."""


class SettleParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An account to settle.

    Attributes:
        peer: its PeerID, a unique beginning or end of it, or its name.
        by: how.
    """

    peer: str
    by: SettleBy = SettleBy.IOU


class AccountMethods(Protocol):
    """What this node and its peers owe each other."""

    @method("account.show")
    async def account_show(self) -> AccountList:
        """The balance with every peer."""
        ...

    @method("account.statement")
    async def account_statement(self, params: StatementParams) -> Statement:
        """The entries behind the balances."""
        ...

    @method("account.tabs")
    async def account_tabs(self) -> TabList:
        """The running accounts of paid calls of services, with every peer."""
        ...

    @method("account.limit", mutates=True)
    async def account_limit(self, params: LimitParams) -> AccountView:
        """Sets the most a peer may owe, by which its next request is judged; or the most this node may owe it, by which the next bid is."""
        ...

    @method("account.deposit", mutates=True)
    async def account_deposit(self, params: DepositParams) -> AccountView:
        """Books a payment that was made outside of the market, in either direction; in advance as well."""
        ...

    @method("account.disputes")
    async def account_disputes(self, params: DisputesParams) -> DisputeList:
        """What was asked and not accepted, either way, and is not settled."""
        ...

    @method("account.verify")
    async def account_verify(self) -> LedgerReport:
        """Checks every entry against the event, the signed receipt or the IOU it rests on; asks no other node."""
        ...

    @method("account.forgive", mutates=True)
    async def account_forgive(self, params: ForgiveParams) -> AccountView:
        """Asks a peer no longer for what it did not accept, and tells it so."""
        ...

    @method("account.accept", mutates=True)
    async def account_accept(self, params: AcceptParams) -> AccountView:
        """Accepts after all what a peer asked, by a receipt that says so. Of what is accepted already the receipt is sent again."""
        ...

    @method("account.settle", mutates=True)
    async def account_settle(self, params: SettleParams) -> AccountView:
        """Settles an account: by a signed IOU over what this node owes, or in its own book."""
        ...
