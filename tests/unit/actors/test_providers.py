"""What the node thinks of providers: how long each is given for an answer, by what all requests of this node have seen."""

from __future__ import annotations

from dms_actors.providers import Providers
from dms_proto.ids import PeerId
from dms_proto.market.auction_effects import HeardFrom, LetDown
from dms_proto.reputation.silence import Word

A = PeerId("a")


def answers_ms(providers: Providers) -> int:
    return providers.facts(A, None, 0, own=False).answers_ms


def test_what_one_request_has_waited_for_an_answer_is_known_to_the_next() -> None:
    providers = Providers(lambda _peer: "", lambda _peer: False, 1_000)
    assert answers_ms(providers) == 0
    providers.heard(LetDown(A, Word.ANSWER, ("bid",), 0, 500))
    assert answers_ms(providers) == 1_000
    providers.heard(HeardFrom(A, Word.ANSWER, 900, 800))
    assert answers_ms(providers) == 800 + 4 * 400


def test_how_soon_its_work_is_heard_of_says_nothing_of_its_answers() -> None:
    providers = Providers(lambda _peer: "", lambda _peer: False, 1_000)
    providers.heard(LetDown(A, Word.WORK, ("allocation",), 0, 15_000))
    providers.heard(HeardFrom(A, Word.WORK, 15_000))
    assert answers_ms(providers) == 0
