"""Whether what is booked for a tab follows from what its two sides have signed."""

from __future__ import annotations

import msgspec

from dms.node.ledger_tabs import TabSums, doubt, signer
from dms.testing.samples import NOW, PROVIDER, REQUESTER
from dms_proto.accounts.book import Book, Why
from dms_proto.ids import Digest, MessageId
from dms_proto.machine import Event
from dms_proto.messages import TabSigned, TabStated
from dms_proto.sim.tabs import Pair, cost
from dms_proto.tabs.kept import SumSigned
from dms_proto.tabs.terms import terms_digest
from dms_proto.tabs.used import SumAnswered
from dms_proto.units import MINUTE, SECOND
from dms_proto.wire import seal

change = msgspec.structs.replace


def sealed(message: TabSigned | TabStated) -> bytes:
    by, to = (REQUESTER, PROVIDER) if isinstance(message, TabSigned) else (PROVIDER, REQUESTER)
    return seal(by, message, id=MessageId(bytes(16)), sent=NOW, ttl_ms=MINUTE, to=to.peer_id)


def sums(pair: Pair) -> TabSums:
    """Of both logs, with the frames that the other side would have signed."""
    found, digest = TabSums(), digest_in(pair)
    for seq, event in enumerate((*pair.provider.log, *pair.caller.log)):
        found.feed(seq, framed(event, digest))
    return found


def framed(event: Event, digest: Digest) -> Event:
    match event:
        case SumSigned(tab_id=tab_id, number=number, price=price):
            return change(event, frame=sealed(TabSigned(tab_id, number, digest, price)))
        case SumAnswered(tab_id=tab_id, number=number, stated=stated):
            return change(event, frame=sealed(TabStated(tab_id, number, digest, price=stated)))
        case _:
            return event


def digest_in(pair: Pair) -> Digest:
    """Of the terms of its one tab."""
    return terms_digest(next(iter(pair.caller.state.tabs.values())).terms)


def test_every_entry_of_both_sides_is_made_again_from_their_logs() -> None:
    pair = Pair()
    tab = pair.agree(cost(2 * MINUTE))
    for _ in range(9):
        pair.call(tab, 3 * SECOND)
    pair.leave()
    found = sums(pair)
    entries = [*pair.provider.entries.values(), *pair.caller.entries.values()]
    assert len(entries) == 9
    for entry in entries:
        sum_ = found.sums[entry.why, entry.about]
        assert sum_.made == (Book(entry),)
        assert doubt(sum_, entry) == ""
    signers = {why: signer(sum_) for (why, _), sum_ in found.sums.items()}
    assert signers == {Why.CLAIM: None, Why.RECEIPT: REQUESTER.peer_id, Why.CHARGE: PROVIDER.peer_id}
    booked = {(entry.why, entry.about) for entry in entries}
    assert not list(found.missing(booked))
    (missing,) = found.missing(booked - {(Why.CHARGE, f"{tab}.2")})
    assert missing[:2] == (Why.CHARGE, f"{tab}.2")


def test_a_sum_that_the_other_side_has_not_signed_is_doubted() -> None:
    pair = Pair()
    tab = pair.agree()
    pair.call(tab, SECOND)
    pair.leave()
    found = sums(pair)
    for why, other in (
        (Why.RECEIPT, TabSigned(tab, 1, digest_in(pair), 1)),
        (Why.CHARGE, TabStated(tab, 1, digest_in(pair), price=1)),
        (Why.CHARGE, TabSigned(tab, 1, digest_in(pair), cost(SECOND))),
    ):
        sum_ = found.sums[why, f"{tab}.1"]
        entry = sum_.made[0].entry
        assert doubt(sum_._replace(frame=sealed(other)), entry) == "the peer has signed another sum"
        assert doubt(sum_._replace(frame=b""), entry) == "no sum that the peer has signed is kept"
