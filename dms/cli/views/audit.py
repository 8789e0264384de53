"""Files of an audit, and what they prove."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from dms.audit.report import Agreed, AgreedTab, Report, Run, Shown, TabSum
from dms.cli.blocks import Block, Box, Line, Table
from dms.cli.views import words
from dms.rpc.api.audit import AuditFile
from dms_proto.ids import is_tab
from dms_proto.units import HOUR, format_count, format_credits, format_millis

FAULTS_SHOWN: Final = 20
"""Faults listed one by one."""


def exported(file: AuditFile, path: str) -> Iterator[Block]:
    """That a file was written."""
    yield Line(
        f"{format_count(file.events, 'event')} of {_what(file.job_id)} in {path}; dms audit verify {path} checks it"
    )


def report(found: Report) -> Iterator[Block]:
    """What was agreed, run and owed. Of a file that is not sound first what is wrong: the rest is what it says, and proves nothing."""
    if not found.sound:
        yield from _faults(found)
    for agreed in found.agreements:
        yield _agreement(agreed)
        yield Table(("SLOT", "ALLOCATION", "ENDED", "USED", "CLAIMED", "CONFIRMED"), [_run(run) for run in agreed.runs])
        for run in agreed.runs:
            for dispute in run.disputed:
                yield Line(f"disputed: {dispute}", "warn")
    for tab in found.tabs:
        yield from _tab(tab)
    if found.compared_by:
        yield Line(f"results were compared by {', '.join(found.compared_by)}, as the exporter says", "dim")
    if found.sound:
        yield Line(_verdict(found), "good")
    yield from (_shown(shown) for shown in found.shown)


def _faults(found: Report) -> Iterator[Line]:
    yield Line(_verdict(found), "bad")
    if not found.events and not found.frames:
        yield Line("nothing in it can be read: it is no file that dms audit export has written", "bad")
    for fault in found.faults[:FAULTS_SHOWN]:
        place = f"line {fault.line}: " if fault.line else ""
        yield Line(f"{place}{fault.code}: {fault.detail}", "bad")
    if len(found.faults) > FAULTS_SHOWN:
        yield Line(f"and {len(found.faults) - FAULTS_SHOWN} more; --json lists them all", "dim")


def _shown(shown: Shown) -> Line:
    size = format_count(shown.bytes, "byte")
    if not shown.of:
        return Line(f"{shown.name}, {size}, is no log in this file: nobody has signed it as it is", "bad")
    return Line(f"{shown.name}, {size}, is as its provider has signed it: {', '.join(shown.of)}", "good")


def _verdict(found: Report) -> str:
    if not found.sound:
        return f"{format_count(len(found.faults), 'fault')}: this proves nothing until they are explained"
    held = f"{format_count(found.events, 'event')} and {format_count(found.frames, 'signed frame')}"
    owed = sum(run.confirmed or 0 for agreed in found.agreements for run in agreed.runs)
    owed += sum(tab.confirmed for tab in found.tabs)
    return (
        f"sound: {held} of {_what(found.job)}, exported by {found.exporter}; {format_credits(owed)} confirmed as owed"
    )


def _what(about: str) -> str:
    return f"tab {about}" if is_tab(about) else f"job {about}"


def _tab(tab: AgreedTab) -> Iterator[Block]:
    """What calls cost, and each sum of them."""
    yield Box(
        f"Tab {tab.tab_id}",
        (
            ("provider", tab.provider),
            ("caller", tab.caller),
            ("for calls of", f"{tab.service}, in containers of {words.resources(tab.resources)}"),
            ("an hour costs", format_credits(tab.tariff.cost(tab.resources, HOUR))),
            ("price", f"at most {format_credits(tab.max_price)} in all"),
            ("terms", tab.terms),
            ("state", f"over: {tab.over}" if tab.over else "open"),
        ),
    )
    yield Table(("SUM", "CALLS", "AT WORK", "CLAIMED", "CONFIRMED"), [_sum(each) for each in tab.sums])
    for each in tab.sums:
        if each.is_disputed:
            yield Line(f"disputed: of sum {each.number} less was accepted than its provider states", "warn")


def _sum(told: TabSum) -> tuple[str, ...]:
    confirmed = "no answer" if told.confirmed is None else format_credits(told.confirmed)
    return str(told.number), str(told.calls), format_millis(told.ran_ms), format_credits(told.claimed), confirmed


def _agreement(agreed: Agreed) -> Box:
    signed = "requester and provider" if agreed.is_acknowledged else "the requester alone"
    slots = format_count(len(agreed.runs), "allocation")
    return Box(
        f"Agreement {agreed.bid_id}",
        (
            ("provider", agreed.provider),
            ("requester", agreed.requester),
            ("signed by", signed),
            ("agreed", f"{slots} of {words.resources(agreed.limits)}, up to {format_millis(agreed.wall_ms)} each"),
            ("price", f"at most {format_credits(agreed.price)} each{f': {agreed.because}' if agreed.because else ''}"),
            ("terms", agreed.terms),
        ),
    )


def _run(run: Run) -> tuple[str, ...]:
    if run.reason is None:
        return str(run.slot), run.allocation_id, "no statement", "-", "-", "-"
    used = f"{format_millis(run.usage.wall_ms)}, {run.usage.cpu_us / 1e6:.2f} s CPU ({run.usage.meter})"
    confirmed = "no receipt" if run.confirmed is None else format_credits(run.confirmed)
    return str(run.slot), run.allocation_id, run.reason.value, used, format_credits(run.claimed), confirmed
