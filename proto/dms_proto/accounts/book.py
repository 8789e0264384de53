"""The double-entry book: who owes whom, in integer micro-credits.

Every entry is made of transfers, and a transfer takes from one account exactly what it gives to another, so debits and credits are equal
whatever is posted::

    our work for a peer ends      claimed  ◀── income        it is asked for this much
    its receipt comes             open     ◀── claimed       it accepts this much …
                                  disputed ◀── claimed       … and not the rest
    a peer's work for us ends     expense  ◀── open          we owe it this much
    the peer pays, outside        paid     ◀── open          we paid: open ◀── paid
    a signed statement            noted    ◀── open          what is owed by signature; ours: open ◀── noted
    we forgive a dispute          income   ◀── disputed      it was not earned after all
    the peer accepts one          open     ◀── disputed      … and we, one that was asked of us: expense ◀── open

The accounts are those of one peer; those of all peers together are the book. A balance is debits less credits: an `open` above zero is owed
to us, below zero by us. The capital of a job that runs is not booked: its hold is the price of its reservation (provider) or slot (requester).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Final, TypeVar

import msgspec

from dms_proto.heirs import names_of, with_heir
from dms_proto.ids import PeerId
from dms_proto.machine import Effect
from dms_proto.market.ledger import remember, without
from dms_proto.messages import Iou, Receipt
from dms_proto.rules import Amount, Line, cut_lines

V = TypeVar("V")

MAX_REMEMBERED: Final = 4_096
"""Entries known by their names, so that one that comes twice is posted once; the oldest are forgotten first."""
MAX_DISPUTES: Final = 1_024
"""Disputes known one by one; past it the oldest of the peer with most of them is in the balance alone. Bounds what peers that ask too much can
make us remember, and none can push out those of others."""
NO_LIMIT: Final = 2**53
"""Micro-credits: no limit, or none for this node with itself."""


class Account(StrEnum):
    """One of a peer's accounts; `Balances` has a field for each."""

    OPEN = "open"
    """Agreed by both and not signed for: above zero the peer owes us, below zero we owe it."""
    NOTED = "noted"
    """The same, as far as a signed statement says so."""
    CLAIMED = "claimed"
    """Asked of the peer, whose receipt has not come."""
    DISPUTED = "disputed"
    """Asked of the peer, and not accepted by its receipt."""
    INCOME = "income"
    EXPENSE = "expense"
    PAID = "paid"
    """Changed hands outside of the market."""


class Why(StrEnum):
    """What an entry rests on; with `Entry.about` it is the entry's name."""

    CLAIM = "claim"
    RECEIPT = "receipt"
    CHARGE = "charge"
    PAYMENT = "payment"
    IOU_RECEIVED = "iou_received"
    IOU_GIVEN = "iou_given"
    FORGIVEN = "forgiven"
    """A dispute is over: who asked for the rest asks for it no more."""
    ACCEPTED = "accepted"
    """A dispute is over: who was asked for the rest owes it after all."""


class Transfer(msgspec.Struct, frozen=True):
    """`amount` micro-credits, taken from the account `credit` and given to the account `debit`."""

    debit: Account
    credit: Account
    amount: Annotated[int, msgspec.Meta(gt=0)]


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one fact changes in the accounts of one peer.

    Attributes:
        why, about: what it rests on: the id of the allocation, of the payment, the number of the statement.
        peer: whose accounts.
        transfers: may be none, for a fact that changes no balance.
        request_id: the job, where there is one.
        detail: one line for a person.
        refused: of a charge: what was asked beyond it, and not accepted.
    """

    why: Why
    about: str
    peer: PeerId
    transfers: tuple[Transfer, ...]
    request_id: str = ""
    detail: Line = ""
    refused: int = 0

    def __post_init__(self) -> None:
        cut_lines(self, "detail")

    @property
    def name(self) -> str:
        """The same fact always has the same name."""
        return f"{self.why} {self.peer} {self.about}"

    def moves(self, account: Account) -> int:
        """By how much the balance of `account` changes."""
        gained = sum(transfer.amount for transfer in self.transfers if transfer.debit is account)
        return gained - sum(transfer.amount for transfer in self.transfers if transfer.credit is account)


class Book(Effect, frozen=True):
    """This entry belongs to the events it comes with: it is written in the same transaction, into the stream of the accounts."""

    entry: Entry


class Dispute(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was asked for an allocation and not accepted.

    Attributes:
        peer: with whom, as it was called then.
        allocation_id, request_id: for what.
        asked: micro-credits for all of it.
        amount: the part that was not accepted.
        ours: we ask for it; otherwise the peer does.
    """

    peer: PeerId
    allocation_id: str
    request_id: str
    asked: int
    amount: int
    ours: bool

    @property
    def accepted(self) -> int:
        """The part that was accepted."""
        return self.asked - self.amount


class Balances(msgspec.Struct, frozen=True, omit_defaults=True):
    """A peer's accounts, debits less credits; their sum is zero."""

    open: int = 0
    noted: int = 0
    claimed: int = 0
    disputed: int = 0
    income: int = 0
    expense: int = 0
    paid: int = 0

    def after(self, entry: Entry) -> Balances:
        """The balances after an entry."""
        moved = {name: getattr(self, name) + entry.moves(Account(name)) for name in self.__struct_fields__}
        return Balances(**moved)

    def plus(self, other: Balances) -> Balances:
        """Both together."""
        return Balances(**{name: getattr(self, name) + getattr(other, name) for name in self.__struct_fields__})

    @property
    def total(self) -> int:
        """Debits less credits over all accounts: zero."""
        return sum(getattr(self, name) for name in self.__struct_fields__)

    @property
    def owed(self) -> int:
        """What both sides agree on: above zero the peer owes us, below zero we owe it."""
        return self.open + self.noted

    @property
    def exposure(self) -> int:
        """What we stand to lose if the peer never pays; what it has not accepted counts, or disputing would be a way not to pay."""
        return self.owed + self.claimed + self.disputed


class Accounts(msgspec.Struct, frozen=True):
    """The whole book of one node.

    Attributes:
        me: this node.
        default_limit: the most a peer may owe that has no limit of its own.
        peers: the accounts of each peer with whom something was ever booked.
        limits: the most a peer may owe, where its owner has said so.
        default_debt_limit, debt_limits: the same for what this node may owe a peer, over all its jobs.
        posted: names of the newest entries, and what they moved: a claim's or charge's amount.
        disputes: what was asked and not accepted, either way, by the name of the entry it comes from; of the peers with most the newest.
        forgiven: what we ask for no more, until its debtor is heard to know that, by allocation; the newest.
        received, given: the newest signed statement of each peer, and of ours to each peer.
        heirs: earlier names of peers whose accounts these are, each with the present one: what was agreed under a name is booked under it.
    """

    me: PeerId
    default_limit: int = NO_LIMIT
    peers: Mapping[PeerId, Balances] = {}
    limits: Mapping[PeerId, int] = {}
    posted: Mapping[str, int] = {}
    disputes: Mapping[str, Dispute] = {}
    forgiven: Mapping[str, Dispute] = {}
    received: Mapping[PeerId, Iou] = {}
    given: Mapping[PeerId, Iou] = {}
    heirs: Mapping[PeerId, PeerId] = {}
    default_debt_limit: int = NO_LIMIT
    debt_limits: Mapping[PeerId, int] = {}

    def of(self, peer: PeerId) -> Balances:
        """The accounts of a peer; all zero for one with whom nothing was booked."""
        return self.peers.get(peer, NO_BALANCES)

    def present(self, peer: PeerId) -> PeerId:
        """The name that a peer has now; its own, unless its accounts were inherited."""
        return self.heirs.get(peer, peer)

    def names(self, peer: PeerId) -> tuple[PeerId, ...]:
        """The name of a peer, and those it had before as far as its accounts were inherited."""
        return names_of(self.heirs, peer)

    def under_present_name(self, entry: Entry) -> Entry:
        """An entry as one of whose accounts it is in now."""
        return msgspec.structs.replace(entry, peer=self.present(entry.peer))

    @property
    def known(self) -> tuple[PeerId, ...]:
        """Every peer of whom the book says anything."""
        return tuple(dict.fromkeys((*self.peers, *self.limits, *self.debt_limits)))

    def limit(self, peer: PeerId) -> int:
        """The most that a peer may owe."""
        return self.limits.get(peer, self.default_limit)

    def credit(self, peer: PeerId) -> int:
        """What a peer may still come to owe; a node needs no credit with itself."""
        return NO_LIMIT if peer == self.me else self.limit(peer) - self.of(peer).exposure

    def debt_limit(self, peer: PeerId) -> int:
        """The most that this node may owe a peer, over all its jobs; a node needs no credit with itself."""
        return NO_LIMIT if peer == self.me else self.debt_limits.get(peer, self.default_debt_limit)

    def charged(self, peer: PeerId, allocation_id: str) -> int:
        """What we owe a peer for an allocation, as far as it is remembered; also of one that was charged under an earlier name."""
        return self._moved(Why.CHARGE, allocation_id, peer) + self._moved(Why.ACCEPTED, allocation_id, peer)

    def _moved(self, why: Why, about: str, peer: PeerId) -> int:
        names = (Entry(why, about, name, ()).name for name in self.names(peer))
        return sum(self.posted.get(name, 0) for name in names)

    def forgiven_to(self, peer: PeerId, receipt: Receipt) -> Dispute | None:
        """What was forgiven to a peer for an allocation of which it sends a receipt now, as far as it is remembered; None: nothing."""
        allocation = receipt.allocation_id
        amount = 0 if self._moved(Why.ACCEPTED, allocation, peer) else self._moved(Why.FORGIVEN, allocation, peer)
        asked = self._moved(Why.RECEIPT, allocation, peer)
        return Dispute(peer, allocation, receipt.request_id, asked, amount, ours=True) if asked and amount else None

    def disputed_with(self, peer: PeerId, *, ours: bool | None = None) -> tuple[Dispute, ...]:
        """What is in dispute with a peer, oldest first; `ours`: only what we ask for, or only what we are asked for."""
        names = self.names(peer)
        return tuple(d for d in self.disputes.values() if d.peer in names and ours in (None, d.ours))

    def forgiven_unheard(self, peer: PeerId) -> tuple[Dispute, ...]:
        """What we ask a peer for no more, as far as it has not been heard to know that, oldest first."""
        names = self.names(peer)
        return tuple(dispute for dispute in self.forgiven.values() if dispute.peer in names)

    def post(self, entry: Entry) -> Accounts:
        """The book with an entry, unless it is in it already. One under an earlier name of a peer is one of the peer."""
        if entry.name in self.posted:
            return self
        amount = sum(transfer.amount for transfer in entry.transfers)
        peer = self.present(entry.peer)
        return msgspec.structs.replace(
            self,
            peers={**self.peers, peer: self.of(peer).after(entry)},
            posted=remember(self.posted, entry.name, amount, MAX_REMEMBERED),
            disputes=self._disputes(entry),
            forgiven=self._forgiven(entry),
        )

    def _forgiven(self, entry: Entry) -> Mapping[str, Dispute]:
        """What is forgiven after an entry, and not known to be heard."""
        match entry.why:
            case Why.FORGIVEN:
                ours = self.disputed_with(self.present(entry.peer), ours=True)
                over = next((dispute for dispute in ours if dispute.allocation_id == entry.about), None)
                if over is None or not over.request_id:  # of a tab nothing is told, so there is nothing to be heard
                    return self.forgiven
                return remember(self.forgiven, entry.about, over, MAX_DISPUTES)
            case Why.ACCEPTED:
                return without(self.forgiven, entry.about)
            case _:
                return self.forgiven

    def _disputes(self, entry: Entry) -> Mapping[str, Dispute]:
        """What is in dispute after an entry; a node has none with itself."""
        match entry.why:
            case _ if entry.peer == self.me:
                return self.disputes
            case Why.RECEIPT | Why.CHARGE:
                ours = entry.why is Why.RECEIPT
                amount = entry.moves(Account.DISPUTED) if ours else entry.refused
                asked = sum(transfer.amount for transfer in entry.transfers) + entry.refused
                new = Dispute(entry.peer, entry.about, entry.request_id, asked, amount, ours)
                return self._with_dispute(entry.name, new) if amount else self.disputes
            case Why.FORGIVEN | Why.ACCEPTED:
                names = self.names(self.present(entry.peer))
                return {k: d for k, d in self.disputes.items() if d.allocation_id != entry.about or d.peer not in names}
            case _:
                return self.disputes

    def _with_dispute(self, name: str, new: Dispute) -> Mapping[str, Dispute]:
        there = {**without(self.disputes, name), name: new}
        if len(there) <= MAX_DISPUTES:
            return there
        of = {each: self.present(dispute.peer) for each, dispute in there.items()}
        ((crowd, _),) = Counter(of.values()).most_common(1)
        return without(there, next(each for each, peer in of.items() if peer == crowd))

    def with_limit(self, peer: PeerId, limit: int | None) -> Accounts:
        """The book with another limit for a peer; None: the default again."""
        limits = without(self.limits, peer)
        return msgspec.structs.replace(self, limits=limits if limit is None else {**limits, peer: limit})

    def with_debt_limit(self, peer: PeerId, limit: int | None) -> Accounts:
        """The book with another limit for what this node may owe a peer; None: the default again."""
        limits = without(self.debt_limits, peer)
        return msgspec.structs.replace(self, debt_limits=limits if limit is None else {**limits, peer: limit})

    def inherit(self, old: PeerId, new: PeerId) -> Accounts:
        """The book after a peer got a new name: what is known of the new one already stays, and the balances are added."""
        return msgspec.structs.replace(
            self,
            peers={**without(self.peers, old), new: self.of(new).plus(self.of(old))},
            limits=_inherited(self.limits, old, new),
            debt_limits=_inherited(self.debt_limits, old, new),
            received=_inherited(self.received, old, new),
            given=_inherited(self.given, old, new),
            heirs=with_heir(self.heirs, old, new),
        )

    def check(self) -> None:
        """Raises AssertionError when credit was created or destroyed."""
        for peer, balances in self.peers.items():
            assert balances.total == 0, f"the accounts of {peer} do not balance: {balances}"


def _inherited(table: Mapping[PeerId, V], old: PeerId, new: PeerId) -> dict[PeerId, V]:
    moved = without(table, old)
    if old in table and new not in moved:
        moved[new] = table[old]
    return moved


NO_BALANCES: Final = Balances()


# ---------------------------------------------------------------------------------------------------------------- entries


def claim(peer: PeerId, request_id: str, allocation_id: str, price: Amount) -> tuple[Book, ...]:
    """Our work for a peer has ended, for this price. Nothing for what was free."""
    made = _transfers((Account.CLAIMED, Account.INCOME, price))
    return (Book(Entry(Why.CLAIM, allocation_id, peer, made, request_id)),) if made else ()


def answered(
    peer: PeerId, request_id: str, allocation_id: str, claimed: Amount, accepted: Amount, *, detail: str = ""
) -> tuple[Book, ...]:
    """A peer's receipt for our work: it accepts so much of what was claimed. It cannot accept more than that; `detail` says why not all."""
    agreed = min(claimed, accepted)
    made = _transfers((Account.OPEN, Account.CLAIMED, agreed), (Account.DISPUTED, Account.CLAIMED, claimed - agreed))
    return (Book(Entry(Why.RECEIPT, allocation_id, peer, made, request_id, detail)),) if made else ()


def charge(
    peer: PeerId, request_id: str, allocation_id: str, price: Amount, detail: str = "", *, refused: Amount = 0
) -> tuple[Book, ...]:
    """A peer's work for us has ended, and we accept this price; `refused`: what it asked beyond that. Nothing for what was free."""
    made = _transfers((Account.EXPENSE, Account.OPEN, price))
    entry = Entry(Why.CHARGE, allocation_id, peer, made, request_id, detail, refused)
    return (Book(entry),) if made or detail else ()


def forgiven(dispute: Dispute, peer: PeerId) -> Entry:
    """A dispute is over without payment: of ours nothing is asked any more, of what we were asked for nothing is owed."""
    made = _transfers((Account.INCOME, Account.DISPUTED, dispute.amount)) if dispute.ours else ()
    return Entry(Why.FORGIVEN, dispute.allocation_id, peer, made, dispute.request_id)


def accepted(dispute: Dispute, peer: PeerId, *, was_forgiven: bool = False) -> Entry:
    """What was in dispute is owed after all; of ours also when it `was_forgiven` before the peer's word came."""
    source = Account.INCOME if was_forgiven else Account.DISPUTED
    into = (Account.OPEN, source) if dispute.ours else (Account.EXPENSE, Account.OPEN)
    made = _transfers((*into, dispute.amount))
    return Entry(Why.ACCEPTED, dispute.allocation_id, peer, made, dispute.request_id)


def payment(peer: PeerId, received: int, about: str, detail: str = "") -> Entry:
    """A peer paid us outside of the market; below zero: we paid it."""
    return Entry(Why.PAYMENT, about, peer, _moved(Account.PAID, received), detail=detail)


def iou_received(iou: Iou, before: Amount) -> Entry:
    """A peer signed that it owes us so much; `before`: what its last statement said."""
    return Entry(Why.IOU_RECEIVED, str(iou.number), iou.debtor, _moved(Account.NOTED, iou.amount - before))


def iou_given(iou: Iou, before: Amount) -> Entry:
    """We signed that we owe a peer so much; `before`: what our last statement said."""
    return Entry(Why.IOU_GIVEN, str(iou.number), iou.creditor, _moved(Account.NOTED, before - iou.amount))


def _moved(account: Account, amount: int) -> tuple[Transfer, ...]:
    """From `open` to `account`; below zero the other way."""
    if amount < 0:
        return _transfers((Account.OPEN, account, -amount))
    return _transfers((account, Account.OPEN, amount))


def _transfers(*wanted: tuple[Account, Account, int]) -> tuple[Transfer, ...]:
    return tuple(Transfer(debit, credit, amount) for debit, credit, amount in wanted if amount > 0)
