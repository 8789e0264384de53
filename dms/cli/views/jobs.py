"""Jobs, allocations, bids and results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from dms.cli.blocks import Block, Box, Line, Table
from dms.cli.views import words
from dms.cli.views.words import short
from dms.rpc.api.allocations import AllocationList, AllocationView, CancelResult, ResizeResult
from dms.rpc.api.jobs import Attempt, JobList, JobResults, JobSummary, JobView, Verdict
from dms.rpc.api.market import BidList, RequestList
from dms_proto.capability import Meter
from dms_proto.messages import Pricing
from dms_proto.units import format_age, format_bytes, format_count, format_credits, format_millis
from dms_proto.verification.policy import Policy
from dms_proto.work import Usage


def job_list(found: JobList) -> Iterator[Block]:
    """A job per line."""
    if not found.jobs:
        yield Line("no jobs; dms run -- echo hello", "dim")
        return
    rows = [
        (
            short(job.job_id),
            job.name or "-",
            job.phase.value,
            f"{job.done}/{job.count}",
            format_credits(job.price),
            words.clock(job.submitted_at),
            _outcome(job),
        )
        for job in found.jobs
    ]
    yield Table(("JOB", "NAME", "PHASE", "DONE", "PRICE", "SUBMITTED", "OUTCOME"), rows)
    yield from _more(len(found.jobs), found.total, "jobs")


def _outcome(job: JobSummary) -> str:
    why = words.reason(job.reason)
    return f"{why}: {job.detail}" if why and job.detail else why or job.detail


def _kept(view: JobView) -> str:
    """How long what the job left can be fetched."""
    gone = f"; {format_count(view.gone, 'result file is', 'result files are')} gone" if view.gone else ""
    return f"logs and results until {words.clock(view.kept_until)}{gone}"


def _price(view: JobView) -> str:
    rule = f", {view.spec.pricing}" if view.spec.pricing is not Pricing.FIRST_PRICE else ""
    so_far = "" if view.summary.ended_at else " so far"
    return f"{format_credits(view.summary.price)}{so_far}, {words.most(view.spec.max_price, view.spec.budget)}{rule}"


def _took(since: int, until: int, now: int) -> str:
    """How long something took; of what goes on, how long it has taken until `now`. All Unix ms."""
    return words.span(since, until) if until or not since else f"{words.span(since, max(now, since))} so far"


def job(view: JobView, names: Mapping[str, str], now: int) -> Iterator[Block]:
    """A job in full. `names`: of peers, by PeerID; `now`: Unix ms."""
    summary = view.summary
    took = _took(summary.submitted_at, summary.ended_at, now)
    yield Box(
        f"Job {summary.job_id}",
        (
            ("name", summary.name or "-"),
            ("phase", summary.phase.value),
            ("outcome", _outcome(summary) or "-"),
            ("needs", f"{words.needs(view.spec.needs)}, up to {format_millis(view.spec.needs.max_wall_ms)}"),
            ("allocations", f"{summary.done} of {summary.count} ended, {summary.running} running"),
            (
                "asked",
                f"{format_count(view.round, 'round')}, {format_count(view.bids, 'bid')}, {format_count(view.declines, 'decline')}",
            ),
            ("price", _price(view)),
            ("submitted", words.clock(summary.submitted_at)),
            ("took", took),
            *((("checks", _checks(view)),) if view.spec.verify.is_on else ()),
            *((("kept", _kept(view)),) if view.kept_until else ()),
            *((("answered", words.given_again(view.given_again)),) if view.given_again.times else ()),
        ),
    )
    rows = [
        (
            f"{slot.index} (piece {slot.piece})" if view.spec.verify.is_on and summary.count > 1 else str(slot.index),
            str(attempt.number),
            words.called(attempt.provider, names),
            short(attempt.allocation_id),
            _standing(attempt),
            _took(attempt.started_at, attempt.ended_at, now),
            metered(attempt.usage) if attempt.usage.wall_ms else "-",
            format_credits(attempt.price) if attempt.ended_at else "-",
            "; ".join(filter(None, (words.ending(attempt.ending), attempt.why, _dispute(attempt.disputed)))),
        )
        for slot in view.slots
        for attempt in slot.attempts
    ]
    if rows:
        yield Table(("SLOT", "TRY", "NODE", "ALLOCATION", "PHASE", "TOOK", "USED", "PRICE", "ENDING"), rows)
    yield from (Line(f"slot {slot.index} {slot.size}") for slot in view.slots if slot.size)
    if view.verdicts:
        yield Table(
            ("PIECE", "RESULT", "AGREE", "WRONG", "CHECK COST"), [_verdict(each, names) for each in view.verdicts]
        )
    if view.benchmark is not None:
        yield Line(f"{words.called(view.benchmark.provider, names)} {view.benchmark}")
    if summary.reason is None or not rows:
        yield Line(f"dms job explain {short(summary.job_id)} says what each node answers", "dim")


def _standing(attempt: Attempt) -> str:
    """Where an attempt stands, and what holds it there."""
    if attempt.frozen:
        return f"frozen: {attempt.frozen}"
    return f"{attempt.phase.value}: {attempt.doing}" if attempt.doing else attempt.phase.value


def _checks(view: JobView) -> str:
    """How results are checked, and what it cost beyond one run of each piece."""
    verify = view.spec.verify
    how = f"{verify.copies} copies of each" if verify.policy is Policy.REPLICATE else "by what is known of each node"
    cost = sum(each.cost for each in view.verdicts)
    compared = dict.fromkeys(each.comparator or verify.comparator for each in view.verdicts) or (verify.comparator,)
    how += f", compared by {' and '.join(compared)}"
    return f"{verify.policy.value}, {how}; {len(view.verdicts)} of {view.summary.count} judged, checks cost {format_credits(cost)}"


def _verdict(verdict: Verdict, names: Mapping[str, str]) -> tuple[str, ...]:
    """A verdict in a row."""
    taken = f"of slot {verdict.accepted}{'' if verdict.right else ', taken as it is'}"
    result = "undecided" if verdict.accepted is None else taken
    who = [", ".join(words.called(peer, names) for peer in part) or "-" for part in (verdict.right, verdict.wrong)]
    return str(verdict.piece), result, *who, format_credits(verdict.cost)


def _dispute(differences: str) -> str:
    return f"disputed: {differences}" if differences else ""


def results(found: JobResults) -> Iterator[Block]:
    """Files a job left."""
    rows = [
        (str(slot.index), file.path, format_bytes(file.size), file.digest)
        for slot in found.slots
        for file in slot.files
    ]
    if rows:
        yield Table(("SLOT", "PATH", "SIZE", "DIGEST"), rows)
    else:
        yield Line("no files" if found.complete else "no files yet; the job is not over", "dim")


def cancelled(result: CancelResult) -> Iterator[Block]:
    """What cancelling did."""
    job = f"; {result.job}" if result.job else ""
    yield Line(
        f"{short(result.id)} had already ended"
        if result.already_over
        else f"{short(result.id)} is being cancelled{job}"
    )


def resized(result: ResizeResult) -> Iterator[Block]:
    """What an allocation has now."""
    yield Line(
        f"{short(result.allocation_id)} has {words.resources(result.resources)}, for {format_credits(result.price)} at most"
    )


def allocation_list(found: AllocationList, names: Mapping[str, str]) -> Iterator[Block]:
    """An allocation per line. `names`: of peers, by PeerID."""
    if not found.allocations:
        yield Line("no allocations", "dim")
        return
    now = words.now_ms()
    rows = [
        (
            short(item.allocation_id),
            short(item.request_id),
            item.side.value,
            words.called(item.requester if item.side.value == "provider" else item.provider, names),
            _phase(item, now),
            _used(item.usage) if item.usage.wall_ms else "-",
            format_credits(item.price),
            words.ending(item.ending),
        )
        for item in found.allocations
    ]
    yield Table(("ALLOCATION", "JOB", "WE ARE", "WITH", "PHASE", "USED", "PRICE", "ENDING"), rows)
    yield from _more(len(found.allocations), found.total, "allocations")


def allocation(view: AllocationView, names: Mapping[str, str]) -> Iterator[Block]:
    """An allocation in full. `names`: of peers, by PeerID."""
    usage = view.usage
    yield Box(
        f"Allocation {view.allocation_id}",
        (
            ("job", f"{view.request_id}, slot {view.slot}"),
            ("we are", view.side.value),
            ("provider", _in_full(view.provider, names)),
            ("requester", _in_full(view.requester, names)),
            ("phase", _phase(view, words.now_ms())),
            ("ending", words.ending(view.ending) or "-"),
            ("runs", " ".join(view.task.command) or view.task.module),
            ("reserved", words.resources(view.task.resources)),
            (
                "took",
                words.span(view.started_at, view.ended_at)
                if view.ended_at or not usage.wall_ms
                else f"{format_millis(usage.wall_ms)} so far",
            ),
            ("used", f"{_used(usage)} peak memory ({usage.meter})"),
            *((("egress", f"{format_bytes(usage.egress_bytes)} both ways"),) if usage.egress_bytes else ()),
            ("price", format_credits(view.price)),
            ("log", f"{format_bytes(view.log_bytes[0])} stdout, {format_bytes(view.log_bytes[1])} stderr"),
            *((("dispute", _dispute(view.disputed)),) if view.disputed else ()),
        ),
    )


def _phase(view: AllocationView, now: int) -> str:
    """Where an allocation stands, and since when and why it does not go on."""
    return f"frozen for {format_age(now - view.frozen_since)}: {view.frozen}" if view.frozen else view.phase.value


def _in_full(peer: str, names: Mapping[str, str]) -> str:
    return f"{names[peer]} ({peer})" if names.get(peer) else peer


def _used(usage: Usage) -> str:
    return f"{usage.cpu_us / 1e6:.2f} s CPU, {format_bytes(usage.memory_peak_bytes)}"


def metered(usage: Usage) -> str:
    """What was used, by the most exact meter there was: wasm fuel, CPU time, or the wall time for which all that was reserved was held."""
    if usage.fuel:
        return f"{format_count(usage.fuel, 'instruction')} (fuel)"
    cpu = f"{usage.cpu_us / 1e6:.2f} s CPU"
    match usage.meter:
        case Meter.EXACT:
            return f"{cpu} (exact)"
        case Meter.LOWER_BOUND:
            return f"{cpu} (at least)"
        case Meter.WALL:
            return f"{format_millis(usage.wall_ms)} (wall time of all reserved)"


def bid_list(found: BidList) -> Iterator[Block]:
    """A bid per line."""
    if not found.bids:
        yield Line("no bids", "dim")
        return
    rows = [
        (
            short(item.bid_id),
            short(item.request_id),
            item.direction.value,
            short(item.requester if item.direction.value == "sent" else item.provider),
            str(item.slots),
            format_credits(item.price),
            item.state.value,
            item.reason,
        )
        for item in found.bids
    ]
    yield Table(("BID", "JOB", "WE", "WITH", "SLOTS", "PRICE", "STATE", "WHY"), rows)
    yield from _more(len(found.bids), found.total, "bids")


def request_list(found: RequestList) -> Iterator[Block]:
    """A bid request per line."""
    if not found.requests:
        yield Line("no requests", "dim")
        return
    rows = [
        (
            short(item.request_id),
            item.direction.value,
            short(item.requester),
            words.needs(item.needs),
            str(item.count),
            format_credits(item.max_price),
            item.answer,
            item.outcome or "; ".join(f"{clause.dimension}: {clause.observed}" for clause in item.clauses),
        )
        for item in found.requests
    ]
    yield Table(("REQUEST", "WE", "FROM", "NEEDS", "COUNT", "MAX PRICE", "ANSWER", "OUTCOME"), rows)
    yield from _more(len(found.requests), found.total, "requests")


def _more(shown: int, total: int, what: str) -> Iterator[Line]:
    text = words.shown_of(shown, total, what)
    if text:
        yield Line(text, "dim")
