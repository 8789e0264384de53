"""What the end of one attempt means for its slot, and what is owed for it."""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from dms_proto.accounts.book import charge
from dms_proto.checkpoints import NO_CHECKPOINT, Checkpoint, files_of, is_at_checkpoint, no_progress, too_much
from dms_proto.ids import PeerId
from dms_proto.machine import Effect, Send
from dms_proto.market.agreement import figures_digest, receipt_for, unheard
from dms_proto.market.auction_events import AttemptEnded
from dms_proto.market.auction_freezes import BORNE_EVICTIONS
from dms_proto.market.auction_money import awaits_verdict
from dms_proto.market.auction_pace import late_ms
from dms_proto.market.auction_reading import is_answer
from dms_proto.market.auction_state import Auction, AuctionPhase, Slot, terms_of
from dms_proto.market.auction_terms import Terms
from dms_proto.messages import AllocationStatus, Cancel
from dms_proto.units import format_count, format_credits, format_millis
from dms_proto.work import ANSWERS, DETERMINISTIC, NODE_FAULTS, OWED, Ending, EndReason, Task, Usage

change = msgspec.structs.replace
GIVEN: Final = ANSWERS | {EndReason.CHECKPOINTED}
"""Ends of attempts that have given something."""
STOPPED: Final = {EndReason.CANCELLED: "cancelled by its owner", EndReason.DEADLINE: "its deadline passed"}
"""Why a request that is being stopped is, in words."""


class _Sequel(NamedTuple):
    """What follows for a slot: it is done (`final`), maybe with no try left (`exhausted`), or tried again, for which `why` accounts."""

    final: bool
    why: str = ""
    exhausted: bool = False


def attempt_over(auction: Auction, slot: Slot, ending: Ending) -> AttemptEnded:
    """What the end of one attempt means for its slot."""
    terms, status = terms_of(auction), slot.status
    ending, checkpoint = _left_behind(terms.task, slot, ending)
    is_stopped = auction.phase is AuctionPhase.CANCELLING or bool(slot.give_up_at)
    claimed = status.price if status is not None and ending.reason not in NODE_FAULTS else 0
    is_owed = ending.reason in OWED and (is_stopped or ending.reason is not EndReason.CANCELLED)
    price = min(claimed, fair_price(auction, slot, ending.usage)) if is_owed else 0
    final, why, exhausted = _sequel(terms, slot, ending.reason, checkpoint, is_stopped=is_stopped)
    ending = _as_it_counts(auction, ending, is_stopped=is_stopped)
    outputs = status.outputs if status is not None else ()
    if not final and is_at_checkpoint(terms.task, ending):
        outputs = checkpoint.files  # none, where nothing goes on from what it left
    return AttemptEnded(
        slot.index,
        slot.provider,
        slot.allocation_id,
        ending,
        final,
        price,
        outputs,
        "" if final else why,
        claimed if claimed > price else 0,
        slot.source,
        exhausted,
        late_ms(auction, slot),
        0 if final else checkpoint.number,
    )


def not_kept(auction: Auction, slot: Slot, ending: Ending, failed: str) -> AttemptEnded:
    """What it means that this node cannot store what an attempt gave: nobody else could help, and it is owed. One that gave nothing has just failed.

    That reason is this node's alone: what a provider says of its requester ends no job.
    """
    ended = attempt_over(auction, slot, ending)
    if ended.ending.reason not in GIVEN:
        return ended
    detail = f"its results cannot be kept here: {failed}"
    ours = Ending(EndReason.REQUESTER_FAULT, ending.exit_code, detail, ending.usage)
    return change(ended, ending=ours, final=True, outputs=(), why="", exhausted=False, checkpoint=0)


def _sequel(terms: Terms, slot: Slot, reason: EndReason, checkpoint: Checkpoint, *, is_stopped: bool) -> _Sequel:
    """What follows for a slot when an attempt has ended for `reason`, and left `checkpoint`."""
    is_checked = reason in DETERMINISTIC and terms.verify.is_on  # an answer, which others confirm or not
    if reason is EndReason.COMPLETED or is_stopped or is_checked:
        return _Sequel(final=True)
    if reason in DETERMINISTIC:
        nodes = len({*slot.failed_on, slot.provider})
        why = f"the job's own failure on {nodes} of {format_count(terms.job_failures, 'node')}"
        return _Sequel(nodes >= terms.job_failures, why)
    if reason is EndReason.EVICTED:
        is_over = slot.freezes.evictions >= BORNE_EVICTIONS
        return _Sequel(is_over, "it gave way at its provider, which is nobody's fault", is_over)
    if reason is EndReason.CHECKPOINTED:
        is_over = checkpoint.number > terms.checkpoints
        return _Sequel(is_over, f"it goes on from {checkpoint}", is_over)
    is_over = slot.faults >= terms.node_faults
    if reason is EndReason.INPUT_UNAVAILABLE:
        return _Sequel(is_over, "it did not get what it reads")
    return _Sequel(is_over, f"fault {slot.faults + 1}, {format_count(terms.node_faults, 'is', 'are')} borne", is_over)


def _as_it_counts(auction: Auction, ending: Ending, *, is_stopped: bool) -> Ending:
    """The ending, for our reason where we stopped it, and for its provider's where that did."""
    if is_stopped and ending.reason not in ANSWERS:
        stopped_for = auction.stopped_for if auction.phase is AuctionPhase.CANCELLING else EndReason.CANCELLED
        return change(ending, reason=stopped_for)
    if ending.reason is EndReason.CANCELLED:
        return change(ending, reason=EndReason.PROVIDER_STOPPED)
    return ending


def _left_behind(task: Task, slot: Slot, ending: Ending) -> tuple[Ending, Checkpoint]:
    """What an attempt has left for the next one to go on from, and how it ended: leaving nothing that leads further is a failure, whoever's it is."""
    is_told = ending.reason is EndReason.CHECKPOINTED
    files = files_of(task, slot.status.outputs) if slot.status is not None and is_at_checkpoint(task, ending) else ()
    if not files:
        lie = change(ending, reason=EndReason.PROVIDER_FAULT, detail="it tells of a checkpoint, and names none")
        return (lie if is_told else ending), NO_CHECKPOINT
    left = Checkpoint(slot.checkpoint.number + 1, files)
    if flaw := too_much(task, left):
        return _unfit(ending, flaw), NO_CHECKPOINT
    if is_told and (flaw := no_progress(slot.checkpoint, left)):
        return _unfit(ending, flaw), NO_CHECKPOINT
    return ending, left


def _unfit(ending: Ending, flaw: str) -> Ending:
    """A program that leaves what it cannot go on from has failed; what was stopped before it had more to leave has not."""
    if ending.reason is not EndReason.CHECKPOINTED:
        return ending
    return change(ending, reason=EndReason.EXIT_NONZERO, detail=f"exit code {ending.exit_code}: {flaw}")


def fair_price(auction: Auction, slot: Slot, usage: Usage) -> int:
    """The most that can be owed for a slot in micro-credits: its tariff over the usage its provider states, for what it held when."""
    needs = terms_of(auction).needs.resources
    return min(slot.agreed, slot.sizes.cost(slot.tariff, needs, usage.wall_ms))


def receipt(auction: Auction, ended: AttemptEnded) -> tuple[Effect, ...]:
    """Tells the provider that its ending has been heard and what is owed for it, and books the same. Of what is yet to be judged, nothing."""
    if is_answer(auction, auction.slots[ended.slot], ended):
        return ()  # with the verdict
    status = auction.slots[ended.slot].status
    assert status is not None, "what has not ended at its provider has no receipt"
    refused = ended.claimed - ended.price if ended.claimed else 0
    entry = charge(
        ended.provider, status.request_id, ended.allocation_id, ended.price, _objection(ended), refused=refused
    )
    return (*entry, Send(ended.provider, receipt_for(status, ended.price)))


def _objection(ended: AttemptEnded) -> str:
    """What is said of a claim that was not accepted; empty for one that was."""
    if not ended.claimed:
        return ""
    if ended.ending.reason not in (*OWED, *STOPPED) and not ended.price:
        return f"{format_credits(ended.claimed)} were claimed; for a run that gave nothing and that nobody here stopped nothing is owed"
    return (
        f"{format_credits(ended.claimed)} were claimed; the tariff over {format_millis(ended.ending.usage.wall_ms)}, "
        f"within what was agreed, gives {format_credits(ended.price)}"
    )


def answer_stale(auction: Auction, status: AllocationStatus, provider: PeerId) -> tuple[Effect, ...]:
    """An attempt that is over here: the provider is told to stop, or that its ending has been heard; nothing while its result is to be judged.

    Whatever it tells instead of the ending that was heard is not confirmed.
    """
    terms = terms_of(auction)
    if status.ending is None:
        return (Send(provider, Cancel(terms.request_id, status.allocation_id)),)
    if any(slot.allocation_id == status.allocation_id and awaits_verdict(auction, slot) for slot in auction.slots):
        return ()
    attempts = (attempt for slot in auction.slots for attempt in slot.settled)
    settled = (
        each.price for each in attempts if (each.provider, each.allocation_id) == (provider, status.allocation_id)
    )
    heard = (slot.heard.get(status.allocation_id) for slot in auction.slots)
    is_as_heard = figures_digest(status) in heard
    price = next(settled, 0)
    return (Send(provider, receipt_for(status, price) if is_as_heard else unheard(status, price)),)
