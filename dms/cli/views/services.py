"""Services, and the pool that keeps them warm."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from dms.cli.blocks import Block, Box, Line, Table
from dms.cli.views.tabs import cost
from dms.cli.views.words import ago, clock, resources, short
from dms.rpc.api.services import CallPrices, ContainerView, PoolView, RouteView, ServiceList
from dms_proto.pool.placement import Placement
from dms_proto.pool.records import Container, Tally, VirtualContainer
from dms_proto.pool.routes import Rule
from dms_proto.units import format_bytes, format_count, format_credits, format_millis
from dms_proto.work import taken_by

_RIGHT = frozenset({3, 4, 5})


def service_list(listed: ServiceList) -> Iterator[Block]:
    """One line for each, and what the pool has."""
    yield Line(f"the pool may use {resources(listed.capacity)} of this machine")
    yield Table(
        ("KIND", "ENTRY", "STATE", "CONTAINERS", "HITS", "AN HOUR", "TAKES"),
        [
            (
                each.kind,
                each.entry,
                "offered" if each.offered else "installed",
                str(each.containers),
                str(each.hits),
                format_credits(each.rate) if each.rate else "free",
                resources(taken_by(each.task)),
            )
            for each in listed.services
        ],
        _RIGHT,
    )


def prices(found: CallPrices, names: Mapping[str, str]) -> Iterator[Block]:
    """What calls cost at each node."""
    rows = [
        (
            names.get(each.peer) or short(each.peer),
            *((format_credits(each.rate), format_credits(each.longest)) if each.terms is not None else ("", "")),
            each.why_not or "it would be agreed",
        )
        for each in found.prices
    ]
    yield Table(("NODE", "AN HOUR AT WORK", "A CALL AT MOST", ""), rows, frozenset({1, 2}))
    yield Line("nothing was agreed", "dim")


def pool(view: PoolView, names: Mapping[str, str], now: int) -> Iterator[Block]:
    """The control blocks as two tables, and the calls."""
    has_room = view.capacity.cpu_millicores and view.capacity.memory_bytes
    taken = "calls are taken" if view.phase == "open" and has_room else "no calls are taken"
    yield Line(
        f"{resources(view.used)} of {resources(view.capacity)} in use; {taken}; {view.rules.strategy} goes first"
    )
    yield Table(
        ("CONTAINER", "STATE", "KIND", "MODEL", "CREATED", "HITS", "LAST HIT", "RAN", "CALLS", "VIRTUAL"),
        [
            (
                each.container_id,
                f"{each.phase}{f' ({each.because})' if each.because else ''}",
                each.image.kind,
                each.image.model,
                ago(each.created_at, now),
                *_counted(each.tally, now),
                str(len(each.calls)),
                str(len(each.virtual)),
            )
            for each in view.containers
        ],
    )
    yield Table(
        ("VIRTUAL", "SERVICE", "USER", "TIER", "CREATED", "HITS", "LAST HIT", "RAN", "LOG", "CONTAINER"),
        [_virtual_row(each, names, now) for each in view.virtual],
    )
    for call in view.calls:
        state = "at work" if call.delivered_at else "waits"
        why = next((", ".join(entry.reasons) for entry in call.placement.ranked), "a new container")
        yield Line(f"{call.virtual_id} {state} in {call.container_id}, placed {ago(call.placed_at, now)}: {why}")


def container(name: str, view: ContainerView, names: Mapping[str, str], now: int) -> Iterator[Block]:
    """One control block, and the decision that led to it."""
    if view.container is None:
        yield Line(f"{name} is gone")
    else:
        yield Box(name, list(_block(view.container, now)))
    yield from _decision(view.placement, view.admitted_at)
    yield Line(
        "computed again it is the same" if view.replayed else "computed again it is another",
        "" if view.replayed else "bad",
    )
    if view.virtual:
        yield Table(
            ("VIRTUAL", "SERVICE", "USER", "TIER", "CREATED", "HITS", "LAST HIT", "RAN", "LOG", "CONTAINER"),
            [_virtual_row(each, names, now) for each in view.virtual],
        )


WHY: Final = {
    Rule.NAMED: "its caller has named it",
    Rule.OWN: "this node goes before all others",
    Rule.NEAREST: "of those that let the call in it is the nearest",
}


def route(view: RouteView, names: Mapping[str, str]) -> Iterator[Block]:
    """Which node got a call, and why."""
    found = view.route
    called = f"{clock(view.at)}: {found.service}"
    if found.provider:
        yield Line(f"{called} was called on {names.get(found.provider) or short(found.provider)}: {WHY[found.rule]}")
    else:
        yield Line(f"{called} was called, and no node has let the call in")
    asked = True
    rows = list[tuple[str, str, str]]()
    for each in found.options:
        is_it = each.peer == found.provider
        said = each.said or ("has let the call in" if is_it else "was not asked" if not asked else "")
        asked = asked and not is_it
        away = "this node" if each.is_own else f"{each.rtt_us / 1000:.1f} ms" if each.rtt_us else "not measured"
        rows.append((names.get(each.peer) or short(each.peer), away, said))
    yield Table(("NODE", "AWAY", "SAID"), rows)
    if found.others:
        yield Line(f"and {format_count(found.others, 'node')} further away")
    yield Line("the order, computed again, is the same" if view.replayed else "the order, computed again, is another")
    if view.tab is not None:
        yield from cost(view.tab)


def _block(each: Container, now: int) -> Iterator[tuple[str, str]]:
    hits, last, ran = _counted(each.tally, now)
    yield "state", str(each.phase)
    yield "runs", f"{each.image.kind} {each.image.model}"
    yield "takes", resources(each.size)
    yield "created", clock(each.created_at)
    yield "started in", format_millis(each.start_ms)
    yield "hits", f"{hits}, the last {last}"
    yield "ran", ran


def _decision(placement: Placement, at: int) -> Iterator[Block]:
    if not placement.options:
        yield Line(f"made at {clock(at)}: there was no other of its kind")
        return
    others = format_count(len(placement.options), "other of its kind", "others of its kind")
    yield Line(f"made at {clock(at)}: there were {others}, and none would do")
    yield Table(("CONTAINER", "WHY NOT"), [(each.container_id, each.why) for each in placement.excluded])


def _virtual_row(each: VirtualContainer, names: Mapping[str, str], now: int) -> tuple[str, ...]:
    return (
        each.virtual_id,
        each.service.name,
        names.get(each.user) or short(each.user),
        str(each.tier),
        ago(each.created_at, now),
        *_counted(each.tally, now),
        format_bytes(each.log_bytes),
        each.container or "none",
    )


def _counted(tally: Tally, now: int) -> tuple[str, str, str]:
    return str(tally.hits), ago(tally.hit_at, now), format_millis(tally.usage.wall_ms)
