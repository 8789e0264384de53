"""What the events of tabs say about the accounts: which sums were asked for and signed, here and elsewhere. A part of `ledger_check`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from dms_proto.accounts import book
from dms_proto.accounts.book import Account, Book, Entry, Why
from dms_proto.ids import PeerId, TabId
from dms_proto.machine import Event
from dms_proto.messages import TabSigned, TabStated
from dms_proto.tabs.kept import SumSigned, SumStated, TabAgreed
from dms_proto.tabs.terms import entry_name
from dms_proto.tabs.used import SumAnswered
from dms_proto.wire import Envelope, read_frame


class Sum(NamedTuple):
    """A fact that an entry is to be booked for.

    Attributes:
        seq: of its event.
        peer: with whom the tab is.
        number, price: that the peer has signed.
        made: what is to be booked; nothing, if the sum is no more than the one before.
        frame: as it was signed; empty where this node states it.
    """

    seq: int
    peer: PeerId
    number: int
    price: int
    made: tuple[Book, ...]
    frame: bytes = b""


class TabSums:
    """Reads events in order."""

    def __init__(self) -> None:
        self.sums: dict[tuple[Why, str], Sum] = {}
        self._callers: dict[TabId, PeerId] = {}
        self._stated: dict[TabId, tuple[int, int]] = {}
        self._signed: dict[TabId, int] = {}
        self._answered: dict[TabId, tuple[int, int]] = {}

    def feed(self, seq: int, event: Event) -> None:
        """Goes on with the next event; others than those of tabs say nothing."""
        match event:
            case TabAgreed(terms=terms):
                self._callers[terms.tab_id] = terms.caller
            case SumStated(tab_id=tab_id, number=number, price=price) if tab_id in self._callers:
                claimed = price - self._stated.get(tab_id, (0, 0))[0]
                self._stated[tab_id] = (price, claimed)
                about, peer = entry_name(tab_id, number), self._callers[tab_id]
                self.sums[Why.CLAIM, about] = Sum(seq, peer, number, price, book.claim(peer, "", about, claimed))
            case SumSigned(tab_id=tab_id, number=number, price=price, frame=frame) if tab_id in self._stated:
                about, peer, claimed = entry_name(tab_id, number), self._callers[tab_id], self._stated[tab_id][1]
                made = book.answered(peer, "", about, claimed, price - self._signed.get(tab_id, 0))
                self.sums[Why.RECEIPT, about] = Sum(seq, peer, number, price, made, frame)
                self._signed[tab_id] = price
            case SumAnswered(tab_id=tab_id, provider=peer, number=number, stated=stated, signed=signed, frame=frame):
                stated_before, signed_before = self._answered.get(tab_id, (0, 0))
                more = signed - signed_before
                refused = max(0, stated - stated_before) - more
                about = entry_name(tab_id, number)
                made = book.charge(peer, "", about, more, "refused" if refused else "", refused=refused)
                self.sums[Why.CHARGE, about] = Sum(seq, peer, number, stated, made, frame)
                self._answered[tab_id] = (stated, signed)
            case _:
                pass

    def missing(self, booked: set[tuple[Why, str]]) -> Iterator[tuple[Why, str, Sum]]:
        """Sums for which nothing is booked, and something was to be."""
        for (why, about), found in self.sums.items():
            if found.made and (why, about) not in booked:
                yield why, about, found


def doubt(found: Sum, entry: Entry) -> str:
    """Why what the peer has signed is not what an entry rests on; empty: it is. Who signed it is for the caller to see."""
    if entry.why is Why.CLAIM:
        return ""
    opened = read_frame(found.frame) if found.frame else None
    if not isinstance(opened, Envelope):
        return "no sum that the peer has signed is kept"
    match opened.message:
        case TabSigned(number=number, price=price) if entry.why is Why.RECEIPT:
            accepts_some = (
                entry.moves(Account.OPEN) != 0
            )  # who takes back what it signed before has accepted nothing more
            is_it = number == found.number and (price >= found.price or not accepts_some)
        case TabStated(number=number, price=price) if entry.why is Why.CHARGE:
            is_it = number == found.number and price == found.price
        case _:
            is_it = False
    return "" if is_it else "the peer has signed another sum"


def signer(found: Sum) -> PeerId | None:
    """Who has signed what a sum rests on."""
    opened = read_frame(found.frame) if found.frame else None
    return opened.sender if isinstance(opened, Envelope) else None
