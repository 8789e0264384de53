"""Grants in words."""

from __future__ import annotations

from collections.abc import Iterator

from dms.cli.blocks import Block, Line, Table
from dms.cli.views import words
from dms.cli.views.words import short
from dms.rpc.api.grants import Anchors, Grant, GrantList, GrantView
from dms_proto.grants.renewal import Renewal
from dms_proto.grants.rights import TIME, Rights, show_limit
from dms_proto.units import format_count


def anchors(found: Anchors) -> Iterator[Block]:
    """Whose grants are accepted."""
    me, *others = found.anchors
    yield Line(f"{me}  this node")
    for peer in others:
        yield Line(peer)


def made(grant: Grant) -> Iterator[Block]:
    """The text alone, so that it can be piped."""
    yield Line(grant.text)


def one(view: GrantView) -> Iterator[Block]:
    """What a grant allows, part by part."""
    yield Line(f"grant {view.grant_id}" + ("   kept here" if view.held else ""), "strong")
    yield Line(f"signed by  {view.issuer}")
    yield Line(f"allows     {allowed(view.rights)}")
    for number, part in enumerate(view.parts[1:], 1):
        by = f" by {short(part.delegator)}" if part.delegator else ""
        yield Line(f"narrowed   {number}{by}: {allowed(part.rights)}", "dim")
    yield Line(f"ends       {end(view.rights, view.renewal)}")
    for part in view.parts[-1:]:
        if part.renews:
            yield Line(f"renewal    of {part.renews}: whoever revokes that has revoked it", "dim")
    if view.revoked:
        yield Line("revoked: it counts nowhere any more", "warn")
    elif not view.flaw:
        yield Line("counts here", "good")
    elif view.held:
        yield Line(f"to be shown to others, who may accept it; here it counts for nothing: {view.flaw}", "dim")
    else:
        yield Line(f"does not count here: {view.flaw}", "warn")


def forgotten(view: GrantView) -> Iterator[Block]:
    """Which grant is kept no longer."""
    yield Line(f"grant {view.grant_id} of {short(view.issuer)} is forgotten here; it stays valid")


def all_(found: GrantList) -> Iterator[Block]:
    """What was granted, and what is held."""
    rows = [
        (
            one.grant_id,
            f"made here of {short(one.of)}" if one.of else "made here",
            "revoked" if one.revoked else end(one.rights, one.renewal, one.renewed_until),
            allowed(one.rights),
        )
        for one in found.issued
    ]
    rows += [
        (
            view.grant_id,
            f"held, of {short(view.issuer)}",
            "revoked" if view.revoked else end(view.rights, view.renewal),
            allowed(view.rights),
        )
        for view in found.held
    ]
    if rows:
        yield Table(("GRANT", "WHAT", "ENDS", "ALLOWS"), rows)
    else:
        yield Line("no grants; dms grant create makes one", "dim")
    if found.revoked:
        yield Line(f"{format_count(len(found.revoked), 'grant')} void here", "dim")


def allowed(rights: Rights) -> str:
    """The bounds in a line; without any: everything."""
    bounds = [
        *(show_limit(name, values) for name, values in rights.one_of.items()),
        *(f"up to {show_limit(name, most)}" for name, most in rights.at_most.items() if name != TIME),
    ]
    own = ["counts as an own machine"] if rights.own else []
    return "; ".join([*own, *bounds] if bounds else [*own, "everything"])


def end(rights: Rights, renewal: Renewal | None = None, renewed_until: int = 0) -> str:
    """When rights end, and how long they are renewed."""
    if not rights.until:
        return "never"
    ends = words.clock(max(rights.until, renewed_until))
    return f"{ends}, renewed in use until {words.clock(renewal.until)}" if renewal is not None else ends
