"""Refusals: every code is described and has its consequences, and answers never chase each other."""

from __future__ import annotations

import pytest

from dms_proto.ids import MessageId
from dms_proto.messages import Refusal
from dms_proto.wire import RULES, RefusalCode, RefusedFrame, answer_to, encoding


def test_every_code_has_a_rule_in_the_order_of_the_codes() -> None:
    assert list(RULES) == list(RefusalCode)


@pytest.mark.parametrize("code", RefusalCode)
def test_what_is_answered_names_the_code_and_the_frame(code: RefusalCode) -> None:
    answer = answer_to(RefusedFrame(code, "because", MessageId(b"\1" * 16), kind="Bid"))
    if RULES[code].is_answered:
        assert answer == Refusal(code.value, "01" * 16, "because")
        assert encoding.decode_body("Refusal", encoding.encode_body(answer)) == answer
    else:
        assert answer is None


@pytest.mark.parametrize("code", RefusalCode)
def test_a_refused_refusal_is_never_answered(code: RefusalCode) -> None:
    assert answer_to(RefusedFrame(code, kind="Refusal")) is None


@pytest.mark.parametrize("code", [RefusalCode.DUPLICATE, RefusalCode.RATE, RefusalCode.STALE, RefusalCode.ECHO])
def test_floods_and_replays_get_no_answer(code: RefusalCode) -> None:
    assert not RULES[code].is_answered
