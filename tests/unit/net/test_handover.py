"""Sockets handed over beside the pipe."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from dms.net.handover import hand_over, receive


@pytest.fixture
def beside() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (ours, theirs):
        end.setblocking(False)
    with ours, theirs:
        yield ours, theirs


def test_each_comes_with_its_number_in_order(beside: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = beside
    for number in (7, -1):
        given, kept = socket.socketpair()
        with given, kept:
            assert hand_over(ours, number, given)
            taken = receive(theirs)
            assert taken is not None
            assert taken[0] == number
            assert taken[1] is not None
            with taken[1] as end:
                kept.send(b"through")
                assert end.recv(7) == b"through"
                assert not end.get_inheritable()
    with pytest.raises(BlockingIOError):
        receive(theirs)


def test_a_number_without_a_socket_is_said_so(beside: tuple[socket.socket, socket.socket]) -> None:
    """The kernel drops the socket where the receiver may have no further descriptor."""
    ours, theirs = beside
    ours.send((3).to_bytes(8, "big"))
    assert receive(theirs) == (3, None)


def test_the_end_is_said_on_both_sides(beside: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = beside
    theirs.shutdown(socket.SHUT_RDWR)
    assert not hand_over(ours, 1, ours)
    assert receive(theirs) is None
