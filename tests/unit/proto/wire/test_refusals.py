"""Refusals: every code is described and has its consequences, and answers never chase each other."""

from __future__ import annotations

import msgspec
import pytest

from dms.testing.samples import NOW, PROVIDER, REQUESTER, TOPIC
from dms_proto.ids import MessageId
from dms_proto.messages import Refusal
from dms_proto.wire import (
    RULES,
    ClassBuckets,
    KindClass,
    Limit,
    OpeningContext,
    RefusalCode,
    RefusedFrame,
    ReplayWindow,
    answer_to,
    encoding,
)

ON_STREAM = OpeningContext(PROVIDER.peer_id, REQUESTER.peer_id, ReplayWindow(), ReplayWindow())


def test_every_code_has_a_rule_in_the_order_of_the_codes() -> None:
    assert list(RULES) == list(RefusalCode)


@pytest.mark.parametrize("code", RefusalCode)
def test_what_is_answered_names_the_code_and_the_frame(code: RefusalCode) -> None:
    answer = answer_to(RefusedFrame(code, "because", MessageId(b"\1" * 16), kind="Bid"), ON_STREAM, NOW)
    if RULES[code].is_answered:
        assert answer == Refusal(code.value, "01" * 16, "because")
        assert encoding.decode_body("Refusal", encoding.encode_body(answer)) == answer
    else:
        assert answer is None


@pytest.mark.parametrize("code", RefusalCode)
def test_a_refused_refusal_is_never_answered(code: RefusalCode) -> None:
    assert answer_to(RefusedFrame(code, kind="Refusal"), ON_STREAM, NOW) is None


@pytest.mark.parametrize("code", [RefusalCode.DUPLICATE, RefusalCode.RATE, RefusalCode.STALE, RefusalCode.ECHO])
def test_floods_and_replays_get_no_answer(code: RefusalCode) -> None:
    assert not RULES[code].is_answered


def test_gossip_gets_no_answer() -> None:
    on_topic = msgspec.structs.replace(ON_STREAM, topic=TOPIC)
    assert answer_to(RefusedFrame(RefusalCode.EXPIRED, kind="BidRequest"), on_topic, NOW) is None


def test_answers_to_one_peer_are_limited_so_that_two_versions_do_not_argue_forever() -> None:
    buckets = ClassBuckets({KindClass.ANSWER: Limit(1, 2)})
    context = msgspec.structs.replace(ON_STREAM, take=buckets.take)
    refused = RefusedFrame(RefusalCode.NEWER_VERSION)
    assert [answer_to(refused, context, NOW) is None for _ in range(3)] == [False, False, True]


def test_every_meaning_is_a_sentence() -> None:
    assert all(rule.meaning[0].isupper() and rule.meaning.endswith(".") for rule in RULES.values())
