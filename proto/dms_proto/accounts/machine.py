"""The accounts of a node as a machine: what its owner wishes, and what its peers sign. Stream "accounts".

What the market leads to is not decided here: the machines of a request and of an allocation say with an ending what is to be booked (`book.Book`).
The entry is written in one transaction with the event it comes from, so neither is ever without the other, and told to the live book afterwards.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

from dms_proto.accounts import book
from dms_proto.accounts.book import Accounts, Entry, Why
from dms_proto.accounts.iou import is_genuine
from dms_proto.heirs import PeerRenamed
from dms_proto.ids import AllocationId, PeerId
from dms_proto.machine import IGNORED, Decision, Effect, Event, Row, Send, Stimulus, Table, Transient
from dms_proto.market.ledger import without
from dms_proto.messages import Iou, Receipt
from dms_proto.units import MAX_QUANTITY

ACCOUNTS_STREAM: Final = "accounts"
MAX_TOLD_AGAIN: Final = 16
"""What was forgiven and may not have been heard, told at once when its debtor is heard: each is read from the log."""


class AccountsPhase(StrEnum):
    """The book is always open."""

    OPEN = "open"


# ---------------------------------------------------------------------------------------------------------------- stimuli


class EntryWritten(Stimulus, frozen=True):
    """An entry is in the log, with the event it came from."""

    entry: Entry


class PaymentNoted(Stimulus, frozen=True):
    """The owner says that a peer paid this much outside of the market; below zero: that the owner paid it. `about` names the payment."""

    peer: PeerId
    received: int
    about: str
    detail: str = ""


class LimitWished(Stimulus, frozen=True):
    """The owner says how much a peer may owe; None: as much as any other."""

    peer: PeerId
    limit: int | None


class DebtLimitWished(Stimulus, frozen=True):
    """The owner says how much this node may owe a peer, over all its jobs; None: as much as any other."""

    peer: PeerId
    limit: int | None


class IouSigned(Stimulus, frozen=True):
    """The owner settles by an IOU of this node, as `next_iou` says."""

    iou: Iou


class IouHeard(Stimulus, frozen=True):
    """An IOU from `peer`."""

    peer: PeerId
    iou: Iou


class ForgiveWished(Stimulus, frozen=True):
    """The owner asks a peer no more for what it did not accept for these allocations."""

    peer: PeerId
    allocation_ids: tuple[AllocationId, ...]


class AcceptWished(Stimulus, frozen=True):
    """The owner accepts after all what a peer asked; `receipt` says so, with the whole price. A repeat sends it again."""

    peer: PeerId
    receipt: Receipt


class LateReceiptHeard(Stimulus, frozen=True):
    """A receipt for an allocation that is closed: its requester states another price than before. `frame`: as it was signed.

    `answers_forgiving`: it answers what was told of the allocation when it was forgiven, and not an ending that was told before.
    """

    peer: PeerId
    receipt: Receipt
    frame: bytes = b""
    answers_forgiving: bool = False


class ClaimStated(Stimulus, frozen=True):
    """A provider states anew what it asks for an allocation that is over."""

    peer: PeerId
    allocation_id: AllocationId
    price: int


# ----------------------------------------------------------------------------------------------------------------- events


class Posted(Event, frozen=True):
    """An entry that follows from an event of another stream, written in its transaction."""

    entry: Entry


class PaymentBooked(Event, frozen=True):
    """A payment outside of the market was booked."""

    entry: Entry


class EntryNoted(Transient, frozen=True):
    """An entry that another stream's turn wrote down is in the live book as well."""

    entry: Entry


class LimitSet(Event, frozen=True):
    """A peer may owe this much, or (none) as much as any other."""

    peer: PeerId
    limit: int | None


class DebtLimitSet(Event, frozen=True):
    """This node may owe a peer this much, or (none) as much as any other."""

    peer: PeerId
    limit: int | None


class IouKept(Event, frozen=True):
    """A peer's IOU was accepted, and is kept to be shown."""

    iou: Iou
    entry: Entry


class IouGiven(Event, frozen=True):
    """This node's IOU was signed and sent."""

    iou: Iou
    entry: Entry


class DisputeSettled(Event, frozen=True):
    """What was asked and not accepted is asked no more, or accepted. `frame`: the receipt by which the debtor accepts it, as it was signed."""

    entry: Entry
    frame: bytes = b""


class ForgivingHeard(Event, frozen=True):
    """A peer knows that it is asked no more for an allocation: it has confirmed the lower price."""

    peer: PeerId
    allocation_id: AllocationId


class AccountsInherited(Event, frozen=True):
    """What was booked with `old`, its limit and its IOUs are those of `new` from now on."""

    old: PeerId
    new: PeerId


# ---------------------------------------------------------------------------------------------------------------- effects


class TellForgiven(Effect, frozen=True):
    """Tell a peer how an allocation here ended, with the price that is still asked. A repeat changes nothing there.

    `again_at`: when it is told again (Unix ms), since it may not have been heard; 0: for the first time.
    """

    peer: PeerId
    allocation_id: AllocationId
    price: int
    again_at: int = 0


# ----------------------------------------------------------------------------------------------------------------- decide


def decide(accounts: Accounts, stimulus: Stimulus, now: int) -> Decision:
    """What becomes of `stimulus`; the time does not matter."""
    return TABLE[AccountsPhase.OPEN, type(stimulus)].handler(accounts, stimulus, now)


def next_deadline(_accounts: Accounts) -> int | None:
    """Time alone changes nothing."""
    return None


def resume(_accounts: Accounts) -> tuple[Effect, ...]:
    """Nothing: an IOU that was lost with the process is made good by the next, and what was forgiven is told again with what comes next."""
    return ()


def next_iou(accounts: Accounts, peer: PeerId) -> tuple[int, int]:
    """Number and amount of the IOU by which this node would now settle with a peer: all it owes, netted, and nothing if it is owed.

    An IOU is over no more than a message can say: one that was given all the same could be written, and never read again.
    """
    last = accounts.given.get(peer)
    return last.number + 1 if last is not None else 1, min(MAX_QUANTITY, max(0, -accounts.of(peer).owed))


def _note(accounts: Accounts, stimulus: EntryWritten, now: int) -> Decision:
    entry = stimulus.entry
    again = _forgiven_again(accounts, accounts.present(entry.peer), now) if entry.why is Why.RECEIPT else ()
    return Decision((EntryNoted(entry),), again)


def _forgiven_again(accounts: Accounts, peer: PeerId, now: int) -> tuple[Effect, ...]:
    """Tells a peer, which is there, what it has perhaps not heard."""
    newest = accounts.forgiven_unheard(peer)[-MAX_TOLD_AGAIN:]
    return tuple(TellForgiven(peer, AllocationId(one.allocation_id), one.accepted, now) for one in newest)


def _pay(accounts: Accounts, stimulus: PaymentNoted, _now: int) -> Decision:
    entry = book.payment(stimulus.peer, stimulus.received, stimulus.about, stimulus.detail)
    return IGNORED if entry.name in accounts.posted or not stimulus.received else Decision((PaymentBooked(entry),))


def _limit(accounts: Accounts, stimulus: LimitWished, _now: int) -> Decision:
    if accounts.limits.get(stimulus.peer) == stimulus.limit:
        return IGNORED
    return Decision((LimitSet(stimulus.peer, stimulus.limit),))


def _limit_debt(accounts: Accounts, stimulus: DebtLimitWished, _now: int) -> Decision:
    if accounts.debt_limits.get(stimulus.peer) == stimulus.limit:
        return IGNORED
    return Decision((DebtLimitSet(stimulus.peer, stimulus.limit),))


def _give(accounts: Accounts, stimulus: IouSigned, _now: int) -> Decision:
    """Only the one that is due: what was booked since it was made up may have changed the amount."""
    iou = stimulus.iou
    if (iou.number, iou.amount) != next_iou(accounts, iou.creditor):
        return IGNORED
    last = accounts.given.get(iou.creditor)
    entry = book.iou_given(iou, last.amount if last is not None else 0)
    return Decision((IouGiven(iou, entry),), (Send(iou.creditor, iou),))


def _keep(accounts: Accounts, stimulus: IouHeard, now: int) -> Decision:
    """Cheap questions first. Strangers with whom nothing was ever booked are not remembered for an IOU.

    Nor is one that takes back what was signed: a debtor may sign for less than before once our own book says that less is owed.
    """
    iou, last = stimulus.iou, accounts.received.get(stimulus.peer)
    meant = (iou.debtor, iou.creditor) == (stimulus.peer, accounts.me) and stimulus.peer in accounts.peers
    newer = last is None or iou.number > last.number
    takes_back = last is not None and iou.amount < min(last.amount, accounts.of(stimulus.peer).owed)
    if not meant or not newer or takes_back or not is_genuine(iou):
        return IGNORED
    kept = IouKept(iou, book.iou_received(iou, last.amount if last is not None else 0))
    return Decision((kept,), _forgiven_again(accounts, stimulus.peer, now))


def _forgive(accounts: Accounts, stimulus: ForgiveWished, _now: int) -> Decision:
    ours = accounts.disputed_with(stimulus.peer, ours=True)
    chosen = [dispute for dispute in ours if dispute.allocation_id in stimulus.allocation_ids]
    of_jobs = (dispute for dispute in chosen if dispute.request_id)
    told = (TellForgiven(stimulus.peer, AllocationId(dispute.allocation_id), dispute.accepted) for dispute in of_jobs)
    return Decision(tuple(DisputeSettled(book.forgiven(dispute, stimulus.peer)) for dispute in chosen), tuple(told))


def _accept(accounts: Accounts, stimulus: AcceptWished, _now: int) -> Decision:
    """The receipt goes out again with each wish: the one before may have been lost, and a repeat changes nothing there."""
    told = Send(stimulus.peer, stimulus.receipt)
    for dispute in accounts.disputed_with(stimulus.peer, ours=False):
        if dispute.allocation_id == stimulus.receipt.allocation_id:
            return Decision((DisputeSettled(book.accepted(dispute, stimulus.peer)),), (told,))
    paid = accounts.charged(stimulus.peer, stimulus.receipt.allocation_id) == stimulus.receipt.price
    return Decision((), (told,)) if paid else IGNORED


def _hear_acceptance(accounts: Accounts, stimulus: LateReceiptHeard, _now: int) -> Decision:
    """No more is taken for accepted than is in dispute; one that still does not accept it says that its forgiving was heard, if it answers that.

    The peer's word and our forgiving may have crossed: it books what it accepts, so we do.
    """
    receipt = stimulus.receipt
    for dispute in accounts.disputed_with(stimulus.peer, ours=True):
        if (dispute.allocation_id, dispute.request_id) == (receipt.allocation_id, receipt.request_id):
            settled = DisputeSettled(book.accepted(dispute, stimulus.peer), stimulus.frame)
            return Decision((settled,)) if receipt.price >= dispute.asked else IGNORED
    given = accounts.forgiven_to(stimulus.peer, receipt)
    if given is None or receipt.price < given.asked:
        unheard = {dispute.allocation_id for dispute in accounts.forgiven_unheard(stimulus.peer)}
        heard = ForgivingHeard(stimulus.peer, receipt.allocation_id)
        return Decision((heard,)) if stimulus.answers_forgiving and receipt.allocation_id in unheard else IGNORED
    return Decision((DisputeSettled(book.accepted(given, stimulus.peer, was_forgiven=True), stimulus.frame),))


def _hear_forgiveness(accounts: Accounts, stimulus: ClaimStated, _now: int) -> Decision:
    for dispute in accounts.disputed_with(stimulus.peer, ours=False):
        if dispute.allocation_id == stimulus.allocation_id:
            owed = accounts.charged(stimulus.peer, stimulus.allocation_id)
            return (
                Decision((DisputeSettled(book.forgiven(dispute, stimulus.peer)),))
                if stimulus.price <= owed
                else IGNORED
            )
    return IGNORED


def _inherit(accounts: Accounts, stimulus: PeerRenamed, _now: int) -> Decision:
    known = stimulus.old in accounts.known
    return Decision((AccountsInherited(stimulus.old, stimulus.new),)) if known else IGNORED


# ----------------------------------------------------------------------------------------------------------------- evolve


def evolve(accounts: Accounts, event: Event) -> Accounts:  # noqa: PLR0911 - one case per event kind
    """The book after `event`."""
    match event:
        case Posted(entry=entry) | EntryNoted(entry=entry) | PaymentBooked(entry=entry) | DisputeSettled(entry=entry):
            return accounts.post(entry)
        case LimitSet(peer=peer, limit=limit):
            return accounts.with_limit(peer, limit)
        case DebtLimitSet(peer=peer, limit=limit):
            return accounts.with_debt_limit(peer, limit)
        case IouKept(iou=iou, entry=entry):
            received = {**accounts.received, iou.debtor: iou}
            return msgspec.structs.replace(accounts.post(entry), received=received)
        case IouGiven(iou=iou, entry=entry):
            return msgspec.structs.replace(accounts.post(entry), given={**accounts.given, iou.creditor: iou})
        case ForgivingHeard(allocation_id=allocation_id):
            return msgspec.structs.replace(accounts, forgiven=without(accounts.forgiven, allocation_id))
        case AccountsInherited(old=old, new=new):
            return accounts.inherit(old, new)
        case _:
            return accounts


def concerned(event: Event) -> PeerId:
    """Whose accounts an event of this machine is about."""
    match event:
        case LimitSet(peer=peer) | DebtLimitSet(peer=peer) | ForgivingHeard(peer=peer) | AccountsInherited(new=peer):
            return peer
        case (
            Posted(entry=entry)
            | EntryNoted(entry=entry)
            | PaymentBooked(entry=entry)
            | IouKept(entry=entry)
            | IouGiven(entry=entry)
            | DisputeSettled(entry=entry)
        ):
            return entry.peer
        case _:
            raise TypeError(f"no event of the accounts: {event!r}")


# ------------------------------------------------------------------------------------------------------------------ table

_ROWS: Final[dict[type[Stimulus], Row[Accounts]]] = {
    EntryWritten: Row(
        _note,
        "is in the live book from now on; a repeat changes nothing. Who gave a receipt is told again what it was forgiven, until it confirms that",
    ),
    PaymentNoted: Row(_pay, "what is owed changes by it; a repeat of the same payment changes nothing"),
    LimitWished: Row(_limit, "holds from the next request on"),
    DebtLimitWished: Row(_limit_debt, "holds from the next commit on"),
    IouSigned: Row(_give, "sent to the creditor, unless the amount it is over has changed meanwhile"),
    IouHeard: Row(
        _keep,
        "kept, if it is genuine, newer than the last, and takes nothing back; it moves what is owed, and changes nothing of it. "
        "Its debtor is told again what it was forgiven, until it confirms that",
    ),
    ForgiveWished: Row(_forgive, "what was in dispute is asked no more, and was not earned; its debtor is told"),
    AcceptWished: Row(
        _accept, "what was in dispute is owed, and its provider gets a receipt that says so; a repeat sends it again"
    ),
    LateReceiptHeard: Row(
        _hear_acceptance,
        "what was in dispute is owed, if the receipt accepts all of it; if it was forgiven, and the receipt answers that and does not, "
        "the debtor knows",
    ),
    ClaimStated: Row(_hear_forgiveness, "a dispute is over, if no more is asked than was accepted"),
    PeerRenamed: Row(_inherit, "what it owed under the old name it owes under the new one"),
}

TABLE: Final[Table[Accounts]] = {(AccountsPhase.OPEN, kind): row for kind, row in _ROWS.items()}
