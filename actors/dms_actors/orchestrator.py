"""The Orchestrator actor: runs one request of this node, from submission to its end. One per request; thinks with the auction machine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Final

from dms_actors.behaviour import Address
from dms_actors.draft import Draft, Journal
from dms_actors.letters import (
    AnnounceWanted,
    AttemptNoted,
    BenchmarkNoted,
    Blamed,
    CheckUnderWay,
    PieceJudged,
    RequestOver,
    ShowState,
    SlotAwarded,
    Submit,
    TellAgain,
    Told,
    TurnsCame,
)
from dms_actors.machine_actor import TIME, MachineActor
from dms_actors.mishaps import Mishaps
from dms_actors.proofs import NO_FRAME, Heard, RequesterProofs
from dms_actors.shell import Machine, Shell, Turn
from dms_actors.world import Collector, Post
from dms_proto.accounts.book import Book
from dms_proto.accounts.machine import EntryWritten
from dms_proto.checkpoints import going_on
from dms_proto.ids import AllocationId, PeerId, RequestId, allocation_id
from dms_proto.machine import Decision, Effect, Event, Send, Stimulus, TimeCame
from dms_proto.market import auction, auction_fold
from dms_proto.market.auction_effects import Announce, Collect, Compare, Conclude, HeardFrom, LetDown
from dms_proto.market.auction_events import AwardMade, BenchmarkChecked, ResultJudged
from dms_proto.market.auction_money import stakes
from dms_proto.market.auction_reading import slot_of
from dms_proto.market.auction_state import Auction, AuctionPhase, SlotPhase, terms_of
from dms_proto.market.auction_stimuli import CommitAcked, Restarted, StatusHeard, Submitted
from dms_proto.market.obligations import Obligations
from dms_proto.market.seekers import Seekers
from dms_proto.market.seen import seen_in
from dms_proto.market.spot_checks import awarded_in
from dms_proto.market.workload import Workload
from dms_proto.messages import Commit
from dms_proto.wire import Offence

AUCTION: Final[Machine[Auction]] = Machine(auction.decide, auction_fold.evolve, auction.next_deadline, auction.resume)


class Orchestrator(MachineActor):
    """Runs one request."""

    def __init__(
        self,
        request_id: RequestId,
        *,
        journal: Journal,
        post: Post,
        collector: Collector,
        node: Address,
        obligations: Obligations,
        workload: Workload,
        seekers: Seekers,
        mishaps: Mishaps,
    ) -> None:
        self.shell = Shell(AUCTION._replace(decide=self._decide), request_id, Auction())
        self._obligations = obligations
        self._workload = workload
        self._seekers = seekers
        super().__init__(journal, (self.shell,), mishaps)
        self._request_id = request_id
        self._post = post
        self._collector = collector
        self._node = node
        self._proofs = RequesterProofs(journal, request_id)

    def start(self, me: Address, *, is_new: bool) -> None:
        """Also: what is at work, and who seeks, counts before anything of this node decides."""
        super().start(me, is_new=is_new)
        self._seekers.resume(self._request_id, self.shell.state)
        self._count_work()

    def receive(self, batch: Sequence[object], now: int) -> Sequence[object] | Draft:
        """Also: what was decided counts at once, so that no other request of this node decides on the same money, or as if nothing were under way."""
        handled = super().receive(batch, now)
        self._obligations.hold(self._request_id, stakes(self.shell.state))
        self._workload.note(self._request_id, self.shell.state)
        return handled

    def begin(self, turn: Turn, now: int) -> None:
        """Expects again what was expected, gives the providers time to be reached again; resumes."""
        for slot in self.shell.state.slots:
            if slot.phase in (SlotPhase.COMMITTING, SlotPhase.HELD, SlotPhase.COLLECTING):
                self._expect(slot.provider, slot.allocation_id)
        terms = self.shell.state.terms
        if terms is not None and terms.spot_check is not None:
            self._node.tell(CheckUnderWay(terms.spot_check.provider, self.shell.state.opened_at))
        turn.apply(self.shell, Restarted(), now, "restart")
        super().begin(turn, now)

    def handle(self, turn: Turn, message: object, now: int) -> object:
        """A stimulus, or the question for the state."""
        match message:
            case Told(stimulus=stimulus, cause_id=cause_id, heard=heard):
                if isinstance(stimulus, StatusHeard) and stimulus.status.ending is not None:
                    stimulus = StatusHeard(
                        stimulus.provider, stimulus.status, complete=self._collector.is_complete(stimulus.status)
                    )
                if isinstance(stimulus, CommitAcked):
                    self._proofs.acknowledged(turn, self.shell.state, stimulus, heard, cause_id)
                self._settle(turn, stimulus, heard, now, cause_id)
                return None
            case Submit(terms=terms, cause_id=cause_id):
                turn.apply(self.shell, Submitted(terms), now, cause_id)
                return terms.request_id
            case ShowState():
                return self.shell.state
            case TellAgain():
                over = (Conclude(),) if self.shell.state.phase is AuctionPhase.ENDED else ()
                again = tuple(effect for effect in AUCTION.resume(self.shell.state) if isinstance(effect, Announce))
                turn.want(self.shell, (*again, *over), "node restart")
                return None
            case _:
                raise TypeError(f"an orchestrator is told stimuli, not {message!r}")

    def blame(self, peer: PeerId, now: int) -> None:
        """See `MachineActor.blame`."""
        self._node.tell(Blamed(peer, Offence.UNHANDLED))

    def time_came(self, turn: Turn, shell: Shell[Any], now: int) -> None:
        """Also: what time decides is kept and noted like what a message decides."""
        del shell
        self._settle(turn, TimeCame(), NO_FRAME, now, TIME)

    def _settle(self, turn: Turn, stimulus: Stimulus, heard: Heard, now: int, cause_id: str) -> None:
        """Lets the machine decide; keeps the frames of what follows, and notes what it says of providers."""
        for event in turn.apply(self.shell, stimulus, now, cause_id).events:
            self._proofs.happened(turn, event, heard, cause_id)
            for note in self._notes_on(event, now):
                turn.once_written(partial(self._node.tell, note))

    def _notes_on(self, event: Event, now: int) -> Iterator[AttemptNoted | PieceJudged | SlotAwarded | BenchmarkNoted]:
        """What an event says of providers and of work, for the node; told once it is written."""
        for seen in seen_in(event):
            yield AttemptNoted(*seen, now)
        match event:
            case ResultJudged():
                yield PieceJudged(terms_of(self.shell.state), event)
            case AwardMade():
                yield from (SlotAwarded(terms_of(self.shell.state), taken) for taken in awarded_in(event))
            case BenchmarkChecked():
                yield BenchmarkNoted(event)

    def turn_written(self, turn: Turn) -> None:
        """Also: what is at work is no longer only decided."""
        super().turn_written(turn)
        self._count()

    def turn_refused(self, turn: Turn) -> None:
        """Also: what was decided does not count."""
        super().turn_refused(turn)
        self._count()

    def perform(self, shell: Shell[Any], effect: Effect, cause_id: str) -> None:
        """Sends, announces, collects, has results compared, books, concludes."""
        match effect:
            case Send(peer=peer, message=message):
                if isinstance(message, Commit):
                    for slot in message.slots:
                        self._expect(peer, allocation_id(message.bid_id, slot))
                frame = self._post.send(peer, message, cause_id)
                self._proofs.sent(peer, message, frame, cause_id)
            case Announce(request=request):
                self._node.tell(AnnounceWanted(request, cause_id, terms_of(self.shell.state).only or None))
            case Collect(provider=provider, status=status):
                self._collector.collect(self._request_id, provider, status)
            case Compare():
                self._collector.compare(self._request_id, effect)
            case Book(entry=entry):
                self._obligations.written(entry)
                self._node.tell(Told(EntryWritten(entry), cause_id))
            case LetDown() | HeardFrom():
                self._node.tell(effect)
            case Conclude():
                self._collector.forget(self._request_id)
                self._node.tell(RequestOver(self._request_id))
            case _:
                raise TypeError(f"no hands for {effect!r}")

    def _decide(self, state: Auction, stimulus: Stimulus, now: int) -> Decision:
        informed, stimulus = self._workload.informed(state, stimulus)
        return auction.decide(self._obligations.informed(self._request_id, informed, stimulus), stimulus, now)

    def _count(self) -> None:
        """What is at work now counts for what other requests of this node decide; who seeks, for whose turn it is."""
        self._count_work()
        came = self._seekers.note(self._request_id, self.shell.state)
        if others := tuple(request_id for request_id in came if request_id != self._request_id):
            self._node.tell(TurnsCame(others))

    def _count_work(self) -> None:
        self._obligations.stake(self._request_id, stakes(self.shell.state))
        self._workload.note(self._request_id, self.shell.state)

    def _expect(self, provider: PeerId, allocation: AllocationId) -> None:
        terms, slot = terms_of(self.shell.state), slot_of(self.shell.state, allocation, provider)
        task = going_on(terms.task, slot.checkpoint) if slot is not None else terms.task
        self._collector.expect(self._request_id, provider, allocation, task)
