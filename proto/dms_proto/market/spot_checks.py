"""Spot checks of benchmarks: small requests of this node's own to one provider, beside an award to it, that measure what its bid claims.

A spot check is a request like any other: bid for, committed, paid and ended alike. Its work follows from the secret of the request beside which it
goes out, so it is not sent twice after a restart, and nobody can do it before it is committed. What was found is written with its end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from dms_proto.capability import Capability, ExecutorOffer
from dms_proto.ids import Digest, PeerId, request_id, short
from dms_proto.machine import IGNORED, Decision
from dms_proto.market.auction_events import AwardMade, BenchmarkChecked
from dms_proto.market.auction_state import Auction, Slot, SlotPhase, terms_of
from dms_proto.market.auction_terms import SpotCheck, Terms
from dms_proto.market.candidates import Candidate
from dms_proto.market.named_node import only_there
from dms_proto.market.preferences import Preferences
from dms_proto.messages import Pricing
from dms_proto.units import MINUTE, SECOND
from dms_proto.verification import spot_work
from dms_proto.verification.chance import drawn
from dms_proto.verification.policy import Verification
from dms_proto.verification.spot_check import APART_MS, SpotChecks, found, is_due
from dms_proto.work import DETERMINISTIC, Ending, EndReason

START_ALLOWANCE_MS: Final = 1 * SECOND
"""`running` is the provider's word: it counts, but for no later than so long after the provider acknowledged the commit."""
QUEUE_MS: Final = 2 * MINUTE
"""How long a check waits for a core that is free there: the job beside which it goes out may have the last one."""
_EXCUSED: Final = EndReason.BAD_PROGRAM
"""There is no such program there: a machine without Python has not been measured."""


class Benchmarks:
    """What spot checks have found of every provider. A fold of their findings; not shared between threads."""

    def __init__(self) -> None:
        self._found: dict[PeerId, BenchmarkChecked] = {}
        self._sent: dict[PeerId, int] = {}

    def note(self, finding: BenchmarkChecked) -> None:
        """One more finding; that of a check which found nothing says only why."""
        self._found[finding.provider] = finding

    def all(self) -> Mapping[PeerId, BenchmarkChecked]:
        """The last finding on every provider."""
        return dict(self._found)

    def before(self, provider: PeerId) -> SpotChecks:
        """What checks of a provider have found so far."""
        finding = self._found.get(provider)
        return finding.checks if finding is not None else SpotChecks()

    def is_due(self, beside: Terms, candidate: Candidate, now: int) -> bool:
        """Whether a provider that was awarded a slot of `beside` at `now` (Unix ms) is checked. Never within `APART_MS` of the last check."""
        sent = self._sent.get(candidate.provider)
        if sent is not None and now - sent < APART_MS:
            return False
        before = self.before(candidate.provider)
        return is_checkable(beside, candidate) and is_due(before, now, beside.seed, candidate.provider)

    def sent(self, provider: PeerId, at: int) -> None:
        """A check went out, or goes, at Unix ms."""
        self._sent[provider] = max(at, self._sent.get(provider, 0))

    def inherit(self, old: PeerId, new: PeerId) -> None:
        """A provider has a new name: what was found under the old one is known of the new one."""
        finding, sent = self._found.pop(old, None), self._sent.pop(old, None)
        if finding is not None:
            self._found.setdefault(new, finding)
        if sent is not None:
            self._sent.setdefault(new, sent)


def is_checkable(beside: Terms, candidate: Candidate) -> bool:
    """Whether a provider claims something that can be measured there, and is not this node itself; a check is not checked."""
    offer = candidate.offer
    return (
        beside.spot_check is None
        and not candidate.own
        and offer.cpu_score > 0
        and offer.resources.cpu_millicores >= spot_work.RESOURCES.cpu_millicores
        and any(executor.name == spot_work.EXECUTOR for executor in offer.executors)
    )


def awarded_in(event: AwardMade) -> Iterator[Candidate]:
    """Who was awarded something, with what it offered."""
    taken = {bid_id for bid_id, _ in event.taken}
    return (candidate for candidate in event.decision.candidates if candidate.bid_id in taken)


def check_terms(beside: Terms, candidate: Candidate, before: SpotChecks, most_price: int) -> Terms:
    """What is asked of a provider to check its benchmark; the answer is yet to be worked out.

    Args:
        beside: the request in which it was awarded a slot.
        candidate: its bid there.
        before: what checks of it have found.
        most_price: micro-credits that the check may cost.
    """
    provider, claimed = candidate.provider, candidate.offer.cpu_score
    rounds = spot_work.rounds_for(claimed)
    task = spot_work.task(seed_of(beside, provider), rounds)
    return msgspec.structs.replace(
        beside,
        request_id=request_id(drawn(beside.seed, "spot check", provider, "request")),
        name=f"spot check of {short(provider)}",
        task=task,
        needs=Capability(
            resources=task.resources,
            executors=(ExecutorOffer(task.executor),),
            relayed=True,
            max_wall_ms=task.limits.wall_ms,
        ),
        preferences=Preferences(constraints=(only_there(provider),)),
        count=1,
        bids_wanted=1,
        max_price=most_price,
        budget=0,
        deadline_at=0,
        queue_ms=QUEUE_MS,
        patience_ms=0,
        job_failures=1,
        node_faults=0,
        verify=Verification(),
        canary=None,
        seed=drawn(beside.seed, "spot check", provider, "seed"),
        spot_check=SpotCheck(provider, claimed, rounds, before),
        pricing=Pricing.FIRST_PRICE,
        only=provider,
    )


def seed_of(beside: Terms, provider: PeerId) -> bytes:
    """From what the work of a check starts."""
    return drawn(beside.seed, "spot check", provider, "work")


def answered(terms: Terms, answer: Digest) -> Terms:
    """The check, with the digest of what the program has to print."""
    assert terms.spot_check is not None, "only a check has an answer"
    return msgspec.structs.replace(terms, spot_check=msgspec.structs.replace(terms.spot_check, answer=answer))


def finding_step(auction: Auction, now: int) -> Decision:
    """Says what a spot check has found, once its one slot is done."""
    check, (slot, *_) = terms_of(auction).spot_check, auction.slots
    if check is None or auction.finding is not None or slot.phase is not SlotPhase.DONE:
        return IGNORED
    assert slot.ending is not None, "what is done has ended"
    checks, kind, measured = check.before, None, 0
    why = _why_nothing(slot, slot.ending)
    if not why:
        measured = _measured(check, slot, slot.ending)
        checks, kind = found(check.before, check.claimed, measured, now)
    return Decision((BenchmarkChecked(check.provider, check.claimed, measured, now, checks, kind, slot.source, why),))


def _why_nothing(slot: Slot, ending: Ending) -> str:
    """Why a check that is over has measured nothing; empty: it has."""
    if ending.reason is _EXCUSED or ending.reason not in DETERMINISTIC | {EndReason.COMPLETED} or not slot.ended_at:
        return ending.detail or str(ending.reason)
    return "the connection to it was lost meanwhile" if slot.was_away else ""


def _measured(check: SpotCheck, slot: Slot, ending: Ending) -> int:
    """The score by this node's own clock; what was stopped was slower yet, and who has not the right answer has done nothing."""
    assert slot.status is not None, "who has ended has told its status"
    is_right = ending.reason is EndReason.COMPLETED and slot.status.log_digests[0] == check.answer
    if not is_right and ending.reason is not EndReason.WALL_TIME:
        return 0
    latest = slot.held_since + START_ALLOWANCE_MS
    return spot_work.score_in(check.rounds, slot.ended_at - min(slot.started_at or latest, latest))
