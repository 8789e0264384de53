"""At the requester: work goes on from its checkpoint, nobody is blamed for it, and what leads nowhere is a failure."""

import pytest

from dms_proto.capability import Price
from dms_proto.checkpoints import CHECKPOINT_EXIT
from dms_proto.ids import AllocationId, Digest, PeerId, digest_of
from dms_proto.market.auction_events import AttemptEnded
from dms_proto.market.auction_pace import fetching_ms
from dms_proto.market.auction_stimuli import CancelAsked
from dms_proto.market.seen import seen_in
from dms_proto.messages import Commit, Phase, Receipt
from dms_proto.reputation.evidence import Kind
from dms_proto.sim.requester import Requester
from dms_proto.units import SECOND
from dms_proto.work import EndReason, Input, Output, Task

TASK = Task("sandbox", ("run",), outputs=("out",), inputs=(Input("state", digest_of(b""), 0),), checkpoint="state")


def state(text: str, size: int = 1) -> Output:
    return Output("state", digest_of(text.encode()), size)


def held(**changed: object) -> Requester:
    requester = Requester(**({"bids_wanted": 1, "task": TASK} | changed))
    requester.hold("a")
    return requester


def stops_at(requester: Requester, *files: Output, reason: EndReason = EndReason.CHECKPOINTED) -> AttemptEnded:
    """The attempt at the winner ends with these files."""
    slot = requester.state.slots[0]
    requester.ends(slot.provider, slot.allocation_id, reason, outputs=files, code=CHECKPOINT_EXIT)
    (ended,) = requester.noted(AttemptEnded)
    return ended


def goes_on(requester: Requester, peer: str = "a") -> AllocationId:
    """The round that was called is won by `peer`, which acknowledges."""
    requester.asks(peer)
    requester.bid(peer, number=requester.state.numbers.get(PeerId(peer), -1) + 1)
    return requester.acknowledged()


def committed(requester: Requester) -> Task:
    (commit,) = requester.sent(Commit)
    return commit.invocations[0]


def test_the_next_attempt_has_the_checkpoint_at_the_same_node_if_that_bids() -> None:
    requester = held()
    ended = stops_at(requester, state("one"))
    assert (ended.final, ended.checkpoint, ended.why) == (False, 1, "it goes on from checkpoint 1, 1 file (1 B)")
    assert requester.called() == [1]

    requester.asks("a")
    requester.bid("a", number=1)

    assert committed(requester).inputs == (Input("state", digest_of(b"one"), 1),)


def test_it_is_paid_for_and_nobodys_fault() -> None:
    requester = held(node_faults=0)
    ended = stops_at(requester, state("one"))

    assert ended.price == 50
    assert [receipt.price for receipt in requester.sent(Receipt)] == [50]
    assert (requester.state.slots[0].faults, dict(requester.state.faulty), list(seen_in(ended))) == (0, {}, [])


def test_the_last_attempt_ends_the_job_with_its_outputs() -> None:
    requester = held()
    for number in range(3):
        stops_at(requester, state(str(number)))
        goes_on(requester)
    slot = requester.state.slots[0]
    requester.ends("a", slot.allocation_id, outputs=(Output("out", digest_of(b"out"), 3),))

    assert requester.reason is EndReason.COMPLETED
    assert requester.state.slots[0].outputs == (Output("out", digest_of(b"out"), 3),)
    assert requester.state.slots[0].price == 200


def test_a_lost_attempt_goes_on_from_the_last_checkpoint() -> None:
    requester = held()
    stops_at(requester, state("one"))
    goes_on(requester)
    requester.ends("a", requester.state.slots[0].allocation_id, EndReason.PROVIDER_FAULT)

    requester.asks("b")
    requester.bid("b")

    assert committed(requester).inputs == (Input("state", digest_of(b"one"), 1),)


def test_what_its_provider_stopped_goes_on_from_what_it_left_then() -> None:
    requester = held()
    ended = stops_at(requester, state("one"), reason=EndReason.PROVIDER_STOPPED)
    assert (ended.checkpoint, ended.price) == (1, 0)
    assert [kind for _, _, kind in seen_in(ended)] == [Kind.FAULT]

    requester.asks("b")
    requester.bid("b")

    assert committed(requester).inputs == (Input("state", digest_of(b"one"), 1),)


def test_the_same_checkpoint_again_is_a_failure_of_the_job() -> None:
    requester = held(job_failures=1)
    stops_at(requester, state("one"))
    goes_on(requester)
    ended = stops_at(requester, state("one"))

    assert requester.reason is EndReason.EXIT_NONZERO
    assert ended.ending.detail == "exit code 85: it left the checkpoint that it began with"


@pytest.mark.parametrize("files", [(), (Output("other", digest_of(b"other"), 1),)])
def test_who_tells_of_a_checkpoint_and_names_none_is_not_paid(files: tuple[Output, ...]) -> None:
    ended = stops_at(held(), *files)

    assert (ended.ending.reason, ended.price, ended.checkpoint) == (EndReason.PROVIDER_FAULT, 0, 0)
    assert [kind for _, _, kind in seen_in(ended)][:1] == [Kind.FAULT]


def test_what_is_no_checkpoint_takes_nothing_from_the_one_before() -> None:
    """Neither does the next attempt go on from it, nor is it kept as if it did."""
    requester = held()
    stops_at(requester, state("one"))
    goes_on(requester)
    clash = (state("two"), Output("state/x", digest_of(b"x"), 1))
    ended = stops_at(requester, *clash, reason=EndReason.EVICTED)
    assert (ended.final, ended.checkpoint, ended.outputs) == (False, 0, ())

    requester.asks("b")
    requester.bid("b")

    assert committed(requester).inputs == (Input("state", digest_of(b"one"), 1),)


def test_nobody_may_stop_half_way_who_was_not_asked_to() -> None:
    ended = stops_at(held(task=Task("sandbox", ("run",))), state("one"))

    assert ended.ending.reason is EndReason.PROVIDER_FAULT


def test_it_goes_on_only_so_often() -> None:
    requester = held(checkpoints=1)
    assert not stops_at(requester, state("one")).final
    goes_on(requester)
    assert stops_at(requester, state("two")).final

    assert requester.reason is EndReason.RETRIES_EXHAUSTED
    assert requester.state.slots[0].ending is not None
    assert requester.state.slots[0].ending.detail.startswith("last: checkpointed: ")


def test_what_is_being_cancelled_does_not_go_on() -> None:
    requester = held()
    requester.tell(CancelAsked())
    ended = stops_at(requester, state("one"), reason=EndReason.CANCELLED)

    assert (ended.final, ended.checkpoint) == (True, 0)
    assert requester.reason is EndReason.CANCELLED


def test_fetching_a_checkpoint_takes_its_time() -> None:
    large = Output("state", Digest(digest_of(b"large")), 64 * 60 * SECOND)
    requester = held(max_price=10**9, budget=0)
    stops_at(requester, large)
    allocation = goes_on(requester)
    requester.reports("a", allocation, Phase.PREPARING)

    slot = requester.state.slots[0]
    assert fetching_ms(Task("sandbox", inputs=(Input("state", large.digest, large.size),))) == 60 * SECOND
    assert slot.nudge_at - slot.held_since > 60 * SECOND


def test_the_budget_counts_every_attempt() -> None:
    requester = held(budget=120, max_price=100)
    assert requester.state.slots[0].tariff == Price(start=100)
    stops_at(requester, state("one"))
    requester.asks("a")
    requester.bid("a", number=1)
    requester.wait(requester.terms.window_ms)

    assert requester.reason is EndReason.BUDGET_SPENT
