"""What a provider remembers of agreements until they are made: nobody pushes others' out, and a turn that was not written changes nothing."""

from __future__ import annotations

import msgspec
import pytest

from dms.testing.seeded_world import SeededJournal
from dms_actors.proofs import MAX_UNTAKEN, Heard, ProviderProofs
from dms_actors.shell import Turn
from dms_actors.testing.event_log import MemoryEventLog
from dms_actors.testing.seeded import SeededLoop, SeededRuntime
from dms_proto.ids import PeerId
from dms_proto.machine import Event
from dms_proto.market.offer_state import BidCommitted, CommitHeard, RequestHeard
from dms_proto.market.proofs import FrameKept
from dms_proto.messages import Bid
from dms_proto.sim.provider import Provider, request


def nowhere(_shell: object, _effect: object, _cause: str) -> None:
    """No effects are performed."""


class Desk:
    """An offer book, and the proofs beside it."""

    def __init__(self) -> None:
        loop = SeededLoop(1)
        self.journal = SeededJournal(MemoryEventLog(lambda: 0), SeededRuntime(loop))
        self.proofs = ProviderProofs(self.journal, lambda peer: peer.partition("@")[2])
        self.provider = Provider()

    def asks(self, name: str, requester: str, *, written: bool = True) -> Bid:
        """A request is heard, bid on, and the bid sent."""
        asked = request(name)
        bid = self.provider.bids(asked, requester)
        heard = RequestHeard(PeerId(requester), asked)
        turn = Turn()
        self.proofs.asked(turn, heard, self.provider.events, Heard(f"asked {name}".encode(), 1))
        self.over(turn, written=written)
        self.proofs.sent(PeerId(requester), bid, f"bid {name}".encode(), "")
        return bid

    def takes(self, bid: Bid, requester: str, *, written: bool = True) -> list[bytes]:
        """A bid is taken; gives the frames that are written down for it."""
        commit = self.provider.commit_of(bid, requester)
        committing = CommitHeard(PeerId(requester), commit)
        events: list[Event] = [BidCommitted(bid.bid_id, PeerId(requester), ())]
        turn = Turn()
        self.proofs.committed(turn, committing, events, Heard(b"commit", 2), "")
        self.over(turn, written=written)
        return [msgspec.msgpack.decode(row.body, type=FrameKept).frame for row in turn.rows]

    def over(self, turn: Turn, *, written: bool) -> None:
        """The turn is in the log, or was refused."""
        if written:
            turn.perform(nowhere)
        else:
            turn.undo()


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_all_that_led_to_an_agreement_is_written_with_it(desk: Desk) -> None:
    bid = desk.asks("r", "a@here")
    assert desk.takes(bid, "a@here") == [b"asked r", b"bid r", b"commit"]


def test_a_commit_whose_turn_was_not_written_finds_its_proofs_again(desk: Desk) -> None:
    """A full disk made the export of the agreement say "missing" for ever."""
    bid = desk.asks("r", "a@here")
    desk.takes(bid, "a@here", written=False)
    assert desk.takes(bid, "a@here") == [b"asked r", b"bid r", b"commit"]


def test_one_requester_that_asks_without_end_does_not_push_out_the_proofs_of_another(desk: Desk) -> None:
    bid = desk.asks("honest", "a@here")
    for number in range(2 * MAX_UNTAKEN):
        asked = request(f"flood {number}")
        heard = RequestHeard(PeerId(f"sybil {number % 100}@there"), asked)
        turn = Turn()
        desk.proofs.asked(turn, heard, desk.provider.events, Heard(b"flood", 1))
        desk.over(turn, written=True)
        fake = msgspec.structs.replace(bid, bid_id=f"{number:064x}")  # type: ignore[arg-type]
        desk.proofs.sent(heard.requester, fake, b"flood", "")
    assert desk.takes(bid, "a@here") == [b"asked honest", b"bid honest", b"commit"]
