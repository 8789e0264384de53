"""Other nodes, invitations, and the events that tell of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from dms.cli.blocks import Block, Box, Line, Table
from dms.cli.views import words
from dms.cli.views.words import short
from dms.rpc.api.events import EventList, EventView, Trace, VerifyReport
from dms.rpc.api.peers import Invite, Joined, PeerList, PeerState, PeerView, PingResult
from dms_proto.units import format_count


def peer_list(found: PeerList) -> Iterator[Block]:
    """A peer per line, connected ones first."""
    if not found.peers:
        yield Line("no peers; dms join INVITATION connects to one", "dim")
        return
    rows = [
        (
            item.name or "-",
            short(item.peer_id),
            item.state.value,
            words.rtt(item.rtt_us) + (" by relay" if item.relayed else ""),
            f"{item.successes} ok, {item.failures} failed",
            item.software or "-",
            "; ".join(filter(None, (item.detail, words.taken_last(item.aside), words.unawaited(item.unanswered)))),
        )
        for item in found.peers
    ]
    yield Table(("NAME", "PEER", "STATE", "RTT", "WORK FOR US", "SOFTWARE", "DETAIL"), rows)


def one_peer(item: PeerView) -> Iterator[Block]:
    """A peer, and why it stands where it stands."""
    rows = [
        ("peer", item.peer_id),
        ("state", f"{item.state}, {item.detail}" if item.detail else str(item.state)),
        ("round trip", words.rtt(item.rtt_us) + (" by relay" if item.relayed else "")),
        ("from", item.source or "-"),
        ("addresses", ", ".join(item.addresses) or "-"),
        ("software", item.software or "-"),
        ("standing", f"{item.standing:.2f} of 1"),
        *([("benchmark", str(item.benchmark))] if item.benchmark is not None else []),
        *([("bids", words.taken_last(item.aside))] if item.aside is not None else []),
        *([("answers", words.unawaited(item.unanswered))] if item.unanswered else []),
    ]
    yield Box(item.name or short(item.peer_id), rows)
    if not item.evidence:
        yield Line("it has done nothing for this node yet: every newcomer stands there", "dim")
        return
    yield Table(
        ("EVIDENCE", "SEEN", "POINTS"),
        [(part.kind.value, str(part.count), f"{part.points:+.1f}") for part in item.evidence],
        frozenset({1, 2}),
    )


def ping(result: PingResult) -> Iterator[Block]:
    """A line per probe, and the way they went."""
    way = "by relay" if result.relayed else "direct"
    for micros in result.rtt_us:
        yield Line(f"pong from {words.node(result.peer, result.name)} in {words.rtt(micros)}, {way}, {result.address}")
    if result.lost:
        yield Line(f"{result.lost} of {format_count(result.lost + len(result.rtt_us), 'probe')} got no answer", "bad")


def joined(result: Joined) -> Iterator[Block]:
    """Whom we reached."""
    yield Line(
        f"connected to {words.node(result.peer.peer_id, result.peer.name)}; {format_count(result.connected, 'peer')} connected",
        "good",
    )
    if result.grant_id:
        yield Line(f"the grant {result.grant_id} came with the invitation and is kept")


def invite(result: Invite) -> Iterator[Block]:
    """The command for the other machine."""
    yield Line(f"dms join {result.invite}")


def banned(peer: PeerView) -> Iterator[Block]:
    """What a peer's state is now."""
    state = "is banned " + peer.detail if peer.state is PeerState.BANNED else "may come back"
    yield Line(f"{words.node(peer.peer_id, peer.name)} {state}")


def event_line(event: EventView) -> Line:
    """One event on one line."""
    body = json.dumps(event.body, separators=(",", ":"), ensure_ascii=False)
    return Line(f"{event.id:>6}  {words.clock(event.at)}  {short(event.stream):<9} {event.kind:<24} {body}")


def event_list(found: EventList) -> Iterator[Block]:
    """An event per line."""
    for event in found.events:
        yield event_line(event)
    if not found.events:
        yield Line("no such events", "dim")


def verified(report: VerifyReport) -> Iterator[Block]:
    """Whether the store is intact."""
    if report.intact:
        yield Line(f"intact: {format_count(report.events, 'event')}, head {report.head}", "good")
    else:
        yield Line(f"DAMAGED at event {report.broken_at}: {report.detail}", "bad")


def trace(story: Trace, names: Mapping[str, str]) -> Iterator[Block]:
    """The story of a job with the time since its beginning. `names`: of peers, by PeerID."""
    yield Line(f"job {story.job_id}", "strong")
    start = story.steps[0].at if story.steps else 0
    rows = [
        (
            str(step.id),
            f"+{(step.at - start) / 1000:.3f} s",
            short(step.stream),
            step.kind,
            words.named(step.text, names),
        )
        for step in story.steps
    ]
    yield Table(("EVENT", "AFTER", "ABOUT", "KIND", "WHAT"), rows, frozenset({0, 1}))
