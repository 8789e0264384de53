"""Which actor has which id."""

from __future__ import annotations

from typing import Any

from dms_actors.directory import Directory


class Address:
    """Somewhere to write to; refuses when `is_full`."""

    def __init__(self, name: str, *, is_full: bool = False) -> None:
        self.name = name
        self.heard: list[object] = []
        self._is_full = is_full

    def tell(self, message: object) -> bool:
        if not self._is_full:
            self.heard.append(message)
        return not self._is_full

    def ask(self, message: object, timeout: float) -> Any:
        raise NotImplementedError

    def stop(self) -> None:
        raise NotImplementedError


def test_an_actor_is_found_told_and_removed_by_its_id() -> None:
    directory, one = Directory(), Address("one")
    directory.add("1", one)
    assert directory.get("1") is one
    assert directory.tell("1", "hello")
    assert one.heard == ["hello"]
    assert directory.remove("1") is one
    assert directory.get("1") is None


def test_telling_nobody_or_a_full_mailbox_says_so() -> None:
    directory = Directory()
    directory.add("full", Address("full", is_full=True))
    assert not directory.tell("nobody", "hello")
    assert not directory.tell("full", "hello")
    assert directory.remove("nobody") is None


def test_ids_are_in_the_order_of_their_entering() -> None:
    directory = Directory()
    addresses = [Address(name) for name in "cab"]
    for address in addresses:
        directory.add(address.name, address)
    assert directory.ids() == ("c", "a", "b")
    assert list(directory) == addresses


def test_removing_while_walking_through_it_is_safe() -> None:
    directory = Directory()
    for name in "abc":
        directory.add(name, Address(name))
    for address in directory:
        directory.remove(address.name)
    assert directory.ids() == ()
