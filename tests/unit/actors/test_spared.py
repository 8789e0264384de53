"""Who is asked for no proof of work: whom the owner has named, and who has shown a grant, for as long as either counts."""

from __future__ import annotations

from dms_actors.spared import Spared
from dms_actors.strangers import NO_END, Strangers
from dms_proto.ids import PeerId

A, B = PeerId("a"), PeerId("b")
NOW = 1_000


class Door:
    """What the door has been told last of each peer: until when it is asked for nothing."""

    def __init__(self) -> None:
        self.strangers = Strangers()
        self.until: dict[PeerId, int] = {}
        self.told = 0
        self.spared = Spared(self.strangers, self.spare)

    def spare(self, peer: PeerId, until: int) -> None:
        self.told += 1
        self.until[peer] = until

    def show(self, peer: PeerId, until: int) -> None:
        """As the node does it with each message that comes with a grant."""
        if self.strangers.showed_grant(peer, until):
            self.spared.settle((peer,), NOW)


def test_who_is_named_is_spared_until_it_is_named_no_longer() -> None:
    door = Door()
    door.spared.name({A: 0, B: 5_000}, NOW)
    assert door.until == {A: NO_END, B: 5_000}
    door.spared.name({A: 0}, NOW)
    assert door.until == {A: NO_END, B: NOW}


def test_the_door_is_told_of_changes_only() -> None:
    door = Door()
    for _ in range(3):
        door.spared.name({A: 0}, NOW)
        door.show(B, 5_000)
    assert door.told == 2


def test_of_a_name_and_a_grant_that_was_shown_the_later_counts() -> None:
    door = Door()
    door.spared.name({A: 0, B: 5_000}, NOW)
    door.show(A, 5_000)
    door.show(B, 9_000)
    assert door.until == {A: NO_END, B: 9_000}
    door.spared.name({}, NOW)
    assert door.until == {A: 5_000, B: 9_000}


def test_once_grants_are_doubted_only_who_is_named_is_spared() -> None:
    door = Door()
    door.spared.name({A: 5_000}, NOW)
    door.show(A, 0)
    door.show(B, 0)
    door.spared.settle(door.strangers.doubt_grants(), NOW)
    assert door.until == {A: 5_000, B: NOW}
    door.show(B, 0)
    assert door.until[B] == NO_END
