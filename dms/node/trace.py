"""The story of one job across the streams it touched: the request's own, the market's, and those of its allocations.

`gather` finds the events, `steps` tells them as data, `lines` as text. Who ran the job for somebody else has the provider's half of the story,
who asked for it the requester's; a node that did both has both, in one order, since all streams share one counter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from dms.node.projecting.tables import ALLOCATIONS, REQUESTS
from dms.node.verdicts import told_benchmark, told_comparison, told_verdict
from dms.rpc.api.events import TraceStep
from dms.store.events import EventStore
from dms.store.projections import ProjectionRunner
from dms_actors.events import from_row
from dms_actors.ports import StoredEvent
from dms_proto.accounts.book import Entry
from dms_proto.allocation.events import Fetched
from dms_proto.allocation.freezing import Prior
from dms_proto.capability import Resources
from dms_proto.ids import RequestId, short
from dms_proto.machine import Event
from dms_proto.market import auction_events
from dms_proto.market import offer_state as book
from dms_proto.market.second_price import words_of
from dms_proto.market.seekers import turn_in_words
from dms_proto.messages import Clause
from dms_proto.units import format_bytes, format_cores, format_count, format_credits, format_millis
from dms_proto.wire import RefusedFrame, read_frame
from dms_proto.work import Ending

MARKET: Final = "market"
AFTER_MS: Final = 120_000
"""Market events so long after the last event of the job still belong to it: locks that lapse, capacity that is freed."""
PAGE: Final = 10_000


async def gather(store: EventStore, runner: ProjectionRunner, request_id: RequestId) -> list[StoredEvent]:
    """Every event here that is about the request, in order."""
    rows = list(await store.read_stream(request_id))
    allocations = await runner.query(ALLOCATIONS.name, {"request_id": request_id}, limit=PAGE)
    for allocation in allocations:
        rows += await store.read_stream(str(allocation["allocation_id"]))
    heard = await runner.query(REQUESTS.name, {"request_id": request_id, "direction": "received"})
    if heard:
        since = int(heard[0]["at"] or 0)
        until = max((row.at for row in rows), default=since) + AFTER_MS
        rows += await _market(store, request_id, since, until)
    return sorted(rows, key=lambda row: row.seq)


async def _market(store: EventStore, request_id: RequestId, since: int, until: int) -> list[StoredEvent]:
    found: list[StoredEvent] = []
    ours: set[str] = set()
    after = 0
    while page := await store.query(
        stream=MARKET, kinds=MARKET_KINDS, since=since, until=until, after_seq=after, limit=PAGE
    ):
        found += (row for row in page if _concerns(from_row(row), request_id, ours))
        after = page[-1].seq
    return found


def _concerns(event: Event, request_id: RequestId, ours: set[str]) -> bool:
    """Whether a market event is about the request; `ours` collects the bids and allocations that are."""
    return _CONCERNS[type(event)](event, request_id, ours)


def _is_bid(event: book.BidMade, request_id: RequestId, ours: set[str]) -> bool:
    if event.bid.request_id != request_id:
        return False
    ours.add(event.bid.bid_id)
    return True


def _takes_bid(event: book.BidCommitted, _request_id: RequestId, ours: set[str]) -> bool:
    if event.bid_id not in ours:
        return False
    ours.update(reservation.allocation_id for reservation in event.reservations)
    return True


def _is_of_bid(event: Any, _request_id: RequestId, ours: set[str]) -> bool:  # an event with a bid_id
    return event.bid_id in ours


def _is_declined(event: book.RequestDeclined, request_id: RequestId, _ours: set[str]) -> bool:
    return event.request.request_id == request_id


def _is_withdrawn(event: book.RequestWithdrawn, request_id: RequestId, _ours: set[str]) -> bool:
    return event.request_id == request_id


def _is_of_allocation(event: Any, _request_id: RequestId, ours: set[str]) -> bool:  # an event with an allocation_id
    return event.allocation_id in ours


def _is_one_of_ours(event: book.LentFrozen | book.LentThawed, _request_id: RequestId, ours: set[str]) -> bool:
    return not ours.isdisjoint(event.allocation_ids)


_CONCERNS: Final[dict[type[Event], Callable[[Any, RequestId, set[str]], bool]]] = {
    book.BidMade: _is_bid,
    book.BidOpened: _is_of_bid,
    book.BidCommitted: _takes_bid,
    book.CommitTurnedDown: _is_of_bid,
    book.LockReleased: _is_of_bid,
    book.LockExpired: _is_of_bid,
    book.ReservationWidened: _is_of_allocation,
    book.ReservationSettled: _is_of_allocation,
    book.CapacityFreed: _is_of_allocation,
    book.LentFrozen: _is_one_of_ours,
    book.LentThawed: _is_one_of_ours,
    book.RequestDeclined: _is_declined,
    book.RequestWithdrawn: _is_withdrawn,
}
MARKET_KINDS: Final = tuple(kind.__name__ for kind in _CONCERNS)
"""Events of the market's stream that may be about one request."""


def steps(rows: Iterable[StoredEvent]) -> tuple[TraceStep, ...]:
    """The events, told."""
    return tuple(
        TraceStep(row.seq, row.at, row.stream, row.kind, row.cause_id, describe(from_row(row))) for row in rows
    )


def lines(told: Sequence[TraceStep]) -> list[str]:
    """One line per step: time since the first, where, what; indented under the step that shares its cause and came first."""
    if not told:
        return []
    begun = told[0].at
    seen: set[str] = set()
    out = []
    for step in told:
        again = step.cause_id in seen and step.cause_id not in _COMMON_CAUSES
        seen.add(step.cause_id)
        where = step.stream if step.stream == MARKET else short(step.stream)
        out.append(f"{(step.at - begun) / 1000:+9.3f} s  {where:<10} {'  ' if again else ''}{step.text}")
    return out


_COMMON_CAUSES: Final = frozenset({"", "time", "network", "workbench", "collector", "restart", "self"})
"""Causes that name a part of the node, not one message."""


def describe(event: Event) -> str:
    """One line for a person about any event."""
    tell = _TELL.get(type(event).__name__)
    return tell(event) if tell is not None else type(event).__name__


def _clauses(clauses: Sequence[Clause]) -> str:
    return "; ".join(f"{clause.dimension}: wanted {clause.wanted}, observed {clause.observed}" for clause in clauses)


def _signed(frame: bytes) -> str:
    said = read_frame(frame)
    if isinstance(said, RefusedFrame):
        return f"a frame that proves nothing: {said.detail}"
    return f"the {said.kind} that {short(said.sender)} signed, {format_bytes(len(frame))}"


def _ending(ending: Ending) -> str:
    code = f", exit code {ending.exit_code}" if ending.exit_code >= 0 else ""
    return f"{ending.reason}{code}{': ' + ending.detail if ending.detail else ''}"


def _award(event: auction_events.AwardMade) -> str:
    ranking = event.decision.ranking
    ranked = {entry.bid_id: entry for entry in ranking.ranked}
    chosen = ", ".join(
        f"{short(ranked[bid_id].provider)} for {_slots(slots)} ({ranking.story(ranked[bid_id])})"
        for bid_id, slots in event.taken
    )
    paid = f"; {words_of(event.paid)}" if event.paid is not None else ""
    return f"{format_count(len(ranking.ranked), 'bid')} compared; awarded to {chosen}{paid}"


def _slots(slots: Sequence[int]) -> str:
    return f"slot {slots[0]}" if len(slots) == 1 else format_count(len(slots), "slot")


def _booked(entry: Entry) -> str:
    moved = ", ".join(f"{format_credits(t.amount)} from {t.credit} to {t.debit}" for t in entry.transfers)
    return f"{entry.why} {short(entry.about)} with {short(entry.peer)}: {moved or entry.detail}"


def _fetched(fetched: Fetched) -> str:
    parts = [f"{format_bytes(size)} of {short(peer)}" for peer, size in fetched]
    return f", {' and '.join(parts)}" if parts else ""


def _committed(event: book.BidCommitted) -> str:
    ids = ", ".join(short(reservation.allocation_id) for reservation in event.reservations)
    return f"bid {short(event.bid_id)} was taken: capacity reserved for {ids}"


def _resources(event: book.CapabilityRegistered) -> str:
    return f"{_amounts(event.capability.resources)} are offered"


def _amounts(amounts: Resources) -> str:
    gpus = f", {format_count(len(amounts.gpus), 'GPU')}" if amounts.gpus else ""
    return f"{format_cores(amounts.cpu_millicores)}, {format_bytes(amounts.memory_bytes)} of memory{gpus}"


_PRIORS: Final = {Prior.OWNER: "the machine's owner", Prior.ONLINE: "work that somebody waits for"}

_TELL: Final[dict[str, Callable[[Any], str]]] = {
    # the requester's side
    "RequestOpened": lambda e: (
        f"job {e.terms.name or short(e.terms.request_id)} accepted: {e.terms.count} x {e.terms.task.executor}"
    ),
    "RoundCalled": lambda e: f"round {e.round + 1} of asking is due",
    "RequestAnnounced": lambda e: (
        f"round {e.round + 1}: {format_count(len(e.asked), 'node')} asked{' and gossiped' if e.gossiped else ''}, {e.known} known"
    ),
    "BidReceived": lambda e: (
        f"{short(e.provider)} bids {format_credits(e.bid.price)}, room for {e.bid.slots} (bid {short(e.bid.bid_id)})"
    ),
    "SealReceived": lambda e: f"{short(e.provider)} bids, sealed (bid {short(e.sealed.bid_id)})",
    "SealsListed": lambda e: (
        f"no more bids count: {format_count(len(e.bid_ids), 'bidder is', 'bidders are')} asked to open"
    ),
    "OpeningRefused": lambda e: f"the sealed bid of {short(e.provider)} does not count: {e.flaw}",
    "DeclineReceived": lambda e: f"{short(e.provider)} declines: {_clauses(e.clauses)}",
    "AwardMade": _award,
    "CommitConfirmed": lambda e: f"the provider of bid {short(e.bid_id)} holds the capacity",
    "CommitFailed": lambda e: f"{short(e.provider)} did not take the commit: {e.why}",
    "BidPassedOver": lambda e: f"a bid of {short(e.provider)} is passed over: {_clauses((e.clause,))}",
    "BidsReleased": lambda e: (
        f"{format_count(len(e.bid_ids), 'bid')} and {format_count(len(e.withdrawn), 'standing request')} let go"
    ),
    "InvocationRepeated": lambda e: (
        f"nothing is heard of slot {e.slot}: its invocation, which asks for the status, is sent again"
    ),
    "AllocationAdvanced": lambda e: f"allocation {short(e.allocation_id)} of slot {e.slot} is {e.phase}",
    "ProviderFroze": lambda e: (
        f"allocation {short(e.allocation_id)} of slot {e.slot} stands still: {e.why}; evicted after {format_millis(e.evict_after_ms)}"
    ),
    "ProviderThawed": lambda e: f"allocation {short(e.allocation_id)} of slot {e.slot} goes on",
    "ProviderSuspected": lambda e: f"the way to {short(e.peer)} is gone",
    "ProviderReturned": lambda e: f"{short(e.peer)} is back",
    "AllocationFinished": lambda e: (
        f"allocation {short(e.status.allocation_id)} ended, {format_count(len(e.status.outputs), 'output')} to fetch"
    ),
    "AttemptEnded": lambda e: (
        f"slot {e.slot} {'is done' if e.final else 'is tried again'}: {_ending(e.slot_ending)}{f' ({e.why})' if e.why else ''}"
        + (f"; {format_credits(e.claimed)} were claimed, {format_credits(e.price)} accepted" if e.claimed else "")
        + (f"; it began {format_millis(e.late_ms)} late" if e.late_ms else "")
    ),
    "CopyCalled": lambda e: f"one more copy of piece {e.piece} is to run, at a node that has none",
    "ComparisonBegun": lambda e: (
        f"different answers of piece {e.piece} are being compared: {len(e.founders) + len(e.fresh)}"
    ),
    "ResultsCompared": lambda e: f"piece {e.piece}: {told_comparison(e)}",
    "ResultJudged": lambda e: f"piece {e.piece} is judged: {told_verdict(e)}",
    "BenchmarkChecked": lambda e: f"the spot check is over: {told_benchmark(e)}",
    "RequestWaiting": lambda e: f"waiting: {e.why}",
    "TurnAwaited": lambda e: turn_in_words(e.ahead),
    "AllocationCancelRequested": lambda e: f"allocation {short(e.allocation_id)} of slot {e.slot} is being stopped",
    "ResizeRequested": lambda e: f"slot {e.slot} is to hold {_amounts(e.change.resources)}",
    "AllocationResized": lambda e: (
        f"slot {e.slot} keeps its size: {_clauses(e.answer.clauses)}"
        if e.answer.clauses
        else f"slot {e.slot} holds what it was to hold, {format_millis(e.at_ms)} into its run"
    ),
    "CancelRequested": lambda _e: "being stopped",
    "RequestEnded": lambda e: (
        f"the job is over: {e.reason}{': ' + e.detail if e.detail else ''}; {format_credits(e.price)} owed"
    ),
    # the provider's side
    "CapabilityRegistered": _resources,
    "PolicyChanged": lambda _e: "the owner's conditions and prices changed",
    "PressureChanged": lambda e: (
        f"other programs use {format_cores(e.pressure.cpu_millicores)} and {format_bytes(e.pressure.memory_bytes)} more than was left to them"
    ),
    "OwnerCame": lambda e: f"its owner comes first: {e.because}",
    "OwnerLeft": lambda _e: "its owner does not need the machine any more",
    "WorkPaused": lambda e: "stopping: no new work, no commits" if e.stopping else f"paused: {e.because}",
    "PauseLifted": lambda _e: "the owner resumed while it stops: it will start open",
    "WorkResumed": lambda _e: "takes work again",
    "BidMade": lambda e: (
        f"bid {format_credits(e.bid.price)} to {short(e.lock.requester)} and locked capacity for {e.bid.slots} (bid {short(e.bid.bid_id)})"
    ),
    "BidOpened": lambda e: f"bid {short(e.bid_id)} is on a closed list of {len(e.seals)} and was opened",
    "RequestDeclined": lambda e: (
        f"declined for {short(e.requester)}{', and it stands' if e.stands_until else ''}: {_clauses(e.clauses)}"
    ),
    "RequestWithdrawn": lambda e: f"the request of {short(e.requester)} stands no longer",
    "CapacityHeld": lambda e: f"capacity held back by the owner as {e.lock.bid_id}",
    "LockReleased": lambda e: f"bid {short(e.bid_id)} was not needed; its capacity lock is gone",
    "LockExpired": lambda e: f"bid {short(e.bid_id)} was not taken in time; its capacity lock is gone",
    "BidCommitted": _committed,
    "CommitTurnedDown": lambda e: f"refused a commit to bid {short(e.bid_id)}: {e.refusal}",
    "LentFrozen": lambda e: (
        f"{format_count(len(e.allocation_ids), 'allocation')} of offline work to stand still: online work needs the CPU"
    ),
    "LentThawed": lambda e: f"{format_count(len(e.allocation_ids), 'allocation')} of offline work may go on",
    "ReservationWidened": lambda e: (
        f"{short(e.allocation_id)} changes its size; it has {_amounts(e.resources)} meanwhile"
    ),
    "ReservationSettled": lambda e: f"{short(e.allocation_id)} has {_amounts(e.resources)}",
    "CapacityFreed": lambda e: f"the capacity of {short(e.allocation_id)} is free again",
    # an allocation
    "AllocationOpened": lambda e: f"opened for {short(e.reservation.requester)}, slot {e.reservation.slot}",
    "AllocationInvoked": lambda e: f"invoked: {e.task.executor} {' '.join(e.task.command)[:80]}".rstrip(),
    "InvocationRefused": lambda e: f"invocation refused: {e.why}",
    "AllocationReady": lambda e: f"inputs are here{_fetched(e.fetched)}; handed to the executor",
    "AllocationStarted": lambda e: f"started ({e.handle})",
    "AllocationFrozen": lambda e: (
        f"frozen: {e.because}; evicted after {format_millis(e.evict_at - e.at)}"
        if e.evict_at > e.at
        else f"to be evicted: {e.because}"
    ),
    "AllocationThawed": lambda e: f"thawed, as far as it gave way to {_PRIORS[e.to]}",
    "StopBegun": lambda e: f"being stopped: {e.reason}",
    "SizeChanging": lambda e: f"its limits are being set: {_amounts(e.resources)}",
    "SizeChanged": lambda e: f"it has what was asked for, {format_millis(e.answer.at_ms)} into its run",
    "SizeKept": lambda e: f"it keeps its size: {_clauses(e.answer.clauses)}",
    "CommandAdmitted": lambda e: f"{short(e.by)} runs beside it: {' '.join(e.words)[:80]}",
    "EgressBarred": lambda e: f"no connection to {e.barred.destination}: {e.barred.why}",
    "RunEnded": lambda e: f"the run ended: {_ending(e.ending)}",
    "AllocationEnded": lambda e: (
        f"over: {_ending(e.ending)}; {format_millis(e.ending.usage.wall_ms)}, {format_credits(e.price)}, {format_count(len(e.outputs), 'output')}"
    ),
    "EndingRepeated": lambda e: f"the ending was told again (repeat {e.repeat}): no receipt yet",
    "ReceiptReceived": lambda e: f"the requester has the ending, and accepts {format_credits(e.price)}",
    "ReceiptDisputed": lambda e: f"the requester has the ending and disputes it: {'; '.join(e.differences)}",
    "EndingUnclaimed": lambda _e: "no receipt ever came; what it left is removed",
    "RequesterWentAway": lambda _e: "the requester cannot be reached; the work goes on for a while",
    "RequesterCameBack": lambda _e: "the requester is back",
    # calls of services
    "CallRouted": lambda e: (
        f"a call of {e.service} went to {short(e.provider)} ({e.rule})"
        if e.provider
        else f"no node let a call of {e.service} in; {format_count(len(e.options) + e.others, 'node')} asked"
    ),
    # proofs, on both sides
    "FrameKept": lambda e: f"kept as a proof: {_signed(e.frame)}",
    # peers and the owner
    "PeerMet": lambda e: f"heard of {short(e.peer)}",
    "PeerGreeted": lambda e: f"{short(e.peer)} ({e.hello.name}) takes part; clocks differ by {e.clock_offset_ms} ms",
    "PeerRefused": lambda e: f"{short(e.peer)} cannot take part: {e.why}",
    "PeerSucceeded": lambda e: f"{short(e.old)} has a new key: it is {short(e.new)} from now on",
    "PeerLeft": lambda e: f"{short(e.peer)} left: {e.reason}",
    "PeerForgotten": lambda e: f"{short(e.peer)} is forgotten",
    "Posted": lambda e: f"booked: {_booked(e.entry)}",
    "PaymentBooked": lambda e: f"a payment was booked: {_booked(e.entry)}",
    "LimitSet": lambda e: (
        f"{short(e.peer)} may owe {format_credits(e.limit) if e.limit is not None else 'as much as any other'}"
    ),
    "DebtLimitSet": lambda e: (
        f"we may owe {short(e.peer)} {format_credits(e.limit) if e.limit is not None else 'as much as any other'}"
    ),
    "ForgivingHeard": lambda e: f"{short(e.peer)} knows that it is asked no more for {short(e.allocation_id)}",
    "AccountsInherited": lambda e: f"what {short(e.old)} owes is owed by {short(e.new)}, its new name",
    "IouKept": lambda e: f"{short(e.iou.debtor)} signed that it owes us {format_credits(e.iou.amount)}",
    "IouGiven": lambda e: f"signed that we owe {short(e.iou.creditor)} {format_credits(e.iou.amount)}",
    "DisputeSettled": lambda e: _booked(e.entry),
    "EarlierGiven": lambda e: f"not run again: {short(e.request_id)} is the answer",
    "PreferencesChanged": lambda _e: "the owner's preferences changed",
    # the pool
    "CapacityChanged": lambda e: f"the pool may use {_amounts(e.capacity)}",
    "RulesChanged": lambda _e: "the owner's rules for the pool changed",
    "PoolClosed": lambda _e: "the pool takes no more calls",
    "PoolOpened": lambda _e: "the pool takes calls again",
    "ContainerAdmitted": lambda e: (
        f"{e.container_id} is admitted for tier {e.tier}: {e.image.kind} {e.image.model}, {_amounts(e.size)}"
    ),
    "ContainersSpared": lambda e: f"passed by the clock: {', '.join(e.container_ids)}",
    "ContainerStarting": lambda e: f"{e.container_id} is being started",
    "ContainerReady": lambda e: f"{e.container_id} takes calls",
    "ContainerLost": lambda e: f"{e.container_id} has died with the node; it is started again when there is room",
    "ContainerAdopted": lambda e: f"{e.container_id} has outlived the node, and takes calls",
    "ContainerDraining": lambda e: f"{e.container_id} takes no more calls: {e.because}",
    "ContainerStopping": lambda e: (
        f"{e.container_id} is being stopped: {e.because}{f' for {e.newcomer}' if e.newcomer else ''}"
    ),
    "ContainerEnded": lambda e: (
        f"{e.container_id} is gone after {format_count(e.tally.hits, 'call')}{f': {e.why}' if e.why else ''}"
    ),
    "VirtualOpened": lambda e: f"{e.virtual_id} is {e.service.name} of {short(e.user)}, tier {e.tier}",
    "VirtualChanged": lambda e: f"{e.virtual_id} is {e.service.name} in another form, tier {e.tier}",
    "VirtualClosed": lambda e: f"{e.virtual_id} is over after {format_count(e.tally.hits, 'call')}",
    "PoolSaved": lambda e: (
        f"the pool as a whole: {format_count(len(e.containers), 'container')}, {len(e.virtual)} virtual"
    ),
    "TabAgreed": lambda e: (
        f"{short(e.terms.caller)} pays for calls of {e.terms.service}, at most {format_credits(e.terms.max_price)}"
    ),
    "CallBilled": lambda e: (
        f"{e.tab_id} has come to {format_count(e.calls, 'call')}, {format_millis(e.ran_ms)} at work"
    ),
    "SumStated": lambda e: f"{format_credits(e.price)} are asked for on {e.tab_id}, sum {e.number}",
    "SumSigned": lambda e: f"{format_credits(e.price)} are signed on {e.tab_id}, sum {e.number}",
    "TabOver": lambda e: f"{e.tab_id} is over: {e.why}",
    "TabForgotten": lambda e: (
        f"nothing more is asked on {e.tab_id}{': its last sum was never signed' if e.unsigned else ''}"
    ),
    "KeptSaved": lambda e: f"all {format_count(len(e.tabs), 'tab')} of others",
    "TabTaken": lambda e: (
        f"this node pays for calls of {e.terms.service} at {short(e.terms.provider)}, at most {format_credits(e.terms.max_price)}"
    ),
    "CallBegun": lambda e: f"a call on {e.tab_id} is asked for",
    "CallSeen": lambda e: (
        f"a call on {e.tab_id} took {format_millis(e.ms)}" if e.let_in else f"a call on {e.tab_id} was not let in"
    ),
    "SumAnswered": lambda e: f"{format_credits(e.signed)} of {format_credits(e.stated)} are owed on {e.tab_id}",
    "TabEnded": lambda e: f"{e.tab_id} is over: {e.why}",
    "TabsDropped": lambda e: f"{format_count(len(e.tab_ids), 'tab')} forgotten, over for long",
    "UsedSaved": lambda e: f"all {format_count(len(e.tabs), 'tab')} of this node",
    "ServiceInstalled": lambda e: f"the service {e.installed.name} is installed",
    "ServiceOffered": lambda e: f"calls of {e.name} are taken",
    "ServiceWithdrawn": lambda e: f"calls of {e.name} are taken no longer",
    "ServiceRemoved": lambda e: f"the service {e.name} is removed",
    "HitsCounted": lambda e: f"counted: {', '.join(f'{one.virtual_id} {one.tally.hits}' for one in e.virtual)}",
    # grants
    "AnchorAdded": lambda e: f"grants of {short(e.peer)} are accepted",
    "AnchorRemoved": lambda e: f"grants of {short(e.peer)} are accepted no longer",
    "GrantIssued": lambda e: f"issued the grant {short(e.grant_id)}",
    "GrantRenewed": lambda e: f"renewed the grant {short(e.grant_id)} for {short(e.holder)}",
    "GrantRevoked": lambda e: f"the grant {short(e.revocation.grant_id)} is void, says {short(e.revocation.signer)}",
}
"""By the kind of the event."""
