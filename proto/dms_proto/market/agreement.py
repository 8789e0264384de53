"""Agreements: what a commit and its acknowledgement both sign, and what a receipt confirms.

::

    BidRequest, Bid ──▶ Agreement ── terms_digest ──▶ Commit.terms, signed by the requester
                                                 └──▶ CommitAck.terms, signed by the provider
    AllocationStatus with an ending, signed by the provider ── receipt_for ──▶ Receipt, signed by the requester

Each side computes the digest from what it knows itself, so that equal digests under two signatures are one agreement. `proto/README.md` says the
same in words for other implementations.
"""

from __future__ import annotations

from typing import Final

import msgspec

from dms_proto.capability import Capability, Price, Resources
from dms_proto.ids import BidId, Digest, PeerId, RequestId, digest_of
from dms_proto.market.second_price import paid_tariff
from dms_proto.messages import AllocationStatus, Award, Bid, Receipt, Resize
from dms_proto.wire import encoding
from dms_proto.work import EndReason, Output, Usage

REQUEST_DOMAIN: Final = b"dms/request/1\0"
AGREEMENT_DOMAIN: Final = b"dms/agreement/1\0"
RESIZE_DOMAIN: Final = b"dms/resize/1\0"
FIGURES_DOMAIN: Final = b"dms/figures/1\0"
RESULTS_DOMAIN: Final = b"dms/results/1\0"
NO_DIGEST: Final = Digest("")


class Agreement(msgspec.Struct, frozen=True, omit_defaults=True):
    """What requester and provider agree on for the slots of one commit.

    Attributes:
        request_id: the job.
        request: `request_digest` of what was asked. How many allocations a round seeks and what it offers for them changes as slots fill, so these
            are not part of it: the bid's own price and slots are what is agreed.
        bid_id: the bid that was taken.
        provider: who runs it.
        requester: for whom.
        slots: indexes of the request's count that are filled.
        tariff: prices that apply.
        price: micro-credits for one allocation run to `wall_ms`: the most that may become owed for it.
        limits: what each allocation may use. GPUs are as `request` names them: which devices they become is the provider's affair.
        wall_ms: the longest run.
        valid_until: Unix ms by the provider's clock: until then the bid binds.
    """

    request_id: RequestId
    request: Digest
    bid_id: BidId
    provider: PeerId
    requester: PeerId
    slots: tuple[int, ...]
    tariff: Price
    price: int
    limits: Resources
    wall_ms: int
    valid_until: int


def agreement_on(
    bid: Bid,
    needs: Capability,
    requester: PeerId,
    provider: PeerId,
    slots: tuple[int, ...],
    *,
    award: Award | None = None,
) -> Agreement:
    """What taking `bid` for `slots` of a request for `needs` agrees on; at the price of the `award`, if there is one."""
    price = award.price if award is not None else bid.price
    return Agreement(
        request_id=bid.request_id,
        request=request_digest(bid.request_id, needs),
        bid_id=bid.bid_id,
        provider=provider,
        requester=requester,
        slots=slots,
        tariff=paid_tariff(bid.tariff, bid.price, price),
        price=price,
        limits=limits_of(needs.resources),
        wall_ms=needs.max_wall_ms,
        valid_until=bid.valid_until,
    )


def limits_of(resources: Resources) -> Resources:
    """The limits both sides know alike: without GPUs, which name their device at the provider alone."""
    return msgspec.structs.replace(resources, gpus=())


def request_digest(request_id: RequestId, needs: Capability) -> Digest:
    """The name of what a request asks of each allocation."""
    return _digest(REQUEST_DOMAIN, (request_id, needs))


def terms_digest(agreement: Agreement) -> Digest:
    """The name of an agreement: what `Commit.terms` and `CommitAck.terms` carry."""
    return _digest(AGREEMENT_DOMAIN, agreement)


def resize_digest(change: Resize) -> Digest:
    """The name of a change of an allocation's size: what `Resized.terms` carries."""
    return _digest(
        RESIZE_DOMAIN, (change.request_id, change.allocation_id, change.number, change.resources, change.price)
    )


def results_digest(outputs: tuple[Output, ...]) -> Digest:
    """The name of all that a run left; empty when it left nothing. How it comes, by which list of chunks, is no part of it."""
    left = tuple(Output(output.path, output.digest, output.size) for output in outputs)
    return _digest(RESULTS_DOMAIN, left) if left else NO_DIGEST


def receipt_for(status: AllocationStatus, price: int) -> Receipt:
    """What the requester confirms of a status with an ending: the same figures, and the price it owes in its own eyes (micro-credits)."""
    assert status.ending is not None, "a receipt is given for an ending"
    return Receipt(
        request_id=status.request_id,
        allocation_id=status.allocation_id,
        reason=status.ending.reason,
        usage=status.usage,
        price=price,
        results=results_digest(status.outputs),
        log_bytes=status.log_bytes,
        log_digests=status.log_digests,
    )


def unheard(status: AllocationStatus, price: int) -> Receipt:
    """An answer to an ending that was not heard, or not as it is told now: it ends the repeating, and confirms nothing but the price that is owed."""
    return Receipt(status.request_id, status.allocation_id, EndReason.PROVIDER_LOST, Usage(), price)


def figures_digest(status: AllocationStatus) -> Digest:
    """The name of what a status with an ending states, but for its price: that may be forgiven later."""
    return _digest(FIGURES_DOMAIN, receipt_for(status, 0))


def differences(status: AllocationStatus, receipt: Receipt) -> tuple[str, ...]:
    """Where a receipt does not say what the status said, one line each; nothing when both sides agree."""
    stated = receipt_for(status, status.price)
    return tuple(
        difference(name, ours, theirs)
        for name in ("reason", "usage", "price", "results", "log_bytes", "log_digests")
        if (ours := getattr(stated, name)) != (theirs := getattr(receipt, name))
    )


def difference(name: str, provider: object, requester: object) -> str:
    """What both sides state of a figure, in a line."""
    return f"{name}: the provider says {provider}, the requester {requester}"


def _digest(domain: bytes, value: object) -> Digest:
    return digest_of(domain + encoding.pack(msgspec.to_builtins(value, builtin_types=(bytes,), order="deterministic")))
