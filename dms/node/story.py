"""The story of one job of this node, told by its events: slots, attempts, answers, decisions, and what is new with each event.

A fold like the auction's own state, but over the whole history instead of what is needed to go on: it costs the same for every event, however
many slots there are, and it never decides anything. Views, feeds, explanations and results of a job are read off it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from dms.jobs.spec import JobSpec
from dms.node.verdicts import benchmark_view, told_benchmark, told_comparison, told_verdict
from dms.rpc.api.jobs import Attempt, JobPhase, JobSummary, JobView, SlotView, Verdict
from dms_actors.events import from_row
from dms_actors.ports import StoredEvent
from dms_proto.capability import NOTHING, Resources
from dms_proto.ids import AllocationId, BidId, PeerId, RequestId, short
from dms_proto.market.agreement import difference
from dms_proto.market.auction_events import (
    AllocationAdvanced,
    AllocationCancelRequested,
    AllocationFinished,
    AllocationResized,
    AttemptEnded,
    AwardMade,
    BenchmarkChecked,
    BidPassedOver,
    BidReceived,
    CancelRequested,
    CommitConfirmed,
    CommitFailed,
    ComparisonBegun,
    CopyCalled,
    DeclineReceived,
    OpeningRefused,
    ProviderFroze,
    ProviderReturned,
    ProviderSuspected,
    ProviderThawed,
    RequestAnnounced,
    RequestEnded,
    RequestOpened,
    RequestWaiting,
    ResizeRequested,
    ResultJudged,
    ResultsCompared,
    RoundCalled,
    SealReceived,
    SealsListed,
    TurnAwaited,
)
from dms_proto.market.auction_fold import first_slots
from dms_proto.market.auction_state import SlotPhase
from dms_proto.market.auction_terms import Terms
from dms_proto.market.second_price import words_of
from dms_proto.market.seekers import turn_in_words
from dms_proto.market.sizes import in_words
from dms_proto.messages import Phase
from dms_proto.reputation.silence import SetAside
from dms_proto.units import format_count, format_credits, format_millis
from dms_proto.work import OWNERS, Ending, EndReason, Output, Usage, shown


class Moved(NamedTuple):
    """Something about the job as a whole is worth a line."""

    text: str


class Entered(NamedTuple):
    """An attempt entered a phase; the attempt and its slot as they are then."""

    slot: int
    attempt: int
    provider: PeerId
    phase: Phase
    ending: Ending | None = None


class Judged(NamedTuple):
    """A piece of work has its verdict."""

    verdict: ResultJudged


News = Moved | Entered | Judged


@dataclass
class AttemptStory:
    """One try at filling a slot."""

    slot: int
    number: int
    provider: PeerId
    allocation_id: AllocationId
    started_at: int
    phase: Phase = Phase.COMMITTED
    ended_at: int = 0
    ending: Ending | None = None
    usage: Usage = field(default_factory=Usage)
    price: int = 0
    why: str = ""
    disputed: str = ""
    frozen: str = ""
    outputs: tuple[Output, ...] = ()
    log_bytes: tuple[int, int] = (0, 0)
    checkpoint: int = 0

    def view(self) -> Attempt:
        """As callers see it."""
        return Attempt(
            self.number,
            self.provider,
            self.allocation_id,
            self.phase,
            self.started_at,
            self.ended_at,
            self.ending,
            self.usage,
            self.price,
            self.why,
            self.disputed,
            frozen=self.frozen if self.ending is None else "",
        )


@dataclass
class SlotStory:
    """One of the job's allocations-to-be."""

    index: int
    piece: int
    phase: SlotPhase = SlotPhase.SEEKING
    attempts: list[AttemptStory] = field(default_factory=list)
    ending: Ending | None = None
    outputs: tuple[Output, ...] = ()
    wanted: Resources = NOTHING
    size: str = ""

    def view(self) -> SlotView:
        """As callers see it."""
        attempts = tuple(attempt.view() for attempt in self.attempts)
        return SlotView(self.index, self.phase.value, attempts, self.ending, self.piece, self.size)


class DecisionMade(NamedTuple):
    """A choice between bids, and when."""

    at: int
    award: AwardMade


class JobStory:
    """What has happened to one job. Apply its events in order."""

    def __init__(self, request_id: RequestId) -> None:
        self.request_id = request_id
        self.version = 0
        self.terms: Terms | None = None
        self.opened_at = 0
        self.round = -1
        self.known = 0
        self.why = ""
        self.is_waiting = False
        self.is_cancelling = False
        self.slots: list[SlotStory] = []
        self.comparisons: dict[int, ResultsCompared] = {}
        self.verdicts: dict[int, ResultJudged] = {}
        self.finding: BenchmarkChecked | None = None
        self.by_allocation: dict[AllocationId, AttemptStory] = {}
        self.asked: dict[PeerId, int] = {}
        self.passed_over: dict[PeerId, SetAside] = {}
        self.unawaited: dict[PeerId, int] = {}
        self.gossiped: dict[int, int] = {}
        """Round to number of nodes known then, of the rounds that were gossiped."""
        self.answers: dict[PeerId, BidReceived | BidPassedOver | DeclineReceived] = {}
        self.notes: dict[PeerId, str] = {}
        """What became of a provider that was chosen."""
        self.lost: set[PeerId] = set()
        """Providers that were lost with the job, and have said nothing to it since."""
        self.bids = 0
        self.bids_now = 0
        self.declined_now: set[PeerId] = set()
        self.decisions: list[DecisionMade] = []
        self.price = 0
        self.held = 0
        self.running = 0
        self.done = 0
        self.ended: RequestEnded | None = None
        self._awarded: dict[BidId, tuple[PeerId, tuple[int, ...]]] = {}

    @classmethod
    def of(cls, request_id: RequestId, rows: Iterable[StoredEvent]) -> JobStory:
        """The story so far."""
        story = cls(request_id)
        for row in rows:
            story.apply(row)
        return story

    @property
    def phase(self) -> JobPhase:
        """Where the job is as a whole."""
        if self.ended is not None:
            return JobPhase.ENDED
        if self.is_cancelling:
            return JobPhase.CANCELLING
        if self.held:
            return JobPhase.RUNNING
        return JobPhase.WAITING if self.is_waiting else JobPhase.ASKING

    # ------------------------------------------------------------------------------------------------------------- folding

    def apply(self, row: StoredEvent) -> tuple[News, ...]:  # noqa: C901, PLR0911, PLR0912, PLR0915 - one case per event kind
        """Goes on with the next event of the job's stream; gives what is new."""
        self.version = row.version
        match from_row(row):
            case RequestOpened(terms=terms, at=at):
                self.terms, self.opened_at = terms, at
                self.slots = [SlotStory(slot.index, slot.piece) for slot in first_slots(terms)]
                return (Moved("accepted; asking who can do it"),)
            case RoundCalled():
                self.is_waiting = False
                return ()
            case RequestAnnounced() as event:
                return (self._announced(event),)
            case BidReceived(provider=provider, bid=bid) as event:
                self.answers[provider] = event
                self.lost.discard(provider)
                self.bids, self.bids_now = self.bids + 1, self.bids_now + 1
                self.declined_now.discard(provider)
                return (
                    Moved(f"{short(provider)} bids {format_credits(bid.price)} per allocation, room for {bid.slots}"),
                )
            case SealReceived(provider=provider):
                return (Moved(f"{short(provider)} bids, sealed"),)
            case SealsListed(bid_ids=bid_ids):
                return (Moved(f"{format_count(len(bid_ids), 'sealed bid is', 'sealed bids are')} to be opened"),)
            case OpeningRefused(provider=provider, flaw=flaw):
                self.notes[provider] = f"its sealed bid does not count: {flaw}"
                return (Moved(f"the sealed bid of {short(provider)} does not count: {flaw}"),)
            case DeclineReceived(provider=provider, clauses=clauses) as event:
                self.answers[provider] = event
                self.lost.discard(provider)
                self.declined_now.add(provider)
                why = "; ".join(f"{c.dimension}: wanted {c.wanted}, observed {c.observed}" for c in clauses[:3])
                return (Moved(f"{short(provider)} declines: {why}"),)
            case BidPassedOver(provider=provider, clause=clause) as event:
                self.answers[provider] = event
                self.declined_now.add(provider)
                return (Moved(f"a bid of {short(provider)} is passed over: {clause.dimension}: {clause.observed}"),)
            case AwardMade() as event:
                return self._award(event, row.at)
            case CommitConfirmed(bid_id=bid_id, at=at):
                return self._confirm(bid_id, at)
            case CommitFailed() as event:
                return (self._commit_failed(event),)
            case AllocationAdvanced(allocation_id=allocation, phase=phase):
                return self._enter(allocation, phase)
            case AllocationFinished() as event:
                return self._finished(event)
            case AttemptEnded() as event:
                return self._attempt_ended(event, row.at)
            case CopyCalled(piece=piece):
                self.slots.append(SlotStory(len(self.slots), piece))
                return (Moved("one more copy is to run, to check the result"),)
            case ComparisonBegun(founders=founders, fresh=fresh):
                return (Moved(f"{format_count(len(founders) + len(fresh), 'different answer')} being compared"),)
            case ResultsCompared() as event:
                return (self._compared(event),)
            case ResultJudged() as event:
                return self._judge(event)
            case BenchmarkChecked() as event:
                self.finding = event
                return (Moved(told_benchmark(event)),)
            case ProviderSuspected(peer=peer, until=until):
                return (
                    Moved(
                        f"the way to {short(peer)} is gone; its {format_count(len(until), 'allocation')} may yet return"
                    ),
                )
            case ProviderFroze() | ProviderThawed() as event:
                return self._stand(event)
            case ProviderReturned(peer=peer):
                return (Moved(f"{short(peer)} is back"),)
            case RequestWaiting(why=why):
                return (self._wait(why),)
            case TurnAwaited(ahead=ahead):
                return (self._wait(turn_in_words(ahead)),)
            case AllocationCancelRequested(slot=index):
                return (Moved(f"slot {index} is being stopped"),)
            case ResizeRequested() | AllocationResized() as event:
                return (self._resized(self.slots[event.slot], event),)
            case CancelRequested():
                self.is_cancelling = True
                return (Moved("being stopped"),)
            case RequestEnded() as event:
                self.ended, self.is_waiting = event, False
                return ()
            case _:
                return ()

    def _wait(self, why: str) -> Moved:
        self.why, self.is_waiting = why, True
        return Moved(why)

    def _resized(self, slot: SlotStory, event: ResizeRequested | AllocationResized) -> Moved:
        if isinstance(event, ResizeRequested):
            slot.wanted, slot.size = event.change.resources, "is to get another size"
        elif event.answer.clauses:
            slot.size = f"keeps its size: {'; '.join(clause.observed for clause in event.answer.clauses)}"
        else:
            slot.size = f"has {in_words(slot.wanted)} since {format_millis(event.at_ms)} of its run"
        return Moved(f"slot {slot.index} {slot.size}")

    def _announced(self, event: RequestAnnounced) -> Moved:
        if event.round > self.round:
            self.bids_now, self.declined_now = 0, set()
        self.round, self.known, self.is_waiting = event.round, event.known, False
        self.asked |= dict.fromkeys(event.asked, event.round)
        self.passed_over |= event.passed_over
        self.unawaited |= event.unawaited
        if event.gossiped:
            self.gossiped[event.round] = event.known
        ways = format_count(len(event.asked), "node") + (" and by gossip" if event.gossiped else "")
        return Moved(f"round {event.round + 1}: asked {ways}")

    def _award(self, event: AwardMade, at: int) -> tuple[News, ...]:
        self.decisions.append(DecisionMade(at, event))
        self.is_waiting = False
        ranking = event.decision.ranking
        ranked = {entry.bid_id: entry for entry in ranking.ranked}
        news: list[News] = []
        for bid_id, indexes in event.taken:
            entry = ranked[bid_id]
            self._awarded[bid_id] = (entry.provider, indexes)
            self.held += len(indexes)
            for index in indexes:
                self.slots[index].phase = SlotPhase.COMMITTING
            what = "" if len(self.slots) == 1 else f" {format_count(len(indexes), 'slot')}"
            news.append(Moved(f"{short(entry.provider)} wins{what}: {ranking.story(entry)}"))
            if event.paid is not None:
                self.notes[entry.provider] = words_of(event.paid)
                news.append(Moved(self.notes[entry.provider]))
        return tuple(news)

    @property
    def is_verified(self) -> bool:
        """Whether its results are checked."""
        return self.terms is not None and self.terms.verify.is_on

    @property
    def outcomes(self) -> tuple[tuple[int, SlotStory | None], ...]:
        """Each piece of work with the slot whose result is its own; None while there is none, or where it was never agreed on."""
        if not self.is_verified:
            return tuple((slot.index, slot) for slot in self.slots)
        judged = [self.verdicts.get(piece) for piece in range(self._terms().count)]
        return tuple(
            (piece, None if verdict is None or verdict.accepted is None else self.slots[verdict.accepted])
            for piece, verdict in enumerate(judged)
        )

    def expected(self) -> list[AttemptStory]:
        """The attempts that were awarded and not yet acknowledged, as they will be: their logs may come before the acknowledgement."""
        return [
            AttemptStory(index, len(self.slots[index].attempts) + 1, provider, self._allocation(bid_id, index), 0)
            for bid_id, (provider, indexes) in self._awarded.items()
            for index in indexes
        ]

    def _confirm(self, bid_id: BidId, at: int) -> tuple[News, ...]:
        provider, indexes = self._awarded.pop(bid_id, (PeerId(""), ()))
        return tuple(self._begin(index, provider, self._allocation(bid_id, index), at) for index in indexes)

    def _allocation(self, bid_id: BidId, index: int) -> AllocationId:
        return self._terms().allocation_of(bid_id, index)

    def _begin(self, index: int, provider: PeerId, allocation: AllocationId, at: int) -> Entered:
        slot = self.slots[index]
        slot.phase = SlotPhase.HELD
        attempt = AttemptStory(index, len(slot.attempts) + 1, provider, allocation, at)
        slot.attempts.append(attempt)
        self.by_allocation[allocation] = attempt
        return Entered(index, attempt.number, provider, attempt.phase)

    def _commit_failed(self, event: CommitFailed) -> Moved:
        provider, why = event.provider, event.unfit.observed if event.unfit else event.why
        _, indexes = self._awarded.pop(event.bid_id, (provider, ()))
        self.held -= len(indexes)
        for index in indexes:
            self.slots[index].phase = SlotPhase.SEEKING
        self.notes[provider] = f"was chosen, and its commit failed: {why}"
        return Moved(f"{short(provider)} did not take the commit ({why}); the next best is tried")

    def _enter(self, allocation: AllocationId, phase: Phase) -> tuple[News, ...]:
        attempt = self.by_allocation.get(allocation)
        if attempt is None:
            return ()
        self.running += (phase is Phase.RUNNING) - (attempt.phase is Phase.RUNNING)
        attempt.phase = phase
        return (Entered(attempt.slot, attempt.number, attempt.provider, phase),)

    def _stand(self, event: ProviderFroze | ProviderThawed) -> tuple[News, ...]:
        attempt = self.by_allocation.get(event.allocation_id)
        if attempt is None:
            return ()
        attempt.frozen = event.why if isinstance(event, ProviderFroze) else ""
        told = f"stands still: {attempt.frozen}" if attempt.frozen else "goes on"
        return (Moved(f"{short(event.allocation_id)} at {short(attempt.provider)} {told}"),)

    def _finished(self, event: AllocationFinished) -> tuple[News, ...]:
        attempt = self.by_allocation.get(event.status.allocation_id)
        if attempt is not None:
            self.slots[event.slot].phase = SlotPhase.COLLECTING
            attempt.usage, attempt.price = event.status.usage, event.status.price
            attempt.log_bytes = event.status.log_bytes
        return ()

    def _attempt_ended(self, event: AttemptEnded, at: int) -> tuple[News, ...]:
        slot = self.slots[event.slot]
        news: list[News] = []
        if event.provider:
            self.held -= 1
            attempt = self._close(event, at)
            news.append(Entered(slot.index, attempt.number, event.provider, Phase.ENDED, event.ending))
        self.price += event.price
        slot.phase = SlotPhase.DONE if event.final else SlotPhase.SEEKING
        if event.final:
            self.done += not self.is_verified
            slot.ending, slot.outputs = event.slot_ending, event.outputs
        else:
            what = "goes on" if event.ending.reason is EndReason.CHECKPOINTED else "is tried again"
            news.append(Moved(f"slot {slot.index} {what}: {event.why or event.ending.detail}"))
        return tuple(news)

    def _compared(self, event: ResultsCompared) -> Moved:
        self.comparisons[event.piece] = event
        for slot in self.slots:
            why = event.failed or event.unfit.get(slot.index, "")
            if slot.piece == event.piece and slot.attempts and why:
                self.notes[slot.attempts[-1].provider] = (
                    f"ran it, and {event.comparator} cannot compare its answer: {why}"
                )
        return Moved(told_comparison(event))

    def _judge(self, event: ResultJudged) -> tuple[News, ...]:
        self.verdicts[event.piece] = event
        self.done += 1
        for answer in event.wrong:
            attempt = self.by_allocation[answer.allocation_id]
            self.price -= answer.price
            attempt.disputed, attempt.price = f"wrong: {difference('price', answer.price, 0)}", 0
            self.notes[answer.provider] = "ran it, and gave another result than those who agree"
        return Judged(event), Moved(told_verdict(event))

    def _close(self, event: AttemptEnded, at: int) -> AttemptStory:
        """Ends the attempt; one whose commit was never acknowledged begins and ends here."""
        if event.allocation_id not in self.by_allocation:
            for bid_id, (_, indexes) in tuple(self._awarded.items()):
                if event.slot in indexes:
                    del self._awarded[bid_id]
            self._begin(event.slot, event.provider, event.allocation_id, 0)
        self._enter(event.allocation_id, Phase.ENDED)
        attempt = self.by_allocation[event.allocation_id]
        attempt.ended_at, attempt.ending, attempt.usage = at, event.ending, event.ending.usage
        attempt.price, attempt.why, attempt.outputs = event.price, event.why, event.outputs
        attempt.checkpoint = event.checkpoint
        attempt.disputed = difference("price", event.claimed, event.price) if event.claimed else ""
        if event.ending.reason is not EndReason.COMPLETED:
            if event.ending.reason is EndReason.PROVIDER_LOST:
                self.lost.add(event.provider)
            self.notes[event.provider] = f"ran it, which ended as {event.ending.reason}: {event.ending.detail}"
        return attempt

    # --------------------------------------------------------------------------------------------------------------- views

    def summary(self) -> JobSummary:
        """The job in a line."""
        assert self.terms is not None, "a job begins with RequestOpened"
        ended = self.ended
        return JobSummary(
            job_id=self.request_id,
            name=self.terms.name,
            phase=self.phase,
            count=self.terms.count,
            running=self.running,
            done=self.done,
            submitted_at=self.opened_at,
            ended_at=ended.at if ended is not None else 0,
            price=ended.price if ended is not None else self.price,
            reason=ended.reason if ended is not None else None,
            owner=OWNERS[ended.reason] if ended is not None else None,
            detail=ended.detail if ended is not None else self.why if self.is_waiting else "",
        )

    def view(self, sources: dict[str, str] | None = None) -> JobView:
        """The job in full. `sources`: where its inputs lie on this machine."""
        return JobView(
            summary=self.summary(),
            spec=spec_of(self._terms(), self.opened_at, sources or {}),
            slots=tuple(slot.view() for slot in self.slots),
            round=self.round + 1,
            bids=self.bids,
            declines=len(self.declined_now),
            verdicts=tuple(self._verdict(event) for event in self.verdicts.values()),
            benchmark=benchmark_view(self.finding) if self.finding is not None else None,
        )

    def _verdict(self, event: ResultJudged) -> Verdict:
        prices = sum(attempt.price for slot in self.slots if slot.piece == event.piece for attempt in slot.attempts)
        own = sum(attempt.price for attempt in self.slots[event.accepted].attempts) if event.accepted is not None else 0
        names = (tuple(answer.provider for answer in part) for part in (event.right, event.wrong, event.unjudged))
        right, wrong, unjudged = names
        said = self.comparisons.get(event.piece)
        comparator = said.comparator if said is not None else ""
        return Verdict(
            event.piece, event.at, event.accepted, right, wrong, unjudged, event.why, prices - own, comparator
        )

    def _terms(self) -> Terms:
        assert self.terms is not None, "a job begins with RequestOpened"
        return self.terms


def spec_of(terms: Terms, at: int, sources: dict[str, str]) -> JobSpec:
    """The job as it can be submitted again."""
    return JobSpec(
        task=shown(terms.task),
        needs=terms.needs,
        name=terms.name,
        count=terms.count,
        together=terms.together,
        max_price=terms.max_price,
        budget=terms.budget,
        pricing=terms.pricing,
        deadline_ms=terms.deadline_at - at if terms.deadline_at else 0,
        queue_ms=terms.queue_ms,
        patience_ms=terms.patience_ms,
        bids_wanted=terms.bids_wanted,
        preferences=terms.preferences,
        retry_job_failures=terms.job_failures,
        retry_node_faults=terms.node_faults,
        retry_checkpoints=terms.checkpoints,
        priority=terms.priority,
        verify=terms.verify,
        node=terms.only,
        sources=sources,  # type: ignore[arg-type] # digests, as the task's inputs spell them
    )
