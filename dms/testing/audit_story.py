"""The story of one job as its requester's log has it, and the file about it, with anything in it told otherwise."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import msgspec

from dms.audit.export import export
from dms.audit.lines import Entry, Header, written
from dms.store.chain import GENESIS, Content, Link, Row, link
from dms.testing.samples import NOW, PROVIDER, REQUESTER, TOPIC
from dms_actors.events import to_row
from dms_proto import ids
from dms_proto.capability import Capability, Price, Resources
from dms_proto.ids import Digest, MessageId, digest_of
from dms_proto.machine import Event
from dms_proto.market.agreement import agreement_on, receipt_for, terms_digest
from dms_proto.market.auction_events import (
    AllocationFinished,
    AttemptEnded,
    BidReceived,
    CommitConfirmed,
    RequestOpened,
)
from dms_proto.market.auction_terms import Terms
from dms_proto.market.candidates import BidderFacts
from dms_proto.market.proofs import FrameKept
from dms_proto.messages import AllocationStatus, AnyMessage, Bid, BidRequest, Commit, CommitAck, Phase, Receipt
from dms_proto.units import CORE, GIB, MINUTE
from dms_proto.wire import Signer, seal
from dms_proto.work import Ending, EndReason, Limits, Output, Task, Usage

JOB: Final = ids.request_id(b"the job of an audit")
NEEDS: Final = Capability(resources=Resources(CORE, GIB), max_wall_ms=MINUTE)
TASK: Final = Task("sandbox", ("true",), resources=NEEDS.resources, limits=Limits(wall_ms=MINUTE))
BID: Final = Bid(JOB, 0, 0, ids.bid_id(JOB, PROVIDER.peer_id, 0), NEEDS, 1, Price(start=10), 10, NOW + 10_000, 10_000)
ALLOCATION: Final = ids.allocation_id(BID.bid_id, 0)
AGREED: Final = terms_digest(agreement_on(BID, NEEDS, REQUESTER.peer_id, PROVIDER.peer_id, (0,)))
LOG: Final = b"hello\n"
USED: Final = Usage(wall_ms=1_500, cpu_us=900_000)
STATUS: Final = AllocationStatus(
    JOB,
    ALLOCATION,
    4,
    Phase.ENDED,
    USED,
    Ending(EndReason.COMPLETED, 0, usage=USED),
    (Output("out", digest_of(b"42"), 2),),
    (6, 0),
    10,
    (digest_of(LOG), Digest("")),
)
MESSAGES: Final[dict[str, AnyMessage]] = {
    "request": BidRequest(JOB, 0, NEEDS, 1, 1, 2**32, 100, 250),
    "bid": BID,
    "commit": Commit(JOB, BID.bid_id, (0,), (TASK,), AGREED),
    "ack": CommitAck(JOB, BID.bid_id, (ALLOCATION,), terms=AGREED),
    "status": STATUS,
    "receipt": receipt_for(STATUS, 10),
}
SIGNERS: Final = {
    "request": REQUESTER,
    "bid": PROVIDER,
    "commit": REQUESTER,
    "ack": PROVIDER,
    "status": PROVIDER,
    "receipt": REQUESTER,
    "sealed": PROVIDER,
    "closing": REQUESTER,
}


class Story:
    """What is in the log, event by event; a test changes whatever it likes before the file is made.

    Attributes:
        messages, signers: by the name of the frame ("bid", "commit", "ack", "status", "receipt"; "request" for a provider, "sealed" and
            "closing" where a test has them).
        sent, heard: Unix ms, by the name of the frame; `NOW` where not given.
        exporter: who seals the file.
    """

    def __init__(self) -> None:
        self.messages = dict(MESSAGES)
        self.signers = dict(SIGNERS)
        self.sent: dict[str, int] = {}
        self.heard: dict[str, int] = {}
        self.exporter = REQUESTER

    def change(self, name: str, **fields: Any) -> Story:
        """Has a message say something else."""
        self.messages[name] = msgspec.structs.replace(self.messages[name], **fields)
        return self

    def frame(self, name: str) -> bytes:
        """A signed frame."""
        signer = self.signers[name]
        sent = self.sent.get(name, NOW)
        id_ = MessageId(name.encode().ljust(16, b"."))
        if name == "request":
            return seal(signer, self.messages[name], id=id_, sent=sent, ttl_ms=30_000, topic=TOPIC)
        to = REQUESTER if SIGNERS[name] is PROVIDER else PROVIDER
        return seal(signer, self.messages[name], id=id_, sent=sent, ttl_ms=60_000, to=to.peer_id)

    def kept(self, name: str) -> FrameKept:
        """A frame as the log keeps it."""
        is_own = self.exporter is SIGNERS[name]
        return FrameKept(self.frame(name), 0 if is_own else self.heard.get(name, NOW + 5))

    def events(self) -> list[Event]:
        """The requester's log."""
        terms = Terms(JOB, REQUESTER.peer_id, TASK, NEEDS, max_price=100)
        status = self.messages["status"]
        assert isinstance(status, AllocationStatus)
        assert status.ending is not None
        receipt = self.messages["receipt"]
        assert isinstance(receipt, Receipt)
        return [
            RequestOpened(terms, NOW),
            BidReceived(PROVIDER.peer_id, BID, BidderFacts(), NOW + 10_000),
            self.kept("bid"),
            self.kept("commit"),
            self.kept("ack"),
            CommitConfirmed(BID.bid_id, NOW),
            self.kept("status"),
            AllocationFinished(0, status),
            AttemptEnded(0, PROVIDER.peer_id, ALLOCATION, status.ending, final=True, price=receipt.price),
            self.kept("receipt"),
        ]

    def file(self, change: Callable[[list[Event]], Sequence[Event]] = tuple) -> bytes:
        """The file, of the events as `change` gives them."""
        return export(JOB, tuple(chained(change(self.events()))), self.exporter, NOW)


def chained(events: Sequence[Event], stream: str = JOB) -> Iterator[Link]:
    """Events as a store has them, from the first on."""
    previous = GENESIS
    for number, event in enumerate(events, 1):
        new = to_row(stream, event, "test")
        content: Content = (number, stream, number, new.kind, NOW + number, new.cause_id, 1, new.body)
        row = Row(*content, link(previous, content))
        yield Link(previous, row)
        previous = row.hash


def sealed_again(lines: Sequence[bytes], signer: Signer = REQUESTER) -> bytes:
    """A file of these lines (without the seal), numbered anew and sealed: what a dishonest exporter can do."""
    header = msgspec.json.decode(lines[0], type=Header)
    entries = [msgspec.json.decode(line, type=Entry) for line in lines[1:]]
    links = [Link(entry.previous, entry.row) for entry in entries]
    return written(msgspec.structs.replace(header, exporter=signer.peer_id), links, signer)
