"""Who owes whom, in words and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator

import msgspec

from dms.cli.blocks import Block, Box, Line, Table
from dms.cli.views import words
from dms.cli.views.words import short
from dms.rpc.api.accounts import AccountList, AccountView, DisputeList, EntryView, LedgerReport, Statement
from dms_proto.messages import Iou
from dms_proto.units import format_count, format_credits


def book(found: AccountList) -> Iterator[Block]:
    """A peer per line."""
    if not found.accounts:
        yield Line("nothing was ever owed here", "dim")
    else:
        rows = [
            (
                words.node(item.peer, item.name),
                _owed(item),
                format_credits(item.claimed) if item.claimed else "-",
                format_credits(item.disputed) if item.disputed else "-",
                format_credits(item.earned),
                format_credits(item.spent),
                format_credits(item.limit),
                format_credits(item.debt_limit),
            )
            for item in found.accounts
        ]
        yield Table(("PEER", "BALANCE", "CLAIMED", "DISPUTED", "EARNED", "SPENT", "MAY OWE", "WE MAY OWE"), rows)
    most, ours = format_credits(found.default_limit), format_credits(found.default_debt_limit)
    yield Line(f"others may owe {most} each, and we {ours} to each", "dim")


def account(view: AccountView) -> Iterator[Block]:
    """One account in full."""
    yield Box(
        f"Account of {words.node(view.peer, view.name)}",
        (
            ("balance", _owed(view)),
            ("claimed", f"{format_credits(view.claimed)}, their receipts have not come"),
            ("disputed", f"{format_credits(view.disputed)}, not accepted by their receipts"),
            ("refused", f"{format_credits(view.refused)} asked of us, not accepted by ours"),
            ("earned", format_credits(view.earned)),
            ("spent", format_credits(view.spent)),
            ("paid", f"{format_credits(view.paid)} received outside of the market, less what was paid"),
            ("may owe", f"{format_credits(view.limit)}; {format_credits(max(0, view.credit))} are left"),
            ("we may owe", f"{format_credits(view.debt_limit)}; {format_credits(max(0, view.debt_left))} are left"),
            ("their IOU", _iou(view.received)),
            ("our IOU", _iou(view.given)),
        ),
    )


def statement(found: Statement) -> Iterator[Block]:
    """An entry per line: what it changes in what is owed, claimed and disputed."""
    if not found.entries:
        yield Line("no entries", "dim")
        return
    rows = [
        (
            words.clock(entry.at),
            short(entry.peer),
            entry.why.replace("_", " "),
            short(entry.about),
            _change(entry.open + entry.noted),
            _change(entry.claimed),
            _change(entry.disputed),
            entry.detail,
        )
        for entry in found.entries
    ]
    yield Table(("AT", "PEER", "WHY", "ABOUT", "OWED", "CLAIMED", "DISPUTED", "DETAIL"), rows, frozenset({4, 5, 6}))
    if found.total > len(found.entries):
        yield Line(f"{format_count(found.total - len(found.entries), 'older entry', 'older entries')} not shown", "dim")


def disputes(found: DisputeList) -> Iterator[Block]:
    """A dispute per line, and what may be done about it."""
    if not found.disputes:
        yield Line("nothing is in dispute", "dim")
        return
    rows = [
        (
            words.node(item.peer, item.name),
            short(item.allocation_id),
            short(item.job_id),
            "us" if item.ours else "them",
            format_credits(item.asked),
            format_credits(item.accepted),
            format_credits(item.disputed),
        )
        for item in found.disputes
    ]
    yield Table(("PEER", "ALLOCATION", "JOB", "ASKED BY", "ASKED", "ACCEPTED", "DISPUTED"), rows, frozenset({4, 5, 6}))
    yield Line("asked by us: `dms account forgive`; asked by them: `dms account accept`", "dim")


def verified(report: LedgerReport) -> Iterator[Block]:
    """Whether the accounts follow from what happened and was signed, and what does not."""
    if report.is_right:
        yield Line(
            f"right: {format_count(report.entries, 'entry follows', 'entries follow')} from what was signed", "good"
        )
        return
    if report.chain:
        yield Line(f"the store was changed: {report.chain}", "bad")
    if report.findings:
        rows = [
            (str(finding.seq), short(finding.peer), short(finding.about), finding.what) for finding in report.findings
        ]
        yield Table(("EVENT", "PEER", "ABOUT", "WHAT IS WRONG"), rows)


def as_csv(entries: Iterable[EntryView]) -> Iterator[str]:
    """Entries as lines of CSV, in their order: a header, then every field as it is, amounts in micro-credits."""
    yield _csv_line(EntryView.__struct_fields__)
    for entry in entries:
        yield _csv_line(_harmless(msgspec.structs.astuple(entry)))


def as_json(entries: Iterable[EntryView]) -> Iterator[str]:
    """Entries as the lines of one JSON object, in their order."""
    yield '{"entries": ['
    before = ""
    for entry in entries:
        yield f"{before}  {msgspec.json.encode(entry).decode()}"
        before = ","
    yield "]}"


def _csv_line(fields: Iterable[object]) -> str:
    written = io.StringIO()
    csv.writer(written, lineterminator="").writerow(fields)
    return written.getvalue()


def _harmless(fields: tuple[object, ...]) -> list[object]:
    """Text that a spreadsheet would take for a formula is quoted: some of it was written by other nodes."""
    return [
        f"'{field}" if isinstance(field, str) and field.startswith(("=", "+", "-", "@")) else field for field in fields
    ]


def _owed(view: AccountView) -> str:
    if not view.owed:
        return "nothing is owed"
    return f"owes us {format_credits(view.owed)}" if view.owed > 0 else f"we owe {format_credits(-view.owed)}"


def _iou(iou: Iou | None) -> str:
    return f"number {iou.number} over {format_credits(iou.amount)}" if iou is not None else "none"


def _change(amount: int) -> str:
    return f"{'+' if amount > 0 else ''}{format_credits(amount)}" if amount else ""
