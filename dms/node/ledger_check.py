"""Whether the accounts follow from what happened and was signed: every entry against its event, its signed frame or its IOU, and none missing.

Asks nobody and trusts nothing but signatures: the event store alone is read, in order, and each entry is made again from what it rests on. The hash
chain (`dms.store.verify`) says whether the file was changed since it was written; this says whether what was written is right.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import NamedTuple

from dms.node.ledger_tabs import Sum, TabSums, doubt, signer
from dms_actors.events import from_row
from dms_actors.ports import StoredEvent
from dms_proto.accounts import book
from dms_proto.accounts.book import Account, Accounts, Book, Dispute, Entry, Transfer, Why
from dms_proto.accounts.iou import is_genuine
from dms_proto.accounts.machine import (
    ACCOUNTS_STREAM,
    AccountsInherited,
    DisputeSettled,
    IouGiven,
    IouKept,
    PaymentBooked,
    Posted,
    evolve,
)
from dms_proto.allocation.events import AllocationEnded, AllocationOpened, ReceiptDisputed, ReceiptReceived
from dms_proto.errors import DmsError
from dms_proto.heirs import with_heir
from dms_proto.ids import PeerId
from dms_proto.machine import Event
from dms_proto.market.auction_events import AttemptEnded
from dms_proto.market.ledger import Reservation
from dms_proto.market.proofs import FrameKept
from dms_proto.membership.machine import PeerSucceeded
from dms_proto.messages import AllocationStatus, Iou, Receipt
from dms_proto.wire import Envelope, read_frame

_Make = Callable[[Iou, int], Entry]


class Finding(NamedTuple):
    """An entry that does not follow, or that is missing.

    Attributes:
        seq: of the event, or of the one whose entry is missing.
        peer: with whom.
        about: the allocation, payment or number of an IOU.
        what: one line for a person.
    """

    seq: int
    peer: str
    about: str
    what: str


class Found(NamedTuple):
    """What a walk found. `entries`: how many were checked."""

    entries: int
    findings: tuple[Finding, ...]


class _Signed(NamedTuple):
    sender: PeerId
    price: int


class LedgerWalk:
    """Reads events in order, then judges. `me`: the present name of the node."""

    def __init__(self, me: PeerId) -> None:
        self._me = me
        self._heirs: dict[PeerId, PeerId] = {}
        self._reservations: dict[str, Reservation] = {}
        self._ended: dict[str, tuple[int, int]] = {}
        self._answered: dict[str, tuple[int, int]] = {}
        self._attempts: dict[tuple[str, str], tuple[int, AttemptEnded]] = {}
        self._receipts: dict[str, list[_Signed]] = {}
        self._statuses: dict[str, list[_Signed]] = {}
        self._tabs = TabSums()
        self._entries: list[tuple[int, Event]] = []
        self._findings: list[Finding] = []

    def feed(self, row: StoredEvent) -> None:
        """Goes on with the next event. One that cannot be read is a finding if the accounts are made of its kind."""
        try:
            event = from_row(row)
        except DmsError as error:
            self._findings.append(Finding(row.seq, "", row.stream, error.message))
            return
        match event:
            case PeerSucceeded(old=old, new=new):
                self._heirs = with_heir(self._heirs, old, new)
            case AllocationOpened(reservation=reservation):
                self._reservations[row.stream] = reservation
            case AllocationEnded(price=price):
                self._ended[row.stream] = (row.seq, price)
            case ReceiptReceived(price=price):
                self._answered[row.stream] = (row.seq, price)
            case ReceiptDisputed(receipt=receipt):
                self._answered[row.stream] = (row.seq, receipt.price)
            case AttemptEnded(allocation_id=allocation) if event.provider:
                self._attempts[row.stream, allocation] = (row.seq, event)
            case FrameKept(frame=frame):
                self._keep(row, frame)
            case _ if row.stream == ACCOUNTS_STREAM:
                self._entries.append((row.seq, event))
            case _:
                self._tabs.feed(row.seq, event)

    def _keep(self, row: StoredEvent, frame: bytes) -> None:
        opened = read_frame(frame)
        if not isinstance(opened, Envelope):
            self._findings.append(
                Finding(row.seq, "", row.stream, f"a signed frame is not what was signed: {opened.detail}")
            )
            return
        match opened.message:
            case Receipt(allocation_id=allocation, price=price):
                self._receipts.setdefault(allocation, []).append(_Signed(opened.sender, price))
            case AllocationStatus(allocation_id=allocation, price=price, ending=ending) if ending is not None:
                self._statuses.setdefault(allocation, []).append(_Signed(opened.sender, price))

    def finish(self) -> Found:
        """The verdict once all events were fed."""
        accounts, entries = Accounts(self._me), 0
        for seq, event in self._entries:
            match event:
                case AccountsInherited(old=old, new=new) if not self._same(old, new):
                    self._findings.append(Finding(seq, new, "", f"no succession leads from {old} to it"))
                case (
                    Posted(entry=entry)
                    | PaymentBooked(entry=entry)
                    | IouKept(entry=entry)
                    | IouGiven(entry=entry)
                    | (DisputeSettled(entry=entry))
                ):
                    entries += 1
                    what = "is booked twice" if entry.name in accounts.posted else self._doubt(accounts, event, entry)
                    if what:
                        self._findings.append(Finding(seq, entry.peer, entry.about, f"{entry.why}: {what}"))
            accounts = evolve(accounts, event)
        self._findings += self._missing()
        return Found(entries, tuple(sorted(self._findings)))

    # ------------------------------------------------------------------------------------------------------------- entries

    def _doubt(self, accounts: Accounts, event: Event, entry: Entry) -> str:
        """Why an entry does not follow; empty if it does."""
        match event:
            case Posted():
                return self._posted(entry)
            case PaymentBooked():
                paid = entry.moves(Account.PAID)
                is_one = entry == book.payment(entry.peer, paid, entry.about, entry.detail)
                return "" if is_one else "is no payment"
            case IouKept(iou=iou):
                return self._iou(iou, accounts.received.get(self._present(iou.debtor)), book.iou_received, entry)
            case IouGiven(iou=iou):
                return self._iou(iou, accounts.given.get(self._present(iou.creditor)), book.iou_given, entry)
            case DisputeSettled(frame=frame):
                return self._settled(accounts, entry, frame)
            case _:
                raise TypeError(f"no entry is made of {event!r}")

    def _of_tab(self, entry: Entry, found: Sum) -> str:
        """What is booked for a sum is what follows from it, and the peer itself has signed that."""
        other = found.frame and not self._same(signer(found) or entry.peer, entry.peer)
        return _unlike(entry, found.made) or ("another has signed it" if other else doubt(found, entry))

    def _posted(self, entry: Entry) -> str:
        if (found := self._tabs.sums.get((entry.why, entry.about))) is not None:
            return self._of_tab(entry, found)
        match entry.why:
            case Why.CLAIM:
                reservation = self._reservations.get(entry.about)
                if reservation is None or entry.about not in self._ended:
                    return "no allocation of that id ended here"
                made = book.claim(
                    reservation.requester, reservation.request_id, entry.about, self._ended[entry.about][1]
                )
                return _unlike(entry, made)
            case Why.RECEIPT:
                return self._receipt(entry)
            case Why.CHARGE:
                return self._charge(entry)
            case _:
                return "no event of the market leads to it"

    def _receipt(self, entry: Entry) -> str:
        reservation = self._reservations.get(entry.about)
        if reservation is None or entry.about not in self._answered or entry.about not in self._ended:
            return "no receipt was heard for it"
        said = self._answered[entry.about][1]
        made = book.answered(
            reservation.requester, reservation.request_id, entry.about, self._ended[entry.about][1], said
        )
        return _unlike(entry, made) or self._unsigned(entry, self._receipts, said, "receipt")

    def _charge(self, entry: Entry) -> str:
        _, attempt = self._attempts.get((entry.request_id, entry.about), (0, None))
        if attempt is None:
            return "no attempt of a job of this node ended so"
        refused = attempt.claimed - attempt.price if attempt.claimed else 0
        made = book.charge(
            attempt.provider, entry.request_id, entry.about, attempt.price, entry.detail, refused=refused
        )
        asked = attempt.claimed or attempt.price
        return _unlike(entry, made) or self._unsigned(entry, self._statuses, asked, "status")

    def _unsigned(self, entry: Entry, signed: dict[str, list[_Signed]], price: int, what: str) -> str:
        """Whether the peer itself has signed the price; what a node agrees with itself needs no signature."""
        if self._same(entry.peer, self._me):
            return ""
        found = signed.get(entry.about, [])
        if not any(self._same(one.sender, entry.peer) for one in found):
            return f"no {what} that the peer has signed is kept"
        stated = [one.price for one in found if self._same(one.sender, entry.peer)]
        return "" if price in stated else f"the peer has signed another price: {stated[0]}, not {price} micro-credits"

    def _iou(self, iou: Iou, last: Iou | None, make: _Make, entry: Entry) -> str:
        if not is_genuine(iou):
            return "the IOU is not signed by its debtor"
        ours, theirs = (iou.creditor, iou.debtor) if make is book.iou_received else (iou.debtor, iou.creditor)
        if not self._same(ours, self._me) or not self._same(theirs, entry.peer):
            return "the IOU is between others"
        if last is not None and iou.number <= last.number:
            return f"the IOU has number {iou.number}, and {last.number} came before"
        return _unlike(entry, (Book(make(iou, last.amount if last is not None else 0)),))

    def _settled(self, accounts: Accounts, entry: Entry, frame: bytes) -> str:
        disputes = [d for d in accounts.disputed_with(accounts.present(entry.peer)) if d.allocation_id == entry.about]
        given = None if disputes else self._given_back(accounts, entry)
        dispute = disputes[0] if disputes else given
        if dispute is None:
            return "nothing was in dispute"
        if entry.why is Why.FORGIVEN:
            return _unlike(entry, (Book(book.forgiven(dispute, entry.peer)),))
        made = book.accepted(dispute, entry.peer, was_forgiven=given is not None)
        return _unlike(entry, (Book(made),)) or (self._unaccepted(dispute, entry, frame) if dispute.ours else "")

    def _given_back(self, accounts: Accounts, entry: Entry) -> Dispute | None:
        """What was forgiven before the peer's acceptance came."""
        amount = sum(transfer.amount for transfer in entry.transfers)
        taken = (Transfer(Account.OPEN, Account.INCOME, amount),)
        was_forgiven = Entry(Why.FORGIVEN, entry.about, entry.peer, ()).name in accounts.posted
        if entry.transfers != taken or not was_forgiven:
            return None
        return Dispute(
            entry.peer, entry.about, entry.request_id, self._ended.get(entry.about, (0, 0))[1], amount, ours=True
        )

    def _unaccepted(self, dispute: Dispute, entry: Entry, frame: bytes) -> str:
        opened = read_frame(frame) if frame else None
        if not isinstance(opened, Envelope) or not self._same(opened.sender, entry.peer):
            return "no receipt that the peer has signed is kept with it"
        match opened.message:
            case Receipt(allocation_id=about, price=price) if about == entry.about and price >= dispute.asked:
                return ""
            case _:
                return "what the peer has signed does not accept it"

    # ------------------------------------------------------------------------------------------------------------- missing

    def _missing(self) -> Iterator[Finding]:
        booked = {
            (entry.why, entry.about)
            for _, event in self._entries
            if isinstance(event, Posted)
            for entry in (event.entry,)
        }
        for allocation, (seq, price) in self._ended.items():
            peer = self._reservations[allocation].requester if allocation in self._reservations else ""
            if price and (Why.CLAIM, allocation) not in booked:
                yield Finding(seq, peer, allocation, "claim: it ended with a price, and nothing is booked for it")
            if price and allocation in self._answered and (Why.RECEIPT, allocation) not in booked:
                yield Finding(
                    self._answered[allocation][0],
                    peer,
                    allocation,
                    "receipt: it has its receipt, and nothing is booked for that",
                )
        for (_, allocation), (seq, attempt) in self._attempts.items():
            if attempt.price and (Why.CHARGE, allocation) not in booked:
                yield Finding(
                    seq, attempt.provider, allocation, "charge: a price was accepted, and nothing is booked for it"
                )

        for why, about, found in self._tabs.missing(booked):
            yield Finding(found.seq, found.peer, about, f"{why}: a sum of a tab, and nothing is booked for it")

    def _present(self, peer: PeerId) -> PeerId:
        return self._heirs.get(peer, peer)

    def _same(self, one: PeerId, other: PeerId) -> bool:
        return self._present(one) == self._present(other)


def _unlike(entry: Entry, made: Iterable[Book]) -> str:
    """How an entry differs from the one that was to be made; empty if it does not."""
    wanted = next((booked.entry for booked in made), None)
    if wanted is None:
        return "nothing was to be booked"
    for name in ("peer", "request_id", "transfers"):
        if getattr(entry, name) != getattr(wanted, name):
            return f"its {name} should be {_told(getattr(wanted, name))}, and is {_told(getattr(entry, name))}"
    return ""


def _told(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(f"{move.amount} from {move.credit} to {move.debit}" for move in value) or "none"
    return str(value)


async def walk(me: PeerId, events: AsyncIterator[StoredEvent]) -> Found:
    """Checks the accounts of node `me` against all its events."""
    walked = LedgerWalk(me)
    async for row in events:
        walked.feed(row)
    return walked.finish()
