"""The node: status, capability, benchmark, doctor."""

from __future__ import annotations

from collections.abc import Iterator

from dms.cli.blocks import Block, Box, Boxes, Line, Table
from dms.cli.views import words
from dms.cli.views.words import clock, resources
from dms.rpc.api.events import DoctorReport, Finding
from dms.rpc.api.status import BenchmarkReport, CapabilityStatus, GpuFigures, MarketFigures, NodeStatus
from dms_proto.capability import Capability, Gpu, Resources
from dms_proto.market.arithmetic import clamp_subtract
from dms_proto.rules import MAX_STANDING
from dms_proto.units import GPU, format_bytes, format_cores, format_count, format_credits, format_millis

TONES = {Finding.PASS: "good", Finding.WARN: "warn", Finding.FAIL: "bad", Finding.SKIP: "dim"}


def status(node: NodeStatus) -> Iterator[Block]:
    """Three boxes, then what is wrong."""
    yield Boxes((_node_box(node), _market_box(node), _work_box(node)))
    for trouble in node.troubles:
        yield Line(f"! {trouble.message} [{trouble.code}]" + (f"; {trouble.hint}" if trouble.hint else ""), "bad")
    if node.healthy:
        yield Line("healthy", "good")


def _node_box(node: NodeStatus) -> Box:
    network = node.network
    peers = f"{network.connected} connected, {network.known} known" + (
        f", {network.relayed} by relay" if network.relayed else ""
    )
    return Box(
        "Node",
        (
            ("name", words.node(node.id.peer_id, node.name)),
            ("state", f"{node.state}, up {format_millis(node.now - node.started_at)}, pid {node.pid}"),
            *((("owner", f"comes first: {node.owner}"),) if node.owner else ()),
            ("network", "up" if network.up else f"down, restarted {format_count(network.restarts, 'time')}"),
            ("peers", peers),
            ("address", network.addresses[0] if network.addresses else "none"),
            ("home", node.home),
            ("version", node.version),
            *([("mishaps", f"{format_count(node.mishaps, 'message')} left out; dms doctor")] if node.mishaps else []),
        ),
    )


def standing_lines(market: MarketFigures) -> list[tuple[str, str]]:
    """Requests that the node is too busy for, and those for which it had no room; nothing where there is neither."""
    if not (market.standing or market.forgotten):
        return []
    forgotten = f", {market.forgotten} forgotten: {MAX_STANDING} at most are remembered" if market.forgotten else ""
    return [("standing", f"{format_count(market.standing, 'request')} until capacity is free{forgotten}")]


def _market_box(node: NodeStatus) -> Box:
    market, capability = node.market, node.capability
    return Box(
        "Market",
        (
            *(_offer_lines(capability) if node.provides else (("offers", "nothing: its owner lets it take no work"),)),
            ("requests", f"{market.heard} heard, {market.bids} bid on, {market.declines} declined"),
            *standing_lines(market),
            ("bids", f"{market.won} won of {market.bids}"),
            ("earned", format_credits(market.earned)),
        ),
    )


def _offer_lines(state: CapabilityStatus) -> tuple[tuple[str, str], ...]:
    """What there is to take, and what of it is free."""
    return ("offers", resources(state.registered)), ("free", resources(state.free)), *_withheld_lines(state)


def _withheld_lines(state: CapabilityStatus) -> tuple[tuple[str, str], ...]:
    """What would be free if other programs did not use it, and what they use."""
    if state.free == state.available:
        return ()
    return (("withheld", f"{resources(_withheld(state))}: {state.pressure.detail or 'other programs use it'}"),)


def _withheld(state: CapabilityStatus) -> Resources:
    return clamp_subtract(state.available, state.free)


def _work_box(node: NodeStatus) -> Box:
    work = node.work
    return Box(
        "Work",
        (
            ("running here", str(work.running)),
            ("my jobs", f"{work.jobs_open} open, {work.jobs_waiting} waiting"),
            ("ended", f"{work.jobs_done} completed, {work.jobs_failed} failed"),
            ("spent", format_credits(work.spent)),
            ("events", str(node.events)),
        ),
    )


def capability(state: CapabilityStatus) -> Iterator[Block]:
    """The ledger as a table: registered = available + locked + allocated; and available = free + withheld, when something is withheld."""
    parts = [
        ("registered", state.registered),
        ("available", state.available),
        ("locked", state.locked),
        ("allocated", state.allocated),
    ]
    if state.free != state.available:
        parts += [("withheld", _withheld(state)), ("free", state.free)]
    rows = [
        (
            name,
            format_cores(part.cpu_millicores),
            format_bytes(part.memory_bytes),
            format_bytes(part.disk_bytes),
            str(len(part.gpus)),
        )
        for name, part in parts
    ]
    yield Table(("", "CPU", "MEMORY", "DISK", "GPUS"), rows, frozenset({1, 2, 3, 4}))
    if state.registered.gpus:
        yield _gpus(state)
    yield from offer(state.offer)
    if state.pressure.detail:
        yield Line(
            ("withheld: " if state.pressure.withheld else "") + state.pressure.detail,
            "warn" if state.pressure.withheld else "dim",
        )


def _gpus(state: CapabilityStatus) -> Table:
    """What is promised of each GPU, beside what is used of it."""
    free = {gpu.device: gpu for gpu in state.available.gpus}
    used = {gpu.device: gpu for gpu in state.gpus}
    rows = []
    for gpu in state.registered.gpus:
        left = free.get(gpu.device, Gpu(milli=0))
        reserved = f"{(gpu.milli - left.milli) / GPU:g}, {format_bytes(gpu.memory_bytes - left.memory_bytes)}"
        figures = used.get(gpu.device)
        told = ("not told", "") if figures is None else (_busy(figures), format_bytes(figures.memory_bytes))
        rows.append((gpu.device, gpu.model, format_bytes(gpu.memory_bytes), reserved, *told))
    return Table(("GPU", "MODEL", "MEMORY", "RESERVED", "BUSY", "USED"), rows, frozenset({2, 3, 4, 5}))


def _busy(figures: GpuFigures) -> str:
    share = "" if figures.busy_percent is None else f"{figures.busy_percent} %, "
    return share + format_count(figures.processes, "process", "processes")


def offer(what: Capability) -> Iterator[Block]:
    """What is offered besides amounts."""
    price = what.price
    rows = [
        ("architecture", f"{what.architecture or 'unknown'}, {_core_score(what)}"),
        *(
            (
                "executor",
                f"{item.name} {item.version}: {item.isolation}; hard limits: {', '.join(item.limits) or 'none'}",
            )
            for item in what.executors
        ),
        (
            "gpus",
            ", ".join(
                f"{gpu.device} {gpu.vendor} {gpu.model} {format_bytes(gpu.memory_bytes)}" for gpu in what.resources.gpus
            )
            or "none",
        ),
        ("labels", ", ".join(f"{key}={value}" for key, value in sorted(what.labels.items())) or "none"),
        (
            "price per hour",
            f"core {format_credits(price.cpu_core_hour)}, GiB memory {format_credits(price.memory_gib_hour)}, "
            f"GiB disk {format_credits(price.disk_gib_hour)}, GPU {format_credits(price.gpu_hour)}; start {format_credits(price.start)}",
        ),
    ]
    yield Box("Offer", rows)


def benchmark(report: BenchmarkReport) -> Iterator[Block]:
    """What was measured, how and when."""
    yield Line(f"{report.method} version {report.version}, {clock(report.at)}, took {format_millis(report.took_ms)}")
    rows = [(figure.name, f"{figure.value:,.1f}", figure.unit, f"±{figure.tolerance:.0%}") for figure in report.figures]
    yield Table(("FIGURE", "VALUE", "UNIT", "TOLERANCE"), rows, frozenset({1}))
    for note in report.notes:
        yield Line(note, "warn")
    yield Line(f"offers {resources(report.capability.resources)}")


def doctor(report: DoctorReport) -> Iterator[Block]:
    """One line per check: verdict, name, evidence, fix."""
    width = max((len(check.name) for check in report.checks), default=0)
    evidence = max((len(check.evidence) for check in report.checks if check.fix), default=0)
    for check in report.checks:
        fix = f"   fix: {check.fix}" if check.fix else ""
        yield Line(
            f"{check.finding.upper():<4}  {check.name:<{width}}  {check.evidence:<{evidence if fix else 0}}{fix}",
            TONES[check.finding],
        )
    counts = {finding: sum(check.finding is finding for check in report.checks) for finding in Finding}
    told = ", ".join(f"{count} {finding}" for finding, count in counts.items() if count)
    yield Line(told or "nothing was checked")


def _core_score(what: Capability) -> str:
    return (
        f"core score {what.cpu_score / 1000:g}"
        if what.cpu_score
        else "no core score: not measured, or not while the machine was idle (`dms node benchmark`)"
    )
