"""Tunnels: what an opening says, and what a refusal may say. Who is let in: `dms_proto.allocation.tunnels`. Pure."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from dms_proto.errors import PeerError, UserError
from dms_proto.rules import MAX_LINE, GoodAllocationId
from dms_proto.units import KIB, format_count

MAX_OPENING: Final = 4 * KIB
"""Bytes of what says to what a tunnel shall lead."""
REFUSALS: Final = frozenset(
    {"not_found", "not_running", "not_listening", "bad_argument", "peer_unreachable", "peer_timeout"}
)
"""Codes that a peer may refuse with; any other word of a stranger is heard as `peer_unreachable`."""
FINAL: Final = frozenset({"not_found", "not_running", "bad_argument"})
"""Those after which it is of no use to ask again."""
_PORT: Final = "port:"


class Opening(msgspec.Struct, frozen=True):
    """What an opener wants.

    Attributes:
        allocation_id: in which run.
        target: to what in it: "port:8080".
    """

    allocation_id: GoodAllocationId
    target: Annotated[str, msgspec.Meta(max_length=256)]


def to_port(port: int) -> str:
    """The target that is a port."""
    return f"{_PORT}{port}"


def port_of(target: str) -> int | None:
    """The port that a target is, or None if it is none."""
    digits = target.removeprefix(_PORT)
    if not target.startswith(_PORT) or not digits.isascii() or not digits.isdigit() or len(digits) > len("65535"):
        return None
    return int(digits)


def write_opening(opening: Opening) -> bytes:
    """Its bytes."""
    return msgspec.msgpack.encode(opening)


def read_opening(data: bytes) -> Opening:
    """What a peer wants.

    Raises:
        UserError: `bad_argument`: it cannot be read.
    """
    try:
        return msgspec.msgpack.decode(data, type=Opening)
    except msgspec.DecodeError as error:
        raise UserError("bad_argument", f"the opening cannot be read: {error}") from error


def check_declared(port: int, declared: tuple[int, ...]) -> None:
    """Refuses a port that the job does not declare.

    Raises:
        UserError: `bad_argument`.
    """
    if port not in declared:
        has = f"it declares {', '.join(map(str, declared))}" if declared else "it declares none"
        raise UserError(
            "bad_argument", f"the job does not declare port {port}; {has}", hint=f"ports: [{port}] in the job document"
        )


def check_length(opening: bytes) -> None:
    """Refuses an opening that no peer would read.

    Raises:
        UserError: `bad_argument`.
    """
    if len(opening) > MAX_OPENING:
        size = format_count(len(opening), "byte")
        raise UserError("bad_argument", f"the opening of a tunnel has {size}, {MAX_OPENING} are the most")


def refused(code: str, message: str) -> PeerError:
    """What the opener is told."""
    known = code if code in REFUSALS else "peer_unreachable"
    return PeerError(known, message[:MAX_LINE], retryable=known not in FINAL)
