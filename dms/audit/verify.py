"""Checking a file, all of it: lines, events, frames, agreements. A function of the file's bytes alone."""

from __future__ import annotations

from dms.audit import chain, deals, demands, lines, proofs, tabs
from dms.audit.faults import Fault, FaultCode
from dms.audit.report import Agreed, Report
from dms_proto.ids import PeerId, RequestId
from dms_proto.market.auction_events import ResultsCompared


def verify(data: bytes) -> Report:
    """What the file proves, and everything wrong with it. Never raises."""
    (header, entries), faults = lines.read(data)
    job = header.job if header is not None else RequestId("")
    exporter = header.exporter if header is not None else PeerId("")
    proven, unproven = proofs.opened(job, entries)
    agreements, doubtful = deals.check(entries, proven)
    accounts, untrue = tabs.check(job, exporter, entries, proven)
    comparisons = (proofs.event_of(entry, ResultsCompared) for entry in entries)
    found = (
        *faults,
        *chain.check(job, entries),
        *unproven,
        *doubtful,
        *untrue,
        *demands.check(exporter, entries, proven),
        *_outsiders(header, agreements, proven),
    )
    return Report(
        sound=not found,
        job=job,
        exporter=exporter,
        exported_at=header.at if header is not None else 0,
        events=len(entries),
        frames=len(proven),
        agreements=agreements,
        faults=tuple(sorted(found, key=lambda fault: fault.line)),
        compared_by=tuple(dict.fromkeys(said.comparator for said in comparisons if said is not None)),
        tabs=accounts,
    )


def _outsiders(
    header: lines.Header | None, agreements: tuple[Agreed, ...], proven: tuple[proofs.Proof, ...]
) -> list[Fault]:
    """The exporter is a party of what the file proves, and the header gives the key of everybody who signed."""
    if header is None:
        return []
    named = {party.peer for party in header.parties}
    unnamed = [
        Fault(FaultCode.WRONG_SIGNER, proof.line, f"{proof.sender} is none of the parties")
        for proof in proven
        if proof.sender not in named
    ]
    return unnamed + [
        Fault(FaultCode.WRONG_SIGNER, 1, f"{header.exporter} exported it and is no party of the bid {agreed.bid_id}")
        for agreed in agreements
        if header.exporter not in (agreed.provider, agreed.requester)
    ]
