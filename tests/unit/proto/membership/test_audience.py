"""Whom to ask: everybody in a small network, the likeliest few in a large one, by gossip when those are too few."""

import msgspec

from dms_proto.capability import Capability, Gpu, Resources
from dms_proto.ids import PeerId
from dms_proto.market.reach import EVERYBODY
from dms_proto.membership.audience import audience
from dms_proto.membership.machine import Membership, Peer, PeerPhase
from dms_proto.messages import BidRequest, Hello, KnownPeer
from dms_proto.reputation.silence import SetAside, Word
from dms_proto.sim.provider import request
from dms_proto.units import CORE, GIB

ME = PeerId("me")
ASIDE = SetAside(2**60, Word.ANSWER, 1)
PLAIN = Capability(resources=Resources(4 * CORE, 8 * GIB), max_wall_ms=0)
WITH_GPU = Capability(resources=Resources(4 * CORE, 8 * GIB, 0, (Gpu("0", "nvidia", "A100"),)))


def peer(name: str, summary: Capability = PLAIN, *, accepts: bool = True, knows: tuple[str, ...] = ()) -> Peer:
    told = tuple(KnownPeer(PeerId(known), (f"/{known}",)) for known in knows)
    hello = Hello(1, "test", 0, name, name, (), summary, told, accepts)
    return Peer(PeerId(name), PeerPhase.GREETED, hello=hello)


def circle(*peers: Peer) -> Membership:
    return Membership(ME, peers={known.peer: known for known in peers})


def many(count: int, summary: Capability = PLAIN, prefix: str = "p") -> list[Peer]:
    return [peer(f"{prefix}{number}", summary) for number in range(count)]


def wanting_gpu(**changed: object) -> BidRequest:
    return request(gpus=(Gpu(),), **changed)  # type: ignore[arg-type]


def test_in_a_small_network_everybody_is_asked_oneself_included() -> None:
    asked = audience(circle(*many(5)), request(), self_bids=True)

    assert set(asked.direct) == {"p0", "p1", "p2", "p3", "p4", "me"}
    assert asked.known == 6
    assert asked.request.reach == EVERYBODY


def test_who_only_asks_is_not_asked() -> None:
    asked = audience(circle(peer("asks", accepts=False), peer("works")), request(), self_bids=False)

    assert asked.direct == ("works",)


def test_who_is_not_greeted_is_not_asked() -> None:
    away = Peer(PeerId("away"), PeerPhase.MET, hello=peer("away").hello)

    assert audience(circle(away), request(), self_bids=False).direct == ()


def test_in_a_large_network_a_bounded_number_is_asked_other_ones_each_time() -> None:
    members = circle(*many(200))

    first = audience(members, request("one"), self_bids=False)
    second = audience(members, request("two"), self_bids=False)

    assert len(first.direct) == len(second.direct) == 9
    assert set(first.direct) != set(second.direct)
    assert not first.gossip


def test_each_round_asks_more() -> None:
    members = circle(*many(200))

    asked = [len(audience(members, request(round=round_), self_bids=False).direct) for round_ in range(4)]

    assert asked == [9, 36, 144, 200]


def test_those_who_can_do_it_come_first() -> None:
    members = circle(*many(100), *many(3, WITH_GPU, prefix="gpu"))

    asked = audience(members, wanting_gpu(), self_bids=False)

    assert set(asked.direct[:3]) == {"gpu0", "gpu1", "gpu2"}


def test_when_too_few_can_do_it_the_others_are_reached_by_gossip() -> None:
    two, three = (circle(*many(100), *many(number, WITH_GPU, prefix="gpu")) for number in (2, 3))

    assert audience(two, wanting_gpu(), self_bids=False).gossip
    assert not audience(three, wanting_gpu(), self_bids=False).gossip
    assert not audience(two, request(), self_bids=False).gossip


def test_when_the_first_round_found_too_little_the_next_is_gossiped() -> None:
    members = circle(*many(3))

    assert not audience(members, request(), self_bids=False).gossip
    assert audience(members, msgspec.structs.replace(request(), round=1), self_bids=False).gossip


def test_whoever_asks_by_gossip_alone_names_nobody_but_itself() -> None:
    asked = audience(circle(*many(5)), request(), self_bids=True, ask_directly=False)

    assert asked.direct == ("me",)
    assert asked.gossip
    assert asked.known == 6
    assert asked.request.reach == EVERYBODY


def test_by_gossip_alone_a_large_network_answers_no_more_than_otherwise() -> None:
    named = audience(circle(*many(200)), request(), self_bids=False)
    gossiped = audience(circle(*many(200)), request(), self_bids=False, ask_directly=False)

    assert gossiped.request.reach == named.request.reach < EVERYBODY


def test_gossip_reaches_about_as_many_as_are_wanted_of_all_one_has_heard_of() -> None:
    heard = [peer(f"p{number}", knows=tuple(f"far {number} {other}" for other in range(15))) for number in range(20)]

    asked = audience(circle(*heard), wanting_gpu(), self_bids=False)

    assert asked.gossip
    assert asked.known == 20 * 16
    assert 8 < asked.request.reach * asked.known / EVERYBODY < 10


def test_who_was_heard_of_and_not_asked_counts_as_known_without_gossip_too() -> None:
    members = circle(*many(2), peer("p2", knows=("p0", "far")))

    asked = audience(members, request(), self_bids=False)
    passing = audience(members, request(bids_wanted=1), self_bids=False, aside={PeerId("p0"): ASIDE})

    assert not asked.gossip
    assert (len(asked.direct), asked.known) == (3, 4)
    assert not passing.gossip
    assert (len(passing.direct), passing.known) == (2, 4)


def test_the_request_is_otherwise_as_it_was() -> None:
    wanted = request()

    sent = audience(circle(*many(200)), wanted, self_bids=False).request

    assert (sent.needs, sent.round, sent.count, sent.max_price) == (
        wanted.needs,
        wanted.round,
        wanted.count,
        wanted.max_price,
    )


def test_who_is_set_aside_takes_nobodys_place_and_is_asked_where_there_is_nobody_else_or_later() -> None:
    members = circle(*many(200))
    names = {known.peer for known in members.greeted()}
    heard = sorted(names)[:3]

    some = audience(members, request(), self_bids=False, aside=dict.fromkeys(names.difference(heard), ASIDE))
    none = audience(members, request(), self_bids=False, aside=dict.fromkeys(names, ASIDE))

    assert sorted(some.direct) == heard
    assert some.passed_over.keys() == names.difference(heard)
    assert none == audience(members, request(), self_bids=False)
    later = msgspec.structs.replace(request(), round=1)
    assert (
        len(audience(members, later, self_bids=False, aside=dict.fromkeys(names.difference(heard), ASIDE)).direct) > 3
    )


def test_who_is_set_aside_is_not_waited_for_in_the_first_round() -> None:
    """By gossip it hears the request all the same; were it among those who are to answer, each window would stay open to its end for it."""
    members, later = circle(*many(2)), msgspec.structs.replace(request(), round=1)
    silent = members.greeted()[0].peer

    def known(asked: BidRequest) -> int:
        return audience(members, asked, self_bids=False, aside={silent: ASIDE}).known

    assert audience(members, request(), self_bids=False).gossip
    assert known(request()) == 1
    assert known(later) == 2
