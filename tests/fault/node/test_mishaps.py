"""A message that cannot be handled costs whoever sent it, and nobody else: not the node, not the work, not the rest of the mailbox."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dms.testing.guest import Guest
from dms.testing.honest_pair import HonestPair
from dms.testing.strategies import messages
from dms_actors.asking import PACE
from dms_actors.letters import AnnounceWanted, ListenFor, Told
from dms_actors.orchestrator import Orchestrator
from dms_actors.testing.seeded import SeededAddress
from dms_proto.capability import Capability
from dms_proto.errors import InternalError
from dms_proto.ids import PeerId, bid_id, request_id
from dms_proto.machine import Stimulus
from dms_proto.messages import AnyMessage, Bid, BidRequest, Decline, Probe, SealedBid
from dms_proto.units import SECOND
from dms_proto.wire.scores import HALF_LIFE_MS, MUTE_AT, POINTS, Offence
from dms_proto.work import EndReason

pytestmark = pytest.mark.usefixtures("quiet")

NONCE: Final = 2**40
ENOUGH: Final = MUTE_AT // POINTS[Offence.UNHANDLED] + 1
"""Points decay a little from one to the next."""


class Unheard(Stimulus, frozen=True):
    """What no table knows: it breaks whatever machine is told it."""


@pytest.fixture
def pair() -> HonestPair:
    return HonestPair()


def break_on_probes(pair: HonestPair) -> None:
    """A call of the owner whose loop has ended listens: whatever comes for it raises in the node actor."""

    def hear(_peer: PeerId, _message: AnyMessage) -> None:
        raise RuntimeError("Event loop is closed")

    pair.provider.node.tell(ListenFor(f"probe:{NONCE}", hear))


def break_it(pair: HonestPair, guest: Guest) -> None:
    guest.say(pair.provider, Probe(NONCE, reply=True))


def blamed_for(pair: HonestPair) -> list[str]:
    """What the seeded runtime noticed, taken away: a test that expects none finds none."""
    noticed = [f"{type(error).__name__}" for _, error in pair.market.loop.failures]
    pair.market.loop.failures.clear()
    return noticed


def test_one_message_that_breaks_the_node_costs_its_sender_and_not_the_node(pair: HonestPair) -> None:
    """Everything in the batch was lost, the node was built anew, and after the fourth time the process ended."""
    guest, other = pair.guest(), pair.guest("30.0.1.1")
    break_on_probes(pair)
    node = pair.node()
    for _ in range(ENOUGH):
        break_it(pair, guest)
        other.say(pair.provider, Probe(1))  # in the same batch
    pair.pass_time(SECOND)

    assert pair.node() is node, "it was not built anew"
    assert sum(isinstance(said, Probe) and said.reply for said in other.heard) == ENOUGH
    assert "banned" in guest.goodbyes
    assert "banned" not in other.goodbyes
    last = pair.provider.mishaps.last
    assert last is not None
    assert (last.about, last.error, last.by) == ("FrameReceived", "RuntimeError: Event loop is closed", guest.peer)
    assert pair.provider.mishaps.count == ENOUGH
    assert pair.works()
    assert blamed_for(pair) == ["RuntimeError"] * ENOUGH


def test_one_such_message_is_borne_and_the_muted_are_heard_again(pair: HonestPair) -> None:
    """It may be our own defect that a good message meets."""
    guest = pair.guest()
    break_on_probes(pair)
    break_it(pair, guest)
    pair.pass_time(SECOND)
    assert "banned" not in guest.goodbyes
    for _ in range(ENOUGH):
        break_it(pair, guest)
    pair.pass_time(HALF_LIFE_MS + SECOND)
    guest.connect(pair.provider)
    guest.say(pair.provider, Probe(1))
    pair.pass_time(SECOND)
    assert guest.is_connected(pair.provider)
    blamed_for(pair)


def test_a_message_that_breaks_an_orchestrator_or_an_allocation_does_not_lose_the_job(pair: HonestPair) -> None:
    """After four within a minute the actor was given up, and with it the request, or the work."""
    guest = pair.guest()
    job = pair.market.submit(pair.requester, 5_000)
    pair.pass_time(SECOND)
    orchestrator, (work,) = pair.requester.orchestrators.get(job), tuple(pair.provider.allocations)
    assert isinstance(orchestrator, SeededAddress)
    assert isinstance(work, SeededAddress)
    behaviours = orchestrator.behaviour, work.behaviour
    for _ in range(ENOUGH):
        work.tell(Told(Unheard(), "test", by=guest.peer))
        orchestrator.tell(Told(Unheard(), "test", by=guest.peer))
    pair.pass_time(SECOND)

    assert (orchestrator.behaviour, work.behaviour) == behaviours, "neither was built anew"
    assert "banned" in guest.goodbyes
    assert len(blamed_for(pair)) == 2 * ENOUGH
    pair.pass_time(10 * SECOND)
    assert pair.market.endings().get(job) is EndReason.COMPLETED


def test_whoever_waits_for_the_answer_is_told(pair: HonestPair) -> None:
    with pytest.raises(InternalError, match="could not handle it"):
        pair.provider.node.ask(Told(Unheard(), "test"), 5)
    assert blamed_for(pair) == ["TypeError"]


def round_of(number: int, needs: Capability | None = None) -> AnnounceWanted:
    """One of a request that no orchestrator runs; without needs it cannot go out."""
    asked = BidRequest(request_id(number.to_bytes(16, "big")), 1, needs, 1, 1, 0, 0, 0)  # type: ignore[arg-type]
    return AnnounceWanted(asked, "test")


def test_a_round_that_cannot_go_out_keeps_back_no_other_and_the_node_goes_on(pair: HonestPair) -> None:
    """Beyond those that go out at once it raised outside of any message: the node was built anew, and what was in the batch was lost."""
    requester = pair.requester
    node = pair.node(requester)
    for number in range(PACE.burst + 1):
        requester.node.tell(round_of(number, Capability()))
    requester.node.tell(round_of(PACE.burst + 1))
    job = pair.market.submit(requester, 5_000)
    pair.pass_time(15 * SECOND)

    assert pair.node(requester) is node, "it was not built anew"
    assert len(blamed_for(pair)) == 1
    assert requester.mishaps.last is not None
    assert requester.mishaps.last.about == "AnnounceWanted"
    assert pair.market.endings().get(job) is EndReason.COMPLETED


def aimed(message: AnyMessage, live: Mapping[str, str], author: PeerId) -> AnyMessage:
    """The same about what there is: a request, a bid and an allocation that the node knows."""
    names = {name for name in live if hasattr(message, name)}
    aimed = msgspec.structs.replace(message, **{name: live[name] for name in names})
    if isinstance(aimed, Bid | SealedBid):
        aimed = msgspec.structs.replace(aimed, bid_id=bid_id(aimed.request_id, author, aimed.number))
    return aimed


def under_way(pair: HonestPair) -> dict[str, str]:
    """A job of the requester that runs at the provider: its names."""
    job = pair.market.submit(pair.requester, 20_000)
    pair.pass_time(SECOND)
    orchestrator = pair.requester.orchestrators.get(job)
    assert isinstance(orchestrator, SeededAddress)
    assert isinstance(orchestrator.behaviour, Orchestrator)
    (slot,) = orchestrator.behaviour.shell.state.slots
    return {"request_id": job, "bid_id": slot.bid_id, "allocation_id": slot.allocation_id}


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(said=st.lists(st.tuples(messages(), st.booleans()), min_size=1, max_size=16), seed=st.integers(0, 2**16))
def test_no_valid_message_of_any_kind_breaks_a_node(said: list[tuple[AnyMessage, bool]], seed: int) -> None:
    """Fields at the ends of their ranges among them, about what there is and what there is not."""
    pair = HonestPair(seed=seed)
    guest = pair.guest()
    guest.connect(pair.requester)
    guest.say(pair.requester, guest.hello())
    live = under_way(pair)
    for message, is_aimed in said:
        told = aimed(message, live, guest.peer) if is_aimed else message
        guest.say(pair.provider, told)
        guest.say(pair.requester, told)
        pair.pass_time(50)
    pair.pass_time(15 * SECOND)
    assert pair.market.loop.failures == []


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(bids=st.lists(st.one_of(messages(Bid), messages(SealedBid), messages(Decline)), min_size=1, max_size=6))
def test_no_answer_to_a_request_breaks_it(bids: list[AnyMessage]) -> None:
    """What is wrong with a bid may show only when it is compared, taken, or runs out."""
    pair = HonestPair()
    guest = pair.guest()
    guest.connect(pair.requester)
    guest.say(pair.requester, guest.hello())
    pair.part()
    job = pair.market.submit(pair.requester)
    for number, bid in enumerate(bids):
        guest.say(pair.requester, aimed(_numbered(bid, number), {"request_id": job}, guest.peer))
        pair.pass_time(300)
    pair.pass_time(20 * SECOND)
    assert pair.market.loop.failures == []


def _numbered(bid: AnyMessage, number: int) -> AnyMessage:
    """One that is heard: its number is the next, and its price one that the job pays."""
    if isinstance(bid, Bid):
        return msgspec.structs.replace(bid, number=number, price=bid.price % 10_000_000)
    return msgspec.structs.replace(bid, number=number) if isinstance(bid, SealedBid) else bid
