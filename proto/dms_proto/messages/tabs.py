"""Messages about tabs: what calls of a service cost, agreed once, and signed as it adds up.

::

    CALLER'S NODE                        PROVIDER
       │ TabWanted ───────────────────────▶ │      this service, and so much at the most in all
       │ ◀──────────────── TabStated, 0 ─── │      its offer: the price, or why there is none
       │ TabSigned, 0 ────────────────────▶ │      agreed: both have signed the same terms
       │                                    │      … calls, which name the tab …
       │ ◀──────────────── TabStated, n ─── │      so much it has come to; repeated until
       │ TabSigned, n ────────────────────▶ │      its sum is signed, or what of it is accepted
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from dms_proto.capability import Price, Resources
from dms_proto.messages.base import Message
from dms_proto.rules import Amount, DigestOrNone, GoodDigest, GoodPeerId, GoodTabId, Line, Word, cut_lines

MAX_SUMS: Final = 1_000_000
"""Sums that one tab may state."""
SumNumber = Annotated[int, msgspec.Meta(ge=0, le=MAX_SUMS)]


class TabTerms(msgspec.Struct, frozen=True, omit_defaults=True):
    """What both agree on for all calls that name the tab.

    Attributes:
        tab_id: drawn by the caller's node.
        service: that is called.
        caller: who pays.
        provider: who is paid.
        resources: what a container of the service holds, whatever it uses of that.
        tariff: prices for holding it, for as long as calls are at work; the start fee is paid once.
        max_price: micro-credits that may become owed in all.
        call_ms: how long one call may take.
    """

    tab_id: GoodTabId
    service: Word
    caller: GoodPeerId
    provider: GoodPeerId
    resources: Resources
    tariff: Price
    max_price: Amount
    call_ms: Amount


class TabWanted(Message, frozen=True, tag=True):
    """What are calls of this service, for so much at the most in all? Asked under the same grant as the calls.

    Attributes:
        tab_id: the tab that it shall become.
        service: to be called.
        max_price: micro-credits.
    """

    tab_id: GoodTabId
    service: Word
    max_price: Amount


class TabStated(Message, frozen=True, tag=True):
    """What a tab has come to, by its provider's word. Number 0 offers it.

    Attributes:
        number: of the sum: one more each time.
        terms: `tabs.terms.terms_digest` of what is agreed; empty: there is no such tab.
        calls: that ran to their end.
        ran_ms: how long they were at work together.
        price: micro-credits owed in all.
        is_over: nothing more is added.
        offer: the terms, with number 0.
        said: why there is no offer, or why it is over.
    """

    tab_id: GoodTabId
    number: SumNumber
    terms: DigestOrNone
    calls: Amount = 0
    ran_ms: Amount = 0
    price: Amount = 0
    is_over: bool = False
    offer: TabTerms | None = None
    said: Line = ""

    def __post_init__(self) -> None:
        cut_lines(self, "said")


class TabSigned(Message, frozen=True, tag=True):
    """The caller's node takes the terms (number 0), or owes so much in all. Less than was stated: the rest is not accepted, and the tab is over.

    Attributes:
        number: of the sum that this answers.
        terms: as stated.
        price: micro-credits owed in all.
    """

    tab_id: GoodTabId
    number: SumNumber
    terms: GoodDigest
    price: Amount
