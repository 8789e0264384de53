"""Words for quantities, times, ids and states, the same in every view."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime

from dms_proto.capability import Capability, Gpu, Resources
from dms_proto.ids import short
from dms_proto.market.answers import GivenAgain
from dms_proto.reputation.silence import SetAside
from dms_proto.units import (
    GPU,
    format_age,
    format_bytes,
    format_cores,
    format_count,
    format_credits,
    format_millis,
)
from dms_proto.work import OWNERS, Ending, EndReason

__all__ = [
    "ago",
    "called",
    "clock",
    "ending",
    "gpu",
    "most",
    "named",
    "needs",
    "node",
    "now_ms",
    "reason",
    "resources",
    "rtt",
    "short",
    "shown_of",
    "span",
    "taken_last",
    "unawaited",
]


def resources(amounts: Resources) -> str:
    """``2 cores, 4 GiB memory, 1 GPU``; "nothing" when all is zero."""
    parts = [
        format_cores(amounts.cpu_millicores) if amounts.cpu_millicores else "",
        f"{format_bytes(amounts.memory_bytes)} memory" if amounts.memory_bytes else "",
        f"{format_bytes(amounts.disk_bytes)} disk" if amounts.disk_bytes else "",
        *(gpu(item) for item in amounts.gpus),
    ]
    return ", ".join(part for part in parts if part) or "nothing"


def gpu(item: Gpu) -> str:
    """``GPU nvidia A100 40 GiB``, with its share when it is not whole."""
    share = "" if item.milli == GPU else f" {item.milli / GPU:g} of"
    words = [
        f"{share.strip()} GPU".strip(),
        item.device,
        item.vendor,
        item.model,
        format_bytes(item.memory_bytes) if item.memory_bytes else "",
    ]
    return " ".join(word for word in words if word)


def needs(wanted: Capability) -> str:
    """A requirement in a line: executor and amounts."""
    names = " ".join(executor.name for executor in wanted.executors)
    return f"{names} {resources(wanted.resources)}".strip()


def most(max_price: int, budget: int) -> str:
    """What a job may cost: ``at most 1 credit per allocation, 5 credits for the job``."""
    whole = f", {format_credits(budget)} for the job" if budget else ""
    return f"at most {format_credits(max_price)} per allocation{whole}"


def called(peer: str, names: Mapping[str, str]) -> str:
    """How a node is called: its name among `names` (by PeerID), if it is there, and the end of its PeerID."""
    return node(peer, names.get(peer, ""))


def named(text: str, names: Mapping[str, str]) -> str:
    """A text of the node in which peers are told by the ends of their PeerIDs, with the names of those in `names`."""
    for peer, name in names.items():
        if name and short(peer) in text:
            text = text.replace(short(peer), node(peer, name))
    return text


def node(peer: str, name: str = "") -> str:
    """How a node is called: its name, where it was given one, and the end of its PeerID."""
    return short(peer) if not name or short(peer).endswith(name) else f"{name} ({short(peer)})"


def ago(then: int, now: int) -> str:
    """How long before `now` (both Unix ms), or "never" for 0."""
    if not then:
        return "never"
    return f"{format_age(now - then)} ago"


def span(since: int, until: int) -> str:
    """The time between two Unix ms, or "-" while one is missing."""
    return format_millis(until - since) if since and until >= since else "-"


def now_ms() -> int:
    """Unix ms by the clock of this machine, which is the node's."""
    return time.time_ns() // 1_000_000


def from_the_cache(job: str, at: int) -> str:
    """That an earlier job is the answer, which ended at a Unix time in ms."""
    return f"answered from the cache: job {short(job)} of {clock(at)}"


def given_again(answers: GivenAgain) -> str:
    """How often an earlier job was the answer to the same work."""
    times = format_count(answers.times, "time")
    return f"{times} to the same work, which was not run again; last {clock(answers.last_at)}"


def clock(at: int) -> str:
    """A Unix time in ms as ``2023-11-14 22:13:20.000Z``."""
    return datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S.") + f"{at % 1000:03d}Z"


def taken_last(aside: SetAside | None) -> str:
    """Why a provider's bids are taken last and until when; empty where they are not."""
    return f"taken last: {aside}, until {clock(aside.until)}" if aside is not None else ""


def unawaited(rounds: int) -> str:
    """That a provider is not waited for; empty where it is."""
    return f"not waited for: {format_count(rounds, 'round')} unanswered" if rounds else ""


def rtt(micros: int) -> str:
    """A round trip, or "-" when it was not measured."""
    return f"{micros / 1000:.1f} ms" if micros else "-"


def reason(why: EndReason | None) -> str:
    """A terminal reason with its owner: ``out of memory (requester)``; empty before the end."""
    if why is None:
        return ""
    words = why.value.replace("_", " ")
    return words if why is EndReason.COMPLETED else f"{words} ({OWNERS[why].value})"


def ending(end: Ending | None) -> str:
    """How a run ended, with exit code and detail; empty before."""
    if end is None:
        return ""
    code = f", exit code {end.exit_code}" if end.exit_code > 0 and "exit code" not in end.detail else ""
    return f"{reason(end.reason)}{code}" + (f": {end.detail}" if end.detail else "")


def shown_of(shown: int, total: int, what: str) -> str:
    """``showing 100 of 250 bids``, or empty when all are shown."""
    return f"showing {shown} of {total} {what}; --limit shows more" if total > shown else ""
