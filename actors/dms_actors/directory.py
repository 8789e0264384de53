"""Which actor has which id. Written by the node actor alone, read from every thread."""

from __future__ import annotations

from collections.abc import Iterator

from dms_actors.behaviour import Address


class Directory:
    """Ids to addresses.

    Single operations on a dict are atomic in Python, and no more is needed: an address may have ended by the time it is used in any case,
    and `tell` then says so.
    """

    def __init__(self) -> None:
        self._addresses: dict[str, Address] = {}

    def get(self, id_: str) -> Address | None:
        """The actor's address, or None."""
        return self._addresses.get(id_)

    def tell(self, id_: str, message: object) -> bool:
        """Tells the actor, if there is one."""
        address = self._addresses.get(id_)
        return address is not None and address.tell(message)

    def add(self, id_: str, address: Address) -> None:
        """Enters an actor."""
        self._addresses[id_] = address

    def remove(self, id_: str) -> Address | None:
        """Takes an actor out."""
        return self._addresses.pop(id_, None)

    def ids(self) -> tuple[str, ...]:
        """The ids, oldest first."""
        return tuple(self._addresses)

    def __iter__(self) -> Iterator[Address]:
        return iter(tuple(self._addresses.values()))
