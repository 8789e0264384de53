"""The agreements that the frames of a file prove: each by the right signer, under one set of terms, with figures that fit, in order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from dms.audit.faults import Fault, FaultCode
from dms.audit.lines import Entry
from dms.audit.proofs import Proof, event_of
from dms.audit.report import Agreed, Run
from dms_proto.allocation.events import AllocationEnded, ReceiptDisputed
from dms_proto.capability import Capability
from dms_proto.ids import AllocationId, BidId, PeerId, allocation_id, bid_id
from dms_proto.market.agreement import agreement_on, differences, limits_of, terms_digest
from dms_proto.market.auction_events import AllocationFinished, AttemptEnded, AwardMade, RequestOpened, ResultJudged
from dms_proto.market.second_price import check_award, check_opening, words_of
from dms_proto.messages import (
    AllocationStatus,
    Award,
    Bid,
    BidRequest,
    Closing,
    Commit,
    CommitAck,
    Pricing,
    Receipt,
    SealedBid,
)
from dms_proto.units import format_count, format_credits
from dms_proto.wire import CLOCK_SKEW_MS
from dms_proto.work import Logs


class Asked(NamedTuple):
    """Who asks for what."""

    requester: PeerId
    needs: Capability
    pricing: Pricing


class Deal(NamedTuple):
    """The frames about one bid, and what it was made for."""

    asked: Asked
    request: Proof | None
    bid: Proof
    commit: Proof
    ack: Proof | None
    sealed: Proof | None
    closing: Proof | None
    ended: dict[str, Proof]
    receipts: dict[str, Proof]

    @property
    def price(self) -> int:
        """Micro-credits for one allocation at most."""
        award: Award | None = self.commit.message.award
        price: int = award.price if award is not None else self.bid.message.price
        return price

    @property
    def allocations(self) -> dict[AllocationId, int]:
        """What the commit is for: allocations and their slots."""
        commit: Commit = self.commit.message
        return {allocation_id(commit.bid_id, slot): slot for slot in commit.slots}


def check(entries: Sequence[Entry], proofs: Sequence[Proof]) -> tuple[tuple[Agreed, ...], tuple[Fault, ...]]:
    """The agreements, and everything wrong with them."""
    found = tuple(_deals(entries, proofs))
    faults = [fault for deal in found for fault in _faults(deal)]
    faults += _strays(found, proofs)
    faults += _baseless(found, proofs)
    faults += _told_otherwise(entries, proofs)
    return tuple(_agreed(deal) for deal in found), tuple(faults)


# ---------------------------------------------------------------------------------------------------------------- gathering


def _deals(entries: Sequence[Entry], proofs: Sequence[Proof]) -> Iterator[Deal]:
    bids = _first(proofs, Bid)
    requests = {proof.message.round: proof for proof in proofs if isinstance(proof.message, BidRequest)}
    acks, ended, receipts = _first(proofs, CommitAck), _first(proofs, AllocationStatus), _first(proofs, Receipt)
    seals = _first(proofs, SealedBid)
    for id_, commit in _first(proofs, Commit).items():
        bid = bids.get(id_)
        request = requests.get(bid.message.round) if bid is not None else None
        asked = _asked(entries, request)
        if bid is not None and asked is not None:
            sealed = seals.get(id_)
            closing = _closing(proofs, sealed) if sealed is not None else None
            yield Deal(asked, request, bid, commit, acks.get(id_), sealed, closing, ended, receipts)


def _closing(proofs: Iterable[Proof], sealed: Proof) -> Proof | None:
    """The first list with this seal on it that its bidder was shown."""
    return next(
        (
            proof
            for proof in proofs
            if isinstance(proof.message, Closing)
            and proof.to == sealed.sender
            and sealed.message.seal in proof.message.seals
        ),
        None,
    )


def _first(
    proofs: Iterable[Proof], kind: type[Bid | SealedBid | Commit | CommitAck | AllocationStatus | Receipt]
) -> dict[str, Proof]:
    """Of each bid or allocation the first frame of a kind: repeats are no news."""
    of = "allocation_id" if kind in (AllocationStatus, Receipt) else "bid_id"
    found: dict[str, Proof] = {}
    for proof in proofs:
        if isinstance(proof.message, kind):
            found.setdefault(getattr(proof.message, of), proof)
    return found


def _asked(entries: Iterable[Entry], request: Proof | None) -> Asked | None:
    """As the requester's own log says, or as the request that a provider was sent."""
    if request is not None:
        return Asked(request.sender, request.message.needs, request.message.pricing)
    opened = next(filter(None, (event_of(entry, RequestOpened) for entry in entries)), None)
    if opened is None:
        return None
    return Asked(opened.terms.requester, opened.terms.needs, opened.terms.pricing)


# ----------------------------------------------------------------------------------------------------------------- checking


def _faults(deal: Deal) -> Iterator[Fault]:
    yield from _signers(deal)
    yield from _terms(deal)
    yield from _second_price(deal)
    yield from _figures(deal)
    yield from _order(deal)


def _signers(deal: Deal) -> Iterator[Fault]:
    """The id of a bid names its provider; the request names its requester; everything else is between the two."""
    bid: Bid = deal.bid.message
    requester, provider = deal.asked.requester, deal.bid.sender
    if bid.bid_id != bid_id(bid.request_id, provider, bid.number):
        yield Fault(
            FaultCode.WRONG_SIGNER, deal.bid.line, f"{provider} has signed the bid {bid.bid_id} of another node"
        )
    provided = [deal.sealed, deal.bid, deal.ack, *(deal.ended.get(id_) for id_ in deal.allocations)]
    required = [deal.closing, deal.commit, *(deal.receipts.get(id_) for id_ in deal.allocations)]
    for side, other, proofs in ((provider, requester, provided), (requester, provider, required)):
        for proof in proofs:
            if proof is not None and (proof.sender, proof.to) != (side, other):
                what = (
                    f"a {type(proof.message).__name__} from {proof.sender} to {proof.to}; it is from {side} to {other}"
                )
                yield Fault(FaultCode.WRONG_SIGNER, proof.line, what)


def _terms(deal: Deal) -> Iterator[Fault]:
    commit: Commit = deal.commit.message
    needs, requester = deal.asked.needs, deal.asked.requester
    agreed = agreement_on(deal.bid.message, needs, requester, deal.bid.sender, commit.slots, award=commit.award)
    terms = terms_digest(agreed)
    for proof in (deal.commit, deal.ack):
        if proof is not None and proof.message.terms != terms:
            what = f"the {type(proof.message).__name__} is for other terms than request and bid give ({terms})"
            yield Fault(FaultCode.TERMS_DIFFER, proof.line, what)
    if deal.commit.sent_ms > agreed.valid_until + CLOCK_SKEW_MS:
        late = deal.commit.sent_ms - agreed.valid_until
        yield Fault(FaultCode.EXPIRED, deal.commit.line, f"the bid was taken {late} ms after its validity")


def _second_price(deal: Deal) -> Iterator[Fault]:
    """What is paid follows from a list that was closed before the bid was open; no log and no clock is believed for it."""
    bid: Bid = deal.bid.message
    commit: Commit = deal.commit.message
    is_second = deal.asked.pricing is Pricing.SECOND_PRICE
    if not is_second and not bid.salt and commit.award is None:
        return
    if not is_second or not bid.salt:
        what = "bids are sealed exactly where the request is for a second price; this one is not"
        yield Fault(FaultCode.PRICE_UNPROVEN, deal.bid.line, what)
        return
    if deal.sealed is None:
        yield Fault(FaultCode.MISSING, deal.bid.line, f"the signed SealedBid of {bid.bid_id} is missing")
        return
    sealed: SealedBid = deal.sealed.message
    broken = check_opening(sealed, bid, deal.bid.sender)
    if broken is not None:
        yield Fault(FaultCode.SEAL_DIFFERS, deal.bid.line, f"the bid {bid.bid_id} is not what was sealed: {broken}")
    if deal.request is not None and deal.request.message.max_price != sealed.max_price:
        yield Fault(FaultCode.FIGURES_DIFFER, deal.sealed.line, "it was sealed under another price than the request's")
    if deal.closing is None:
        yield Fault(FaultCode.MISSING, deal.bid.line, f"the signed Closing with the seal of {bid.bid_id} is missing")
        return
    wrong = check_award(bid, deal.bid.sender, sealed.max_price, deal.closing.message.seals, commit.award)
    if wrong is not None:
        yield Fault(FaultCode.PRICE_UNPROVEN, deal.commit.line, f"the price does not follow from the list: {wrong}")


def _figures(deal: Deal) -> Iterator[Fault]:
    bid: Bid = deal.bid.message
    commit: Commit = deal.commit.message
    if len(commit.slots) > bid.slots:
        yield Fault(
            FaultCode.FIGURES_DIFFER,
            deal.commit.line,
            f"{format_count(len(commit.slots), 'slot is', 'slots are')} taken of {bid.slots}",
        )
    if deal.request is not None and bid.price > deal.request.message.max_price:
        yield Fault(FaultCode.FIGURES_DIFFER, deal.bid.line, "the bid asks for more than the request offers")
    if deal.ack is not None and deal.ack.message.allocation_ids != tuple(deal.allocations):
        yield Fault(FaultCode.FIGURES_DIFFER, deal.ack.line, "the CommitAck names other allocations than the commit's")


def _order(deal: Deal) -> Iterator[Fault]:
    ways: list[tuple[Proof | None, ...]] = [(deal.request, deal.sealed, deal.closing, deal.bid, deal.commit, deal.ack)]
    ways += [(deal.commit, deal.ended.get(id_), deal.receipts.get(id_)) for id_ in deal.allocations]
    for way in ways:
        for before, after in pairwise(proof for proof in way if proof is not None):
            if after.line < before.line:
                kinds = type(after.message).__name__, type(before.message).__name__
                yield Fault(FaultCode.REORDERED, after.line, f"the {kinds[0]} stands before the {kinds[1]} it follows")


def _strays(found: Sequence[Deal], proofs: Sequence[Proof]) -> Iterator[Fault]:
    """Statements and receipts for allocations that no commit here is for."""
    known = {id_ for deal in found for id_ in deal.allocations}
    for proof in proofs:
        if isinstance(proof.message, AllocationStatus | Receipt) and proof.message.allocation_id not in known:
            kind = type(proof.message).__name__
            yield Fault(
                FaultCode.MISSING, proof.line, f"the Commit of the allocation that the {kind} is about is missing"
            )


def _baseless(found: Sequence[Deal], proofs: Sequence[Proof]) -> Iterator[Fault]:
    """Commits of which nobody can say what they are for."""
    known = {deal.commit.message.bid_id for deal in found}
    for id_, commit in _first(proofs, Commit).items():
        if id_ not in known:
            yield Fault(
                FaultCode.MISSING, commit.line, f"the bid {id_} that was taken, or the request it answers, is missing"
            )


def _told_otherwise(entries: Sequence[Entry], proofs: Sequence[Proof]) -> Iterator[Fault]:
    """Where the exporter's own account does not say what was signed."""
    commits = _first(proofs, Commit)
    ended, receipts = _first(proofs, AllocationStatus), _first(proofs, Receipt)
    judged = filter(None, (event_of(entry, ResultJudged) for entry in entries))
    wrong = {answer.allocation_id for event in judged for answer in event.wrong}
    for entry in entries:
        told: tuple[Proof | None, bool] = (None, True)
        if (finished := event_of(entry, AllocationFinished)) is not None:
            status = ended.get(finished.status.allocation_id)
            told = status, status is None or finished.status == status.message
        elif (award := event_of(entry, AwardMade)) is not None:
            commit = next((commits[bid_id] for bid_id, _ in award.taken if bid_id in commits), None)
            told = commit, commit is None or award.paid == commit.message.award
        elif (over := event_of(entry, AllocationEnded)) is not None:
            status = ended.get(entry.row.stream)
            figures = (over.ending, over.outputs, over.log_bytes, over.log_digests, over.price)
            told = status, status is None or figures == _figures_of(status.message)
        elif (closed := event_of(entry, AttemptEnded)) is not None and closed.provider:
            receipt = receipts.get(closed.allocation_id)
            owed = 0 if closed.allocation_id in wrong else closed.price
            told = receipt, receipt is None or owed == receipt.message.price
        elif (disputed := event_of(entry, ReceiptDisputed)) is not None:
            receipt = receipts.get(entry.row.stream)
            told = receipt, receipt is None or disputed.receipt == receipt.message
        proof, agrees = told
        if proof is not None and not agrees:
            what = f"event {entry.row.seq} ({entry.row.kind}) does not say what the signed {type(proof.message).__name__} says"
            yield Fault(FaultCode.FIGURES_DIFFER, entry.line, what)


def _figures_of(status: AllocationStatus) -> tuple[object, ...]:
    return status.ending, status.outputs, status.log_bytes, status.log_digests, status.price


# ------------------------------------------------------------------------------------------------------------------ telling


def _agreed(deal: Deal) -> Agreed:
    bid: Bid = deal.bid.message
    return Agreed(
        bid_id=BidId(bid.bid_id),
        provider=deal.bid.sender,
        requester=deal.asked.requester,
        terms=deal.commit.message.terms,
        is_acknowledged=deal.ack is not None and deal.ack.message.terms == deal.commit.message.terms,
        price=deal.price,
        because=words_of(deal.commit.message.award) if deal.commit.message.award is not None else "",
        limits=limits_of(deal.asked.needs.resources),
        wall_ms=deal.asked.needs.max_wall_ms,
        valid_until=bid.valid_until,
        runs=tuple(_run(deal, id_, slot) for id_, slot in deal.allocations.items()),
    )


def _run(deal: Deal, id_: AllocationId, slot: int) -> Run:
    ended, receipt = deal.ended.get(id_), deal.receipts.get(id_)
    if ended is None or ended.message.ending is None:
        return Run(id_, slot)
    status: AllocationStatus = ended.message
    disputed = differences(status, receipt.message) if receipt is not None else ()
    agreed = deal.price
    if status.price > agreed:
        disputed += (
            f"the provider claims {format_credits(status.price)}, agreed were at most {format_credits(agreed)}",
        )
    return Run(
        allocation_id=id_,
        slot=slot,
        reason=status.ending.reason if status.ending is not None else None,
        usage=status.usage,
        claimed=status.price,
        confirmed=receipt.message.price if receipt is not None else None,
        disputed=disputed,
        logs=Logs(status.log_bytes, status.log_digests),
    )
