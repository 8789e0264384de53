"""Windows: how much of a peer and of a source waits for the node. Who brings more is not read, and nobody else is held up."""

from __future__ import annotations

from dms.net.windows import PEER_SHARE, SOURCE_SHARE, Windows

ALL = 1024
OF_PEER = ALL // PEER_SHARE
OF_SOURCE = ALL // SOURCE_SHARE


def test_who_has_its_share_waiting_has_no_room_and_its_neighbour_has() -> None:
    windows = Windows(ALL)
    windows.read("a", "here", OF_PEER - 1)
    assert windows.has_room("a", "here")  # a frame of any length fits, and is the last one
    windows.read("a", "here", OF_PEER)
    assert not windows.has_room("a", "here")
    assert windows.has_room("b", "here")


def test_a_crowd_of_one_source_has_the_share_of_the_source_and_others_have_room() -> None:
    windows = Windows(ALL)
    crowd = [f"peer {number}" for number in range(PEER_SHARE)]
    read = [peer for peer in crowd if windows.has_room(peer, "here") and windows.read(peer, "here", OF_PEER) is None]
    assert len(read) == OF_SOURCE // OF_PEER
    assert windows.has_room("honest", "there")
    windows.took({read[0]: 1})
    assert windows.has_room(crowd[-1], "here")


def test_who_comes_again_still_has_waiting_what_it_said_before() -> None:
    windows = Windows(ALL)
    windows.read("a", "here", OF_PEER)
    assert not windows.has_room("a", "elsewhere")
    windows.took({"a": OF_PEER})
    assert windows.has_room("a", "elsewhere")


def test_what_was_dealt_with_leaves_nothing_behind_and_no_more_is_given_back_than_was_read() -> None:
    windows = Windows(ALL)
    windows.took({"a": 5})  # of a network process before this one
    windows.read("a", "here", OF_PEER)
    windows.took({"a": 3 * OF_PEER, "": 7})
    assert len(windows) == 0
    windows.read("a", "here", OF_PEER)
    assert not windows.has_room("a", "here")
