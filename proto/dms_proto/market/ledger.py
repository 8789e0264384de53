"""The capacity ledger: who holds what of a machine.

The law, in every dimension and after every change::

    registered = available + locked + allocated,   and nothing is negative

A capability lock stands behind every bid; a commit turns it into reservations in the same step. The ledger is a value: each operation
gives the next one or raises `ValueError`, which is a defect of the caller, never an outcome.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

import msgspec

from dms_proto.capability import NOTHING, Price, Resources
from dms_proto.ids import AllocationId, BidId, Digest, PeerId, RequestId
from dms_proto.market.arithmetic import add, fits_within, subtract

K = TypeVar("K")
V = TypeVar("V")


class CapabilityLock(msgspec.Struct, frozen=True, omit_defaults=True):
    """Capacity held for a bid.

    Attributes:
        bid_id: the bid, and the lock's own name.
        request_id: whom for: the request.
        requester: and its node.
        slots: what each of the offered allocations would get; GPUs name their device.
        wall_ms: the run time the price was made for.
        expires_at: Unix ms; includes the grace for a commit on its way.
        request: `agreement.request_digest` of what was asked.
        valid_until: Unix ms until which the bid binds; 0 for what the owner holds back.
        most: of a sealed bid, micro-credits that a slot may come to be paid.
        lends: the CPU is lent once the bid is taken; see `offer_lending`.
    """

    bid_id: BidId
    request_id: RequestId
    requester: PeerId
    slots: tuple[Resources, ...]
    tariff: Price
    price: int
    wall_ms: int
    expires_at: int
    request: Digest = Digest("")
    valid_until: int = 0
    most: int = 0
    lends: bool = False

    @property
    def stake(self) -> int:
        """Micro-credits that may become owed if all of it is taken."""
        return max(self.price, self.most) * len(self.slots)

    @property
    def amount(self) -> Resources:
        """The sum over the slots."""
        return total(self.slots)


class Reservation(msgspec.Struct, frozen=True, omit_defaults=True):
    """Capacity held by an allocation, under the terms of its bid, or of the last change of its size.

    Attributes:
        change: number of the last change that was taken; 0: none.
        terms: `agreement.resize_digest` of it.
        lent: its CPU is, and counts as available; see `offer_lending`.
        is_changing: it is under way: `resources` are the larger of before and after.
    """

    allocation_id: AllocationId
    bid_id: BidId
    request_id: RequestId
    requester: PeerId
    slot: int
    resources: Resources
    tariff: Price
    price: int
    wall_ms: int
    lent: bool = False
    change: int = 0
    terms: Digest = Digest("")
    is_changing: bool = False

    @property
    def held(self) -> Resources:
        """What nobody else can have meanwhile."""
        return msgspec.structs.replace(self.resources, cpu_millicores=0) if self.lent else self.resources


class Ledger(msgspec.Struct, frozen=True):
    """Registered capacity and what of it is locked and allocated. `available` is kept, and checked against the law by `check`."""

    registered: Resources = NOTHING
    available: Resources = NOTHING
    locks: Mapping[BidId, CapabilityLock] = {}
    reservations: Mapping[AllocationId, Reservation] = {}

    def register(self, registered: Resources) -> Ledger:
        """Sets the registered capacity. What is held stays held.

        Raises:
            ValueError: less than what is held now.
        """
        return msgspec.structs.replace(self, registered=registered, available=subtract(registered, self.held))

    def lock(self, lock: CapabilityLock) -> Ledger:
        """Adds a lock. Raises ValueError when it does not fit or exists."""
        if lock.bid_id in self.locks:
            raise ValueError(f"{lock.bid_id} is locked already")
        return msgspec.structs.replace(
            self, available=subtract(self.available, lock.amount), locks={**self.locks, lock.bid_id: lock}
        )

    def unlock(self, bid_id: BidId) -> Ledger:
        """Gives a lock's capacity back. Raises KeyError when there is none."""
        lock = self.locks[bid_id]
        return msgspec.structs.replace(
            self, available=add(self.available, lock.amount), locks=without(self.locks, bid_id)
        )

    def commit(self, bid_id: BidId, reservations: Iterable[Reservation]) -> Ledger:
        """Turns a lock into reservations; what they do not use is free again.

        Raises:
            KeyError: no such lock.
            ValueError: the reservations are more than the lock.
        """
        unlocked = self.unlock(bid_id)
        wanted = tuple(reservations)
        amount = total(reservation.held for reservation in wanted)
        if not fits_within(amount, self.locks[bid_id].amount):
            raise ValueError(f"{bid_id} has not that much locked")
        return msgspec.structs.replace(
            unlocked,
            available=subtract(unlocked.available, amount),
            reservations={**self.reservations, **{reservation.allocation_id: reservation for reservation in wanted}},
        )

    def free(self, allocation_id: AllocationId) -> Ledger:
        """Gives an allocation's capacity back. Raises KeyError when it holds none."""
        amount = self.reservations[allocation_id].held
        return msgspec.structs.replace(
            self, available=add(self.available, amount), reservations=without(self.reservations, allocation_id)
        )

    def resize(self, changed: Reservation) -> Ledger:
        """Lets an allocation hold more, or less.

        Raises:
            KeyError: it holds nothing.
            ValueError: there is not as much.
        """
        held = self.reservations[changed.allocation_id].held
        return msgspec.structs.replace(
            self,
            available=subtract(add(self.available, held), changed.held),
            reservations={**self.reservations, changed.allocation_id: changed},
        )

    @property
    def locked(self) -> Resources:
        """The sum of all locks."""
        return total(lock.amount for lock in self.locks.values())

    @property
    def allocated(self) -> Resources:
        """The sum of all reservations."""
        return total(reservation.held for reservation in self.reservations.values())

    @property
    def held(self) -> Resources:
        """Locked and allocated together."""
        return add(self.locked, self.allocated)

    def check(self) -> None:
        """Raises AssertionError when the capacity law is broken."""
        recomputed = subtract(self.registered, self.held)  # raises when held is more than registered
        assert recomputed == self.available, f"capacity law broken: available {self.available}, should be {recomputed}"


def total(amounts: Iterable[Resources]) -> Resources:
    """The sum of amounts."""
    result = NOTHING
    for amount in amounts:
        result = add(result, amount)
    return result


def without(mapping: Mapping[K, V], *keys: K) -> dict[K, V]:
    """A copy of `mapping` that lacks `keys`."""
    copy = dict(mapping)
    for key in keys:
        copy.pop(key, None)
    return copy


def remember(table: Mapping[K, V], key: K, value: V, most: int) -> dict[K, V]:
    """A copy of `table` with `key` as its newest; past `most` entries the oldest goes."""
    kept = without(table, key)
    if len(kept) >= most:
        del kept[next(iter(kept))]
    kept[key] = value
    return kept
