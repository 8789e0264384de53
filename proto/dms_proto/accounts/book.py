"""The double-entry book: who owes whom, in integer micro-credits.

Every entry is made of transfers, and a transfer takes from one account exactly what it gives to another, so debits and credits are equal
whatever is posted::

    our work for a peer ends      claimed  ◀── income        it is asked for this much
    its receipt comes             open     ◀── claimed       it accepts this much …
                                  disputed ◀── claimed       … and not the rest
    a peer's work for us ends     expense  ◀── open          we owe it this much
    the peer pays, outside        paid     ◀── open          we paid: open ◀── paid
    a signed statement            noted    ◀── open          what is owed by signature; ours: open ◀── noted

The accounts are those of one peer; those of all peers together are the book. A balance is debits less credits: an `open` above zero is owed
to us, below zero by us. The capital of a job that runs is not booked: its hold is the price of its reservation (provider) or slot (requester).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Final, TypeVar

import msgspec

from dms_proto.ids import PeerId
from dms_proto.machine import Effect
from dms_proto.market.ledger import remember, without
from dms_proto.messages import Iou
from dms_proto.rules import Amount, Line

V = TypeVar("V")

MAX_REMEMBERED: Final = 4_096
"""Entries known by their names, so that one that comes twice is posted once; the oldest are forgotten first."""
NO_LIMIT: Final = 2**53


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
    """

    why: Why
    about: str
    peer: PeerId
    transfers: tuple[Transfer, ...]
    request_id: str = ""
    detail: Line = ""

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
        received, given: the newest signed statement of each peer, and of ours to each peer.
        heirs: earlier names of peers whose accounts these are, each with the present one: what was agreed under a name is booked under it.
    """

    me: PeerId
    default_limit: int = NO_LIMIT
    peers: Mapping[PeerId, Balances] = {}
    limits: Mapping[PeerId, int] = {}
    posted: Mapping[str, int] = {}
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
        return (peer, *(old for old, heir in self.heirs.items() if heir == peer))

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
        charges = (Entry(Why.CHARGE, allocation_id, name, ()).name for name in self.names(peer))
        return next((self.posted[charge] for charge in charges if charge in self.posted), 0)

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
        )

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
            heirs={name: new if heir == old else heir for name, heir in self.heirs.items()} | {old: new},
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


def answered(peer: PeerId, request_id: str, allocation_id: str, claimed: Amount, accepted: Amount) -> tuple[Book, ...]:
    """A peer's receipt for our work: it accepts so much of what was claimed. It cannot accept more than that."""
    agreed = min(claimed, accepted)
    made = _transfers((Account.OPEN, Account.CLAIMED, agreed), (Account.DISPUTED, Account.CLAIMED, claimed - agreed))
    return (Book(Entry(Why.RECEIPT, allocation_id, peer, made, request_id)),) if made else ()


def charge(peer: PeerId, request_id: str, allocation_id: str, price: Amount, detail: str = "") -> tuple[Book, ...]:
    """A peer's work for us has ended, and we accept this price. Nothing for what was free."""
    made = _transfers((Account.EXPENSE, Account.OPEN, price))
    return (Book(Entry(Why.CHARGE, allocation_id, peer, made, request_id, detail)),) if made or detail else ()


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
