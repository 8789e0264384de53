"""Who listens hears what it asked for, whoever else does."""

from __future__ import annotations

from dms_actors.listeners import Listeners
from dms_proto.ids import PeerId
from dms_proto.messages import AnyMessage, Probe

PEER = PeerId("peer")
ANSWER = Probe(1, reply=True)


def test_all_that_listen_for_the_same_hear_it() -> None:
    first: list[AnyMessage] = []
    second: list[AnyMessage] = []
    listeners = Listeners()
    listeners.begin("probe:1", lambda _peer, message: first.append(message))
    listeners.begin("probe:1", lambda _peer, message: second.append(message))
    assert listeners.pass_on("probe:1", PEER, ANSWER)
    assert (first, second) == ([ANSWER], [ANSWER])


def test_the_end_of_one_is_not_the_end_of_another() -> None:
    heard: list[AnyMessage] = []

    def leaves(_peer: PeerId, message: AnyMessage) -> None:
        raise AssertionError(f"has left, and hears {message!r}")

    def stays(_peer: PeerId, message: AnyMessage) -> None:
        heard.append(message)

    listeners = Listeners()
    listeners.begin("probe:1", leaves)
    listeners.begin("probe:1", stays)
    listeners.end("probe:1", leaves)
    listeners.end("probe:1", leaves)
    assert listeners.pass_on("probe:1", PEER, ANSWER)
    assert heard == [ANSWER]


def test_nobody_listens_for_what_nobody_asked_or_any_more() -> None:
    heard: list[AnyMessage] = []

    def hear(_peer: PeerId, message: AnyMessage) -> None:
        heard.append(message)

    listeners = Listeners()
    listeners.begin("probe:1", hear)
    assert not listeners.pass_on("probe:2", PEER, ANSWER)
    listeners.end("probe:1", hear)
    assert not listeners.pass_on("probe:1", PEER, ANSWER)
    assert not heard
