"""Known work given out as if it were new: what it costs, what it proves, and that nobody can tell it from other work."""

from dms_proto.ids import Digest, PeerId, RequestId
from dms_proto.market.auction_effects import Announce
from dms_proto.market.auction_events import ResultJudged
from dms_proto.market.auction_state import SlotPhase
from dms_proto.market.auction_terms import Answer, Canary, Terms
from dms_proto.market.canaries import KEPT, KnownWork, Witnesses, canary_terms
from dms_proto.market.candidates import BidderFacts
from dms_proto.market.seen import seen_in
from dms_proto.messages import Commit
from dms_proto.reputation.evidence import Kind
from dms_proto.sim.requester import REQUEST, Requester, terms
from dms_proto.verification.policy import PROVEN, Apart, Policy, Verification, is_canary_due
from dms_proto.verification.quorum import Result
from dms_proto.work import Ending, EndReason, Output

RIGHT = (Output("out", Digest("sha256:" + "0" * 64), 3),)
OTHER = (Output("out", Digest("sha256:" + "1" * 64), 3),)
EARLIER = RequestId("r-earlier")
VERIFY = Verification(Policy.ADAPTIVE, apart=Apart.NODES)
DUE = next(seed for seed in (b"seed %d" % number for number in range(100)) if is_canary_due(seed, 0))


def answer(peer: str) -> Answer:
    return Answer(0, PeerId(peer), f"a-{peer}", source=f"net {peer}")  # type: ignore[arg-type]


def judged(*right: str, **told: object) -> ResultJudged:
    return ResultJudged(0, 1, 0, tuple(map(answer, right)), **({"pieces": 1} | told))  # type: ignore[arg-type]


def canary(*bidders: str, streaks: int = PROVEN, by: str = "xy") -> Requester:
    """Known work, the result of which `by` gave, given out to whoever of the bidders has not seen it."""
    result = Result(Ending(EndReason.COMPLETED, 0), RIGHT)
    seen = tuple(map(answer, by))
    market = Requester(
        verify=VERIFY, seed=DUE, canary=Canary(EARLIER, 3, 7, result, seen, seen), bids_wanted=len(bidders)
    )
    market.submit(*bidders)
    for peer in bidders:
        market.bid(peer, facts=BidderFacts(source=f"net {peer}", streak=streaks))
    return acknowledged(market)


def acknowledged(market: Requester) -> Requester:
    for bid_id, bid in tuple(market.state.bids.items()):
        if bid.ack_until:
            market.acks(bid.provider, bid_id)
    return market


def held(market: Requester) -> dict[str, str]:
    return {slot.provider: slot.allocation_id for slot in market.state.slots if slot.phase is SlotPhase.HELD}


def answers(market: Requester, outputs: tuple[Output, ...], peer: str = "") -> None:
    found = held(market)
    name = peer or next(iter(found))
    market.ends(name, found[name], outputs=outputs)  # type: ignore[arg-type]


def kinds(market: Requester) -> dict[str, Kind]:
    (event,) = (event for event in market.log if isinstance(event, ResultJudged))
    return {provider: kind for provider, _, kind in seen_in(event)}


def test_the_known_answer_is_the_check_and_one_run_is_all_it_costs() -> None:
    market = canary("a", "b")
    assert len(held(market)) == 1

    answers(market, RIGHT)

    assert kinds(market) == {"a": Kind.RIGHT} or kinds(market) == {"b": Kind.RIGHT}
    assert market.reason is EndReason.COMPLETED


def test_it_goes_to_somebody_who_has_not_seen_it() -> None:
    assert list(held(canary("x", "y", "a"))) == ["a"]


def again(market: Requester, *peers: str) -> None:
    """The round that was called goes to `peers`, who all bid."""
    market.asks(*peers)
    for peer in peers:
        number = market.state.numbers.get(PeerId(peer), -1) + 1
        market.bid(peer, number, facts=BidderFacts(source=f"net {peer}", streak=PROVEN))
    acknowledged(market)


def test_another_answer_proves_nothing_by_itself_and_others_do_the_work_anew() -> None:
    market = canary("a")
    answers(market, OTHER)
    assert market.reason is None

    again(market, "a", "b")
    answers(market, RIGHT)

    assert kinds(market) == {"a": Kind.WRONG, "b": Kind.RIGHT}


def test_two_that_agree_do_not_overturn_what_two_had_agreed_on() -> None:
    market = canary("a")
    for peers in ("ab", "abc"):
        answers(market, OTHER)
        again(market, *peers)
    answers(market, RIGHT)
    assert market.reason is None

    for peers in ("abcd", "abcde", "abcdef"):
        again(market, *peers)
        answers(market, RIGHT)
        if market.reason is not None:
            break

    assert kinds(market) == {"a": Kind.WRONG, "b": Kind.WRONG} | dict.fromkeys("cdef", Kind.RIGHT)


def test_an_answer_on_which_many_agree_overturns_the_known_one() -> None:
    market = canary("a")
    for peers in ("ab", "abc", "abcd", "abcde", "abcdef"):
        answers(market, OTHER)
        assert market.reason is None
        again(market, *peers)
    answers(market, OTHER)

    assert kinds(market) == dict.fromkeys("abcdef", Kind.RIGHT) | {"x": Kind.WRONG, "y": Kind.WRONG}


def test_a_newcomer_that_says_something_else_is_not_judged_by_what_is_known_alone() -> None:
    market = canary("a", streaks=0)
    answers(market, OTHER)
    assert market.reason is None

    again(market, "a", "b")
    answers(market, RIGHT)

    assert kinds(market) == {"a": Kind.WRONG, "b": Kind.RIGHT}


def test_an_answer_that_was_taken_as_it_came_is_right_once_another_gives_the_same() -> None:
    market = canary("a", by="x")
    answers(market, RIGHT)

    assert kinds(market) == {"a": Kind.RIGHT, "x": Kind.RIGHT}


def test_what_was_confirmed_before_is_not_counted_again() -> None:
    market = canary("a", by="xy")
    answers(market, RIGHT)

    assert kinds(market) == {"a": Kind.RIGHT}


def test_whoever_was_taken_at_its_word_and_was_wrong_is_found_out_later() -> None:
    market = canary("a", by="x")
    answers(market, OTHER)
    again(market, "a", "b")
    answers(market, OTHER)
    assert market.reason is None
    again(market, "a", "b", "c")
    answers(market, OTHER)

    assert kinds(market) == dict.fromkeys("abc", Kind.RIGHT) | {"x": Kind.WRONG}


def test_the_word_of_a_newcomer_confirms_nothing_that_nobody_had_checked() -> None:
    market = canary("a", "b", "c", "d", streaks=0, by="x")
    assert len(held(market)) == 4

    for peer in "abcd":
        assert market.reason is None
        answers(market, RIGHT, peer)

    assert kinds(market) == dict.fromkeys("abcdx", Kind.RIGHT)


def test_a_provider_is_told_what_it_would_have_been_told_then() -> None:
    market = canary("a")

    (commit,) = market.sent_ever(Commit)
    assert [task.environment for task in commit.invocations] == [{"DMS_INDEX": "3", "DMS_COUNT": "7"}]
    (asked,) = (effect.request for effect in market.all_effects if isinstance(effect, Announce))
    assert (asked.count, asked.needs) == (1, market.terms.needs)


def test_what_was_accepted_is_known_until_a_canary_overturns_it() -> None:
    known = KnownWork()
    known.note(EARLIER, ResultJudged(0, 1, unjudged=(answer("a"), answer("b")), pieces=1))
    assert known.drawn(_new(), 0) is None

    known.note(EARLIER, judged("a", "b"))
    assert known.drawn(_new(), 0) == (EARLIER, 0)
    known.note(RequestId("r-canary"), judged("c", canary=(EARLIER, 0)))
    assert _names(known.witnesses((EARLIER, 0)).asked) == ["a", "b", "c"]

    nobody = ResultJudged(0, 1, canary=(EARLIER, 0))
    known.note(RequestId("r-canary"), nobody)
    assert known.witnesses((EARLIER, 0)).asked

    known.note(RequestId("r-canary"), judged("d", "e", canary=(EARLIER, 0), overturned=(answer("a"),)))
    assert known.drawn(_new(), 0) is None


def test_what_was_taken_as_it_came_is_known_and_whoever_confirms_it_stands_for_it_too() -> None:
    known = KnownWork()
    known.note(EARLIER, ResultJudged(0, 1, accepted=0, unjudged=(answer("a"),), pieces=1))
    assert _names(known.witnesses((EARLIER, 0)).right) == ["a"]

    known.note(RequestId("r-canary"), judged("b", canary=(EARLIER, 0), confirmed=(answer("a"),)))
    assert _names(known.witnesses((EARLIER, 0)).right) == ["a", "b"]


def test_the_newest_is_given_out_first_and_each_once_before_any_twice() -> None:
    known, works = KnownWork(), [(RequestId(f"r-{number}"), 0) for number in range(4)]
    for request, _ in works:
        known.note(request, judged("a", "b"))

    assert [known.drawn(_new(), 0) for _ in works] == works[::-1]
    assert known.drawn(_new(), 0) in works
    known.note(EARLIER, judged("a", "b"))
    assert known.drawn(_new(), 0) == (EARLIER, 0)


def test_after_a_restart_what_was_given_out_is_known_by_its_verdict() -> None:
    known = KnownWork()
    for request in ("r-1", "r-2"):
        known.note(RequestId(request), judged("a", "b"))
    known.note(RequestId("r-canary"), judged("c", canary=(RequestId("r-2"), 0)))

    assert known.drawn(_new(), 0) == (RequestId("r-1"), 0)


def test_a_canary_goes_beside_new_adaptive_work_only_and_once_in_a_while() -> None:
    known = KnownWork()
    known.note(EARLIER, judged("a", "b"))

    assert known.drawn(_new(verify=Verification(Policy.REPLICATE)), 0) is None
    assert known.drawn(_new(request_id=EARLIER), 0) is None
    drawn = [known.drawn(_new(), piece) for piece in range(600)]
    assert 45 < len([work for work in drawn if work is not None]) < 110


def test_known_work_is_bounded() -> None:
    known = KnownWork()
    for number in range(KEPT + 5):
        known.note(RequestId(f"r-{number}"), judged("a", "b"))

    assert known.witnesses((RequestId("r-0"), 0)).asked == ()
    assert known.witnesses((RequestId(f"r-{KEPT + 4}"), 0)).asked


def test_the_terms_of_a_canary_are_those_of_the_known_work() -> None:
    earlier = Requester(verify=Verification(Policy.REPLICATE, apart=Apart.NODES), seed=b"then", count=2)
    earlier.submit("a", "b")
    for peer in "ab":
        earlier.bid(peer, slots=2)
    acknowledged(earlier)
    for slot in earlier.state.slots:
        earlier.ends(slot.provider, slot.allocation_id, outputs=RIGHT)
    beside, seen = _new(request_id=RequestId("r-now")), Witnesses((answer("a"),), (answer("a"),))

    made = canary_terms(beside, 0, earlier.state, (REQUEST, 1), seen)

    assert made is not None
    assert (made.task, made.needs, made.count, made.verify.policy) == (
        earlier.terms.task,
        earlier.terms.needs,
        1,
        Policy.ADAPTIVE,
    )
    assert made.canary is not None
    assert (made.canary.piece, made.canary.count, made.canary.result.outputs) == (1, 2, RIGHT)
    assert made.request_id not in (REQUEST, beside.request_id)
    assert (made.canary.right, made.canary.asked) == (seen.right, seen.asked)
    assert canary_terms(beside, 0, earlier.state, (REQUEST, 1), seen) == made


def _names(answers: tuple[Answer, ...]) -> list[str]:
    return [each.provider for each in answers]


def _new(**changed: object) -> Terms:
    return terms(**({"verify": VERIFY, "seed": DUE, "request_id": RequestId("r-now")} | changed))


def test_a_piece_of_several_is_not_given_out_again() -> None:
    known = KnownWork()

    known.note(EARLIER, judged("x", "y", pieces=3))

    assert known.drawn(terms(verify=VERIFY, seed=DUE), 0) is None
