"""Jobs that were answered by an earlier one of the same work, since they wished so (`cache`). Stream "answers"."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from dms_proto.ids import RequestId
from dms_proto.machine import Event
from dms_proto.rules import Amount

ANSWERS_STREAM: Final = "answers"


class EarlierGiven(Event, frozen=True):
    """A job that was submitted at `at` got the earlier one as its answer, which ended at `ended_at` (both Unix ms), and was not run."""

    request_id: RequestId
    ended_at: Amount
    at: Amount


class GivenAgain(msgspec.Struct, frozen=True, omit_defaults=True):
    """How often an earlier job was the answer.

    Attributes:
        times: 0: never.
        last_at: Unix ms of the last time.
    """

    times: Amount = 0
    last_at: Amount = 0


def given_again(answers: Sequence[EarlierGiven]) -> GivenAgain:
    """What all answers by one job come to."""
    return GivenAgain(len(answers), max((answer.at for answer in answers), default=0))
