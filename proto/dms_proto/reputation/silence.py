"""Silence: who bids, and says nothing when its bid is taken. Pure.

::

    a commit unanswered, or acknowledged and nothing since ──▶ a strike ──▶ its bids are taken last for a while, longer each time
                                                                  ├── forgotten once it works, or answers a commit in time
                                                                  └── a late word takes the last strike back, once

Each such commit costs a job the time that an answer is waited for, so who does it again and again, at the lowest price, would slow down every job.
Who has finished something for this node has credit for `PROVEN_STRIKES`; a newcomer has none, since a new name costs nothing. For the same reason
newcomers of one source share `SOURCE_STRIKES`.

A late word has cost the job its time all the same, so who always speaks too late is taken last like who never does; and it says nothing of others, so
what a source has against it stays.

It may be wrong: a busy machine, here or there, is late with everything at once. So what was under way together is one strike at most, and none where
the provider has said anything real since; and who is set aside is taken where nobody else is, so that being wrong costs time and never a job.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple

import msgspec

from dms_proto.fair_memory import FairMemory
from dms_proto.ids import PeerId
from dms_proto.recent import Recent
from dms_proto.reputation.sources import UNKNOWN
from dms_proto.units import MINUTE, SECOND, format_count

PROVEN_STRIKES: Final = 3
"""So many in a row, and a provider that has kept its word before is set aside for a while."""
NEWCOMER_STRIKES: Final = 1
"""The same for one that has finished nothing for this node yet."""
SOURCE_STRIKES: Final = 3
"""So many by newcomers of one source, and all of them are."""
FIRST_PAUSE_MS: Final = 30 * SECOND
"""So long; twice as long after each strike that follows,"""
LONGEST_PAUSE_MS: Final = 10 * MINUTE
"""up to this."""
MOST: Final = 4_096
"""Providers, sources, and answers remembered; the oldest go, of answers those of who has most of them."""
TOLD: Final = 64
"""Words remembered of one strike, each of which takes it back; the newest stay."""


class Word(StrEnum):
    """What is waited for. Who answers commits has not thereby done any work; who works has answered."""

    ANSWER = "answer"
    """To a commit."""
    WORK = "work"
    """The first one about an allocation, after its acknowledgement."""


def answers_to(request_id: str, bid_id: str, terms: str) -> tuple[str, ...]:
    """What counts as an answer to a commit: its refusal, and the acknowledgement of the `terms` that were committed, by digest."""
    return f"{request_id} {bid_id}", f"{request_id} {bid_id} {terms}"


def word_of(request_id: str, allocation_id: str) -> str:
    """What counts as a word about an allocation: its status."""
    return f"{request_id} {allocation_id}"


class SetAside(msgspec.Struct, frozen=True, omit_defaults=True):
    """That a provider's bids are taken last, and why.

    Attributes:
        until: Unix ms.
        word: what was not said.
        times: how often in a row; what was under way together counts once.
        source: whose newcomers they were, all together; empty: it was the provider itself.
    """

    until: int
    word: Word
    times: int
    source: str = ""

    def __str__(self) -> str:
        """Why, in words: ``2 commits unanswered``."""
        by = f" by newcomers of {self.source}" if self.source else ""
        return f"{format_count(self.times, 'commit')} {_UNSAID[self.word]}{by}"


_UNSAID: Final = {Word.ANSWER: "unanswered", Word.WORK: "acknowledged without a word since"}


class Bidder(NamedTuple):
    """Who bids.

    Attributes:
        provider: it.
        source: where it is; see `reputation.sources`.
        has_delivered: it has finished something for this node, or is its owner's.
    """

    provider: PeerId
    source: str = UNKNOWN
    has_delivered: bool = False


class _Strikes(NamedTuple):
    about: tuple[str, ...]
    """What would have prevented the last one."""
    times: int
    at: int
    is_taken_back: bool = False
    """One of them was; no other will be."""


class _Silent(NamedTuple):
    about: tuple[str, ...]
    since: int
    at: int


_NONE: Final = _Strikes((), 0, -1)


class Silence:
    """Of all providers, by one requester. Times are Unix ms. Not shared between threads."""

    def __init__(self, first_pause_ms: int = FIRST_PAUSE_MS) -> None:
        """`first_pause_ms`: at least 1."""
        self._first_ms = first_pause_ms
        self._longest_ms = max(first_pause_ms, LONGEST_PAUSE_MS)
        self._providers: Recent[tuple[str, Word], _Strikes] = Recent(MOST)
        self._sources: Recent[tuple[str, Word], _Strikes] = Recent(MOST)
        self._words: Recent[tuple[PeerId, Word], int] = Recent(MOST)
        self._answers: FairMemory[tuple[PeerId, str], int] = FairMemory(MOST)

    def let_down(self, bidder: Bidder, word: Word, about: tuple[str, ...], since: int, now: int) -> None:
        """It has said nothing of what it could have said `about` a bid or an allocation of ours, `since` it was told.

        What was long before does not count.
        """
        answers = (self._answers.get((bidder.provider, said)) for said in about)
        heard = self._words.get((bidder.provider, word)), *answers
        if any(at is not None and at >= since for at in heard):
            return
        silent = _Silent(about, since, now)
        self._strike(self._providers, (bidder.provider, word), silent)
        if not bidder.has_delivered and bidder.source != UNKNOWN:
            self._strike(self._sources, (bidder.source, word), silent)

    def heard(self, bidder: Bidder, word: Word, now: int) -> None:
        """It has worked, or answered a commit in time: of this node, whichever. All that it did before is forgotten, not what its source did."""
        for told in Word if word is Word.WORK else (word,):
            self._words.keep((bidder.provider, told), now)
            self._providers.take((bidder.provider, told))

    def answered(self, bidder: Bidder, about: str, now: int) -> None:
        """It says this, late perhaps; only what was waited for counts: anybody can make up a bid, or what it is yet said to have."""
        self._answers.keep((bidder.provider, about), bidder.provider, bidder.source, now)
        for word in Word:
            strikes = self._providers.get((bidder.provider, word)) or _NONE
            if about in strikes.about and not strikes.is_taken_back:
                spared = strikes._replace(times=strikes.times - 1, is_taken_back=True)
                self._providers.keep((bidder.provider, word), spared)

    def set_aside(self, bidder: Bidder, now: int) -> SetAside | None:
        """Until when its bids are taken only where there is no other; None: they are not. After a clock went back: not."""
        borne = PROVEN_STRIKES if bidder.has_delivered else NEWCOMER_STRIKES
        found = [self._aside(self._providers.get((bidder.provider, word)), borne, word, "", now) for word in Word]
        if not bidder.has_delivered:
            source = bidder.source
            found += [
                self._aside(self._sources.get((source, word)), SOURCE_STRIKES, word, source, now) for word in Word
            ]
        return max((aside for aside in found if aside is not None), key=lambda aside: aside.until, default=None)

    def __len__(self) -> int:
        return len(self._providers) + len(self._sources)

    def _strike(self, table: Recent[tuple[str, Word], _Strikes], key: tuple[str, Word], silent: _Silent) -> None:
        before = table.get(key) or _NONE
        if not before.at <= silent.at < before.at + 2 * self._longest_ms:
            before = _NONE
        was_under_way = silent.since < before.at or any(said in before.about for said in silent.about)
        if was_under_way:
            again = before._replace(about=(*before.about, *silent.about)[-TOLD:])
        else:
            again = _Strikes(silent.about, before.times + 1, silent.at, before.is_taken_back)
        table.keep(key, again)

    def _aside(self, strikes: _Strikes | None, borne: int, word: Word, source: str, now: int) -> SetAside | None:
        if strikes is None or strikes.times < borne:
            return None
        pause_ms = min(self._first_ms << min(strikes.times - borne, 10), self._longest_ms)
        is_pause = strikes.at <= now < strikes.at + pause_ms
        return SetAside(strikes.at + pause_ms, word, strikes.times, source) if is_pause else None
