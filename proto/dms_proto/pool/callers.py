"""Who may call the services of a node, what they pay, and how far they go before others. Pure.

Calls are taken under a grant alone, whatever the market takes: who calls makes the node write of it, again and again, and that is to be somebody whom
its owner has let in. The owner's own machines need none, as everywhere.
"""

from __future__ import annotations

from typing import Final

from dms_proto.capability import JobClass, Price, Resources
from dms_proto.errors import UserError
from dms_proto.grants.access import Access, Credential, in_words, refusals
from dms_proto.grants.rights import CALL
from dms_proto.ids import PeerId
from dms_proto.market import gpus
from dms_proto.market.offer_judgement import is_known
from dms_proto.market.offer_state import OfferBook
from dms_proto.market.preferences import RequesterFacts
from dms_proto.pool.records import Service
from dms_proto.pool.refusals import Code, Refusal
from dms_proto.pool.services import Services

OWN_TIER: Final = 1
"""The owner's own machines go before all others."""


def tier_of_caller(book: OfferBook, peer: PeerId, credential: Credential) -> int:
    """How far a caller goes before others in the pool."""
    return OWN_TIER if is_known(book, peer) or credential.own else 0


def missing_right(book: OfferBook, peer: PeerId, credential: Credential) -> str:
    """What a peer lacks to call services here, in words; empty: nothing."""
    if is_known(book, peer):
        return ""
    access = Access.OWN if book.policy.access is Access.OWN else Access.AUTHORISED
    missing = next(refusals(access, ({"kind": CALL},), credential), None)
    return "" if missing is None else f"calls take a grant: {in_words(missing)}"


def tariff_for(book: OfferBook, peer: PeerId, credential: Credential) -> Price:
    """What a peer pays for the container that works on its calls."""
    facts = RequesterFacts(peer, own=is_known(book, peer) or credential.own)
    return book.policy.tariff_for(facts, (JobClass.SERVICE,), 0)


def tariff_of(tariff: Price, size: Resources, capacity: Resources) -> Price:
    """A tariff as one for containers of a size: of a hardware instance that the pool would give, only its part of a card costs anything."""
    return gpus.tariff_for(tariff, gpus.assign_gpus(size.gpus, capacity.gpus) or size.gpus)


def admitted(book: OfferBook, services: Services, peer: PeerId, name: str, credential: Credential) -> Service:
    """The service that a peer may call.

    Args:
        book: of the node; whose machines are its owner's.
        services: of the node.
        peer: who calls, proven.
        name: of the service.
        credential: what the peer has shown.

    Raises:
        UserError: `not_granted`; `not_found`, for who may call.
    """
    if missing := missing_right(book, peer, credential):
        raise UserError("not_granted", missing)
    found = services.by_name.get(name)
    if found is None or not found.is_offered:
        offered = ", ".join(each.name for each in services.offered) or "none"
        raise UserError("not_found", f"the service {name} is not offered there; offered are: {offered}"[:400])
    return found.service


def call_refused(refusal: Refusal) -> UserError:
    """What who calls is told of the pool's refusal."""
    told = refusal.outward
    nearest = f"; nearest: {told.nearest}" if told.nearest else ""
    if told.code is Code.NOT_AGREED:
        return UserError("tab_wanted", told.why)
    return UserError("call_refused", f"{told.why}{nearest}", retryable=bool(told.wait_ms))
