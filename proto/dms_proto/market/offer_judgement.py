"""Whether this node would do what is asked, at which tariff, and every reason why not."""

from __future__ import annotations

from typing import Final

import msgspec

from dms_proto.capability import Gpu, Price, Resources
from dms_proto.grants.access import NOTHING_SHOWN, Access, Credential, refusals
from dms_proto.grants.rights import uses_of
from dms_proto.ids import PeerId
from dms_proto.market.arithmetic import fits_within, subtract
from dms_proto.market.comparator import CapabilityComparator, assign_gpus
from dms_proto.market.comparators import judge_by
from dms_proto.market.gpu_shares import share_clauses
from dms_proto.market.gpus import tariff_for
from dms_proto.market.offer_lending import room_for
from dms_proto.market.offer_owner import owner_clauses
from dms_proto.market.offer_state import BookPhase, OfferBook
from dms_proto.market.preferences import ProviderPolicy, RequesterFacts, judge_request
from dms_proto.market.verdicts import MAX_CLAUSES
from dms_proto.messages import (
    BidRequest,
    Clause,
    Pricing,
)
from dms_proto.units import format_bytes, format_cores, format_credits
from dms_proto.work import Task

MAX_SLOTS: Final = 64
"""Slots offered in one bid: bounds the size of a lock."""
MAX_OPEN_BIDS_EACH: Final = 256
"""Bids of ours that one requester may have open; past it, it is declined until it takes or releases some."""
MAX_OPEN_BIDS: Final = 1_024
"""Bids open at once. Bounds the ledger's locks where the capacity would admit thousands of small ones."""
LOG_IS_FULL: Final = Clause(
    "log_budget",
    "room in what this node writes down for strangers",
    "none is left for now: of this requester, of where it comes from, or of all strangers",
    "ask later, show a grant, or be listed by its owner as an own machine",
    passing=True,
)
"""Said to a stranger that is past the log budget (`wire.log_budget`)."""
COMPARATOR: Final = CapabilityComparator()


def countable(resources: Resources) -> Resources:
    """What can be compared without matching devices."""
    return Resources(resources.cpu_millicores, resources.memory_bytes, resources.disk_bytes)


def is_known(book: OfferBook, peer: PeerId) -> bool:
    """Whether a peer is this node, or one that its owner lists: a machine of the same owner, without any grant."""
    return peer == book.me or peer in book.policy.own_peers


def access_to(book: OfferBook, peer: PeerId, resources: Resources) -> Access:
    """What a peer has to show for these resources: nothing, where its owner is this node's."""
    return Access.PUBLIC if is_known(book, peer) else book.policy.access_to(resources)


def judge(
    book: OfferBook, requester: PeerId, request: BidRequest, credential: Credential = NOTHING_SHOWN
) -> Price | tuple[Clause, ...]:
    """The tariff at which this node would do it now, or every reason why not. The same for bids, dry runs and explanations."""
    offered = msgspec.structs.replace(book.capability, resources=room_for(book, request.needs))
    comparison = COMPARATOR.compare(request.needs, offered, total=book.capability.resources)
    facts = RequesterFacts(requester, own=is_known(book, requester) or credential.own)
    terms = judge_request(_policy_for(book, request), request, facts, in_use(book.ledger.registered, offered.resources))
    access = access_to(book, requester, request.needs.resources)
    clauses = () if access is Access.PUBLIC else tuple(refusals(access, uses_of(request), credential))
    clauses += tuple(share_clauses(request.needs.resources.gpus, own=facts.own))
    clauses += tuple(_with_pressure(book, v.clause) for v in comparison.dimensions if v.clause is not None)
    if book.policy.comparator:
        total, name = book.capability.resources, book.policy.comparator
        clauses += judge_by(name, request.needs, offered, total, request.max_price)
    if book.phase is BookPhase.PAUSED:
        clauses += (Clause("accepts_work", "a node that takes work", f"paused: {book.paused_because}", passing=True),)
    clauses += owner_clauses(book)
    if book.phase is BookPhase.STOPPING:
        clauses += (Clause("accepts_work", "a node that takes work", "the node is stopping", passing=True),)
    if isinstance(terms, tuple):
        clauses += terms
    elif requester != book.me:
        cost = terms.cost(request.needs.resources, request.needs.max_wall_ms)
        clauses += _credit_clauses(book, requester, _stake(request, cost))
    clauses += _open_bids(book, requester)
    if not clauses and not isinstance(terms, tuple):
        return terms
    # The machine and its owner may have the same against it: a clause that is there twice looks like two changes.
    return tuple(dict.fromkeys(clauses))[:MAX_CLAUSES]


def _policy_for(book: OfferBook, request: BidRequest) -> ProviderPolicy:
    """The owner's conditions with prices for the GPUs that a request would get: now, or if the machine were free."""
    needs, policy = request.needs.resources.gpus, book.policy
    given = assign_gpus(needs, book.free.gpus) or assign_gpus(needs, book.ledger.registered.gpus)
    if not given:
        return policy
    own = policy.own_tariff and tariff_for(policy.own_tariff, given)
    return msgspec.structs.replace(policy, tariff=tariff_for(policy.tariff, given), own_tariff=own)


def in_use(registered: Resources, free: Resources) -> int:
    """How much of a machine is in use, in thousandths: of the resource that is scarcest."""
    pairs = (
        (registered.cpu_millicores, free.cpu_millicores),
        (registered.memory_bytes, free.memory_bytes),
        (sum(gpu.milli for gpu in registered.gpus), sum(gpu.milli for gpu in free.gpus)),
    )
    return max((1000 * (whole - rest) // whole for whole, rest in pairs if whole), default=0)


def _stake(request: BidRequest, cost: int) -> int:
    """What may become owed for an allocation that is bid at `cost`: for a second price all that the request would pay."""
    return max(cost, request.max_price) if cost and request.pricing is Pricing.SECOND_PRICE else cost


def _credit_clauses(book: OfferBook, requester: PeerId, price: int) -> tuple[Clause, ...]:
    """Why a requester would come to owe too much. What it has running here may yet end cheaper than it could."""
    left = book.credit_left(requester) if price else 0
    if price <= left:
        return ()
    observed = f"{format_credits(max(0, left))} of credit left here: its owner has to pay this node's, or be given a higher limit"
    return (Clause("credit", format_credits(price), observed, passing=price <= book.credit_of(requester)),)


def _open_bids(book: OfferBook, requester: PeerId) -> tuple[Clause, ...]:
    """Nothing, or that as many bids as may be are open: with this requester, or in all."""
    locks = book.ledger.locks
    if len(locks) < MAX_OPEN_BIDS_EACH:
        return ()
    if len(locks) >= MAX_OPEN_BIDS:
        return (Clause("open_bids", f"fewer than {MAX_OPEN_BIDS} bids open", f"{len(locks)} open", passing=True),)
    theirs = sum(lock.requester == requester for lock in locks.values())
    if theirs < MAX_OPEN_BIDS_EACH:
        return ()
    wanted = f"fewer than {MAX_OPEN_BIDS_EACH} bids open with one requester"
    return (Clause("open_bids", wanted, f"{theirs} open", "take or release some", passing=True),)


def _with_pressure(book: OfferBook, clause: Clause) -> Clause:
    """Says so when it is other programs, not our own promises, that stand in the way."""
    used = {
        "cpu": (book.pressure.cpu_millicores, format_cores),
        "memory": (book.pressure.memory_bytes, format_bytes),
        "disk": (book.pressure.disk_bytes, format_bytes),
    }.get(clause.dimension)
    if used is None or used[0] == 0 or not clause.passing:
        return clause
    observed = f"{clause.observed}; other programs use {used[1](used[0])}"
    return msgspec.structs.replace(clause, observed=observed)


def slots_for(request: BidRequest, free: Resources) -> tuple[Resources, ...]:
    """As many of the wanted allocations as fit into `free`, each with its GPUs named. One tariff holds for all, so they are like parts of cards."""
    slots: list[Resources] = []
    need = request.needs.resources
    while len(slots) < min(request.count, MAX_SLOTS):
        gpus: tuple[Gpu, ...] | None = assign_gpus(need.gpus, free.gpus)
        if gpus is None:
            break
        slot = msgspec.structs.replace(need, gpus=gpus)
        if not fits_within(slot, free) or (slots and _parts(slot) != _parts(slots[0])):
            break
        slots.append(slot)
        free = subtract(free, slot)
    return tuple(slots)


def _parts(slot: Resources) -> list[int]:
    return [gpu.part for gpu in slot.gpus]


def task_fits(task: Task, slot: Resources, wall_ms: int) -> bool:
    """Whether a task asks for no more than was locked for it. GPUs are the slot's, whatever the task says of them."""
    asked = msgspec.structs.replace(task.resources, gpus=())
    return (
        fits_within(asked, msgspec.structs.replace(slot, gpus=()))
        and len(task.resources.gpus) <= len(slot.gpus)
        and task.limits.wall_ms <= wall_ms
    )
