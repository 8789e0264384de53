"""Siblings: the allocations of one job that find each other under names. What they are called, and who counts as one. Pure.

::

    program ──▶ 1.job.internal:8080 ──▶ a listener on the sandbox's own loopback, at an address for each sibling
                                        ──▶ its node asks the requester for the roll: which allocation is number 1 now, and where
                                        ──▶ tunnel to that node, in the name of this allocation
                                        ──▶ which asks the requester for the roll: is that one of them?

So the requester says who is whom, to each of its providers over the connection that proves both, and nothing that is shown has to be signed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Final, NamedTuple

import msgspec

from dms_proto.abilities import Ability, lack
from dms_proto.ids import AllocationId, PeerId
from dms_proto.rules import Address, GoodAllocationId, GoodPeerId
from dms_proto.units import format_count

DOMAIN: Final = "job.internal"
"""Below `internal`, which no name service of the internet has."""
MOST_WAYS: Final = 250
"""Ports of siblings that one allocation has to listen for: so many descriptors go in one message of the kernel's."""
MOST_ADDRESSES: Final = 4
"""Of one provider that are told."""
OWN_ADDRESS: Final = "127.0.0.1"
"""At which a program listens, for its siblings as for tunnels."""
_DESTINATION: Final = re.compile(rf"([0-9]{{1,3}})\.{re.escape(DOMAIN)}:([0-9]{{1,5}})", re.ASCII)
Number = Annotated[int, msgspec.Meta(ge=0, le=MOST_WAYS)]


class Names(msgspec.Struct, frozen=True, omit_defaults=True):
    """Under which number an allocation is found by its siblings.

    Attributes:
        index: its own.
        count: of all of them, itself included; 0: it has no siblings, or knows none by name.
    """

    index: Number = 0
    count: Annotated[int, msgspec.Meta(ge=0, le=MOST_WAYS + 1)] = 0


NO_NAMES: Final = Names()


class Way(NamedTuple):
    """A port of a sibling, as a program names it."""

    to: int
    port: int

    @property
    def destination(self) -> str:
        """By name."""
        return f"{name_of(self.to)}:{self.port}"

    @property
    def address(self) -> str:
        """Where that leads, on the loopback of the others."""
        return f"{address_of(self.to)}:{self.port}"


def read_way(destination: str) -> Way:
    """The way that is written so.

    Raises:
        ValueError: none is.
    """
    found = _DESTINATION.fullmatch(destination)
    if found is None:
        raise ValueError(f"{destination!r} is no port of a sibling")
    return Way(int(found[1]), int(found[2]))


class Sibling(msgspec.Struct, frozen=True):
    """One entry of a roll.

    Attributes:
        index: its number in the job.
        allocation_id: what runs as that number now.
        provider: where.
        addresses: where that may be dialled.
    """

    index: Number
    allocation_id: GoodAllocationId
    provider: GoodPeerId
    addresses: Annotated[tuple[Address, ...], msgspec.Meta(max_length=MOST_ADDRESSES)] = ()


class Roll(msgspec.Struct, frozen=True):
    """The allocations of one job that have a provider now, as its requester says."""

    siblings: Annotated[tuple[Sibling, ...], msgspec.Meta(max_length=MOST_WAYS + 1)] = ()

    def at(self, index: int) -> Sibling | None:
        """Who has that number now."""
        return next((sibling for sibling in self.siblings if sibling.index == index), None)

    def has(self, allocation_id: AllocationId, provider: PeerId) -> bool:
        """Whether that allocation is one of them, and that provider's."""
        return any(known.allocation_id == allocation_id and known.provider == provider for known in self.siblings)


def name_of(index: int) -> str:
    """What a sibling is called."""
    return f"{index}.{DOMAIN}"


def address_of(index: int) -> str:
    """The address of a sibling on the loopback of every other one."""
    return f"127.1.0.{index + 1}"


def ways(names: Names, ports: tuple[int, ...]) -> Iterator[Way]:
    """What an allocation has to listen for, of all its siblings."""
    for index in range(names.count):
        if index != names.index:
            yield from (Way(index, port) for port in ports)


def hosts_of(names: Names) -> str:
    """Its lines of /etc/hosts."""
    addresses = (OWN_ADDRESS if index == names.index else address_of(index) for index in range(names.count))
    return "".join(f"{address} {name_of(index)}\n" for index, address in enumerate(addresses))


def flaw_of(executor: str, count: int, ports: int, *, is_checked: bool = False) -> str:
    """Why a job cannot have names, or "".

    Args:
        executor: that runs it.
        count: of its allocations.
        ports: how many each declares.
        is_checked: its results are, by copies.
    """
    if lacking := lack(executor, Ability.NAMES):
        return lacking
    if not ports:
        return "they lead to ports: declare in `ports` what the job's allocations reach of each other"
    if is_checked:
        return "copies of one piece of work would go by one name; leave `verify` out"
    wanted = (count - 1) * ports
    if wanted > MOST_WAYS:
        return f"each allocation would listen for {format_count(wanted, 'port')} of others, {MOST_WAYS} are the most"
    return ""
