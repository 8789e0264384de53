"""Whose result is accepted, who was wrong, and who is asked next."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms_proto.ids import Digest, PeerId
from dms_proto.verification.policy import MAX_COPIES, PROVEN, Policy, Verification
from dms_proto.verification.quorum import Result, Vote, Voter, camps_of, equal, judge, next_voter
from dms_proto.work import Ending, EndReason, Output, Usage

ADAPTIVE = Verification(Policy.ADAPTIVE)


def result(text: str, code: int = 0) -> Result:
    return Result(Ending(EndReason.COMPLETED, code), (Output("answer", Digest(text), 1),))


def votes(*said: str) -> list[Vote]:
    """Answers in the order they came in: in capitals from proven providers, else from newcomers."""
    return [
        Vote(Voter(PeerId(f"p{index}"), f"s{index}", PROVEN if text.isupper() else 0), result(text.lower()))
        for index, text in enumerate(said)
    ]


def accepted(verification: Verification, *said: str) -> str:
    verdict = judge(camps_of(votes(*said)), verification)
    return "" if verdict.accepted is None else verdict.accepted.result.outputs[0].digest


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ((), ""),
        (("A",), ""),
        (("A", "A"), "a"),
        (("a", "a"), ""),
        (("a", "a", "a"), ""),
        (("a", "a", "a", "a"), "a"),
        (("a", "A"), ""),
        (("a", "A", "a"), "a"),
        (("a", "B"), ""),
        (("a", "B", "B"), "b"),
        (("A", "A", "B"), ""),
        (("a", "a", "B", "B", "B"), "b"),
    ],
)
def test_proven_providers_weigh_two_and_newcomers_one(said: tuple[str, ...], answer: str) -> None:
    assert accepted(ADAPTIVE, *said) == answer


@pytest.mark.parametrize(
    ("copies", "said", "answer"),
    [
        (2, ("a",), ""),
        (2, ("a", "a"), "a"),
        (2, ("a", "b"), ""),
        (2, ("a", "b", "b", "b"), "b"),
        (3, ("a", "a"), "a"),
        (3, ("a", "B"), ""),
    ],
)
def test_replicas_must_agree_whoever_made_them(copies: int, said: tuple[str, ...], answer: str) -> None:
    assert accepted(Verification(Policy.REPLICATE, copies), *said) == answer


def test_who_agrees_with_the_accepted_result_is_right_and_everybody_else_wrong() -> None:
    verdict = judge(camps_of(votes("a", "B", "B", "c", "B")), ADAPTIVE)
    assert verdict.right == ("p1", "p2", "p4")
    assert verdict.wrong == ("p0", "p3")


def test_work_that_gives_another_answer_everywhere_is_given_up_and_nobody_blamed() -> None:
    many = [f"answer {index}" for index in range(MAX_COPIES)]
    assert not judge(camps_of(votes(*many[:-1])), ADAPTIVE).undecided
    verdict = judge(camps_of(votes(*many)), ADAPTIVE)
    assert verdict.undecided
    assert not verdict.wrong


def test_results_are_the_same_by_exit_code_and_outputs_not_by_what_they_used() -> None:
    one = result("a")
    slower = msgspec.structs.replace(one, ending=Ending(EndReason.COMPLETED, 0, "later", Usage(wall_ms=9)))
    two = (Output("x", Digest("1"), 1), Output("y", Digest("2"), 1))
    assert equal(one, slower)
    assert not equal(one, result("b"))
    assert not equal(one, result("a", 1))
    assert equal(Result(one.ending, two), Result(one.ending, two[::-1]))


def test_camps_may_hold_answers_that_differ() -> None:
    assert judge([votes("A", "B")], ADAPTIVE).right == ("p0", "p1")


def test_the_next_to_be_asked_is_proven_new_to_the_work_and_from_another_place() -> None:
    asked = [Voter(PeerId("p0"), "s0")]
    neighbour, same = Voter(PeerId("p1"), "s0", PROVEN), Voter(PeerId("p0"), "s9", PROVEN)
    newcomer, proven, later = (Voter(PeerId(f"p{n}"), f"s{n}", streak) for n, streak in ((2, 0), (3, PROVEN), (4, 99)))
    assert next_voter([neighbour, same, newcomer, proven, later], asked) == proven
    assert next_voter([neighbour, same, newcomer], asked) == newcomer
    assert next_voter([neighbour, same], asked) is None


@given(st.lists(st.sampled_from("abcABC"), max_size=MAX_COPIES))
def test_an_accepted_result_has_the_quorum_and_three_quarters(said: list[str]) -> None:
    answer = accepted(ADAPTIVE, *said)
    if answer:
        weight = {text: 2 if text.isupper() else 1 for text in said}
        behind = sum(weight[text] for text in said if text.lower() == answer)
        assert behind >= ADAPTIVE.quorum
        assert 4 * behind >= 3 * sum(weight[text] for text in said)
