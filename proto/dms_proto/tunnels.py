"""Tunnels: what an opening says, and what a refusal may say. Who is let in: `dms_proto.allocation.tunnels`, `pool.callers`. Pure."""

from __future__ import annotations

from typing import Annotated, Final, NamedTuple

import msgspec

from dms_proto.errors import PeerError, UserError
from dms_proto.ids import AllocationId, RequestId, TabId
from dms_proto.named_ports import called, number_of
from dms_proto.rules import MAX_LINE, AllocationIdOrNone, TabIdOrNone
from dms_proto.units import KIB, format_count
from dms_proto.untrusted import read_msgpack
from dms_proto.work import ExecBy, Task, takes_calls

MAX_OPENING: Final = 4 * KIB
"""Bytes of what says to what a tunnel shall lead."""
REFUSALS: Final = frozenset(
    {
        "not_found",
        "not_running",
        "not_listening",
        "not_granted",
        "call_refused",
        "tab_wanted",
        "bad_argument",
        "peer_unreachable",
        "peer_timeout",
    }
)
"""Codes that a peer may refuse with; any other word of a stranger is heard as `peer_unreachable`."""
FINAL: Final = frozenset({"not_found", "not_running", "not_granted", "bad_argument"})
"""Those after which it is of no use to ask again."""
_PORT: Final = "port:"
_CALL: Final = "call"
_SERVICE: Final = "service:"
_EXEC: Final = "exec"
_SIBLINGS: Final = "siblings:"
_RELAY: Final = "relay:"
MAX_GRANT: Final = 3 * KIB
"""Bytes of a grant that is shown with an opening."""


Side = Annotated[int, msgspec.Meta(ge=0, le=10_000)]
"""Rows or columns of a terminal."""
Word = Annotated[str, msgspec.Meta(pattern=r"^[^\x00]*\Z")]


class ToPort(msgspec.Struct, frozen=True):
    """A target: a TCP port on the job's own loopback. Written "port:8080"."""

    port: int


class ToCalls(msgspec.Struct, frozen=True):
    """A target: what takes calls of Python functions. Written "call"."""


class Order(msgspec.Struct, frozen=True, omit_defaults=True):
    """A command to be run beside a job.

    Attributes:
        words: the argument vector.
        rows: of the terminal that it gets; 0: none, but pipes.
        columns: likewise.
        term: what the terminal understands, as TERM says it.
    """

    words: Annotated[tuple[Word, ...], msgspec.Meta(min_length=1, max_length=256)]
    rows: Side = 0
    columns: Side = 0
    term: Annotated[Word, msgspec.Meta(max_length=64)] = ""


class ToCommand(msgspec.Struct, frozen=True):
    """A target: a command that is run beside the job for it. Written "exec", with the order in the opening."""

    order: Order


class ToService(msgspec.Struct, frozen=True):
    """A target: a call of a service of the node, which is in no allocation. Written "service:KIND/ENTRY"."""

    name: str


Target = ToPort | ToCalls | ToCommand | ToService


class RelayAsked(NamedTuple):
    """A requester is asked to lead a connection on, to a sibling whose provider the asking one does not reach.

    Attributes:
        job: of both.
        caller: the allocation at who asks.
        allocation_id: the sibling.
        target: what in it.
    """

    job: RequestId
    caller: AllocationId
    allocation_id: AllocationId
    target: str


class Opening(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an opener wants.

    Attributes:
        allocation_id: in which run; empty for a service.
        target: to what in it, as `write_target` writes it.
        order: for "exec": which command.
        grant: shown by who is not the requester, or calls a service; bound to who shows it.
        caller: the opener's own allocation, for which it asks as a sibling; empty: it asks for itself.
        tab: on which a call of a service is paid; empty: on none.
    """

    allocation_id: AllocationIdOrNone
    target: Annotated[str, msgspec.Meta(max_length=300)]
    order: Order | None = None
    grant: Annotated[bytes, msgspec.Meta(max_length=MAX_GRANT)] = b""
    caller: AllocationIdOrNone = AllocationId("")
    tab: TabIdOrNone = TabId("")


def write_target(target: Target) -> str:
    """The target in words."""
    match target:
        case ToPort(port):
            return f"{_PORT}{port}"
        case ToCalls():
            return _CALL
        case ToCommand():
            return _EXEC
        case ToService(name):
            return f"{_SERVICE}{name}"


def read_target(text: str, order: Order | None = None) -> Target:
    """The target that is meant; `order` for a command.

    Raises:
        UserError: `bad_argument`: nothing is called so, or it comes without what it needs.
    """
    if text == _EXEC and order is not None:
        return ToCommand(order)
    digits = text.removeprefix(_PORT)
    if text == _CALL:
        return ToCalls()
    if text.startswith(_SERVICE):
        return ToService(text.removeprefix(_SERVICE))
    if text.startswith(_PORT) and digits.isascii() and digits.isdigit() and len(digits) <= len("65535"):
        return ToPort(int(digits))
    rule = f"a tunnel leads to a port, as port:8080, to {_CALL}, or to a service, as service:KIND/ENTRY"
    raise UserError("bad_argument", f"{rule}, and not to {text!r}")


def service_in(opening: Opening) -> ToService | None:
    """The service that is called; None: something in an allocation is meant."""
    return ToService(opening.target.removeprefix(_SERVICE)) if opening.target.startswith(_SERVICE) else None


def asking_for_roll(request_id: RequestId, caller: AllocationId) -> Opening:
    """A provider's question to a requester, which is answered with the roll of a job and nothing more."""
    return Opening(caller, f"{_SIBLINGS}{request_id}")


def roll_asked(opening: Opening) -> RequestId | None:
    """The job whose roll is asked for; None: something else is meant."""
    return RequestId(opening.target.removeprefix(_SIBLINGS)) if opening.target.startswith(_SIBLINGS) else None


def asking_to_relay(request_id: RequestId, opening: Opening) -> Opening:
    """What a provider asks its requester for, in place of a tunnel to a sibling that it does not reach."""
    return msgspec.structs.replace(opening, target=f"{_RELAY}{request_id}:{opening.target}")


def relay_asked(opening: Opening) -> RelayAsked | None:
    """What is to be led on; None: something else is meant."""
    if not opening.target.startswith(_RELAY):
        return None
    job, _, target = opening.target.removeprefix(_RELAY).partition(":")
    return RelayAsked(RequestId(job), opening.caller, opening.allocation_id, target)


def is_order(opening: Opening) -> bool:
    """Whether a command is meant, and nothing else that is there."""
    return opening.target == _EXEC and opening.order is not None


def leads_to_port(opening: Opening) -> bool:
    """Whether a port is meant."""
    return opening.target.startswith(_PORT)


def write_opening(opening: Opening) -> bytes:
    """Its bytes."""
    return msgspec.msgpack.encode(opening)


def read_opening(data: bytes) -> Opening:
    """What a peer wants.

    Raises:
        UserError: `bad_argument`: it cannot be read.
    """
    try:
        return read_msgpack(data, Opening)
    except msgspec.DecodeError as error:
        raise UserError("bad_argument", f"the opening cannot be read: {error}") from error


def check_target(target: Target, task: Task) -> None:
    """Refuses what the task has not.

    Raises:
        UserError: `bad_argument`.
    """
    match target:
        case ToPort(port):
            check_declared(port, task)
        case ToService(name):
            raise UserError("bad_argument", f"{name} is a service of a node, and in no job")
        case ToCalls():
            if not takes_calls(task):
                raise UserError(
                    "bad_argument", "the job takes no calls; those of the executor python without a command do"
                )
        case ToCommand():
            if task.exec is ExecBy.NOBODY:
                raise UserError(
                    "bad_argument",
                    "the job lets no commands be run beside it",
                    hint="exec: requester in the job document, or dms run --exec; then submit it again",
                )


def check_is_port(text: str) -> None:
    """Refuses a target that is no port.

    Raises:
        UserError: `bad_argument`.
    """
    if not isinstance(read_target(text), ToPort):
        raise UserError("bad_argument", f"only ports are led to, and not {text!r}")


def check_declared(port: int, task: Task) -> None:
    """Refuses a port that the job does not declare.

    Raises:
        UserError: `bad_argument`.
    """
    if port not in task.ports:
        raise _undeclared(f"the job does not declare port {port}", port, task)


def check_named(name: str, task: Task) -> int:
    """The number of a port that a job has a name for.

    Raises:
        UserError: `bad_argument`: it has none of that name.
    """
    number = number_of(name, task.environment)
    if number is None or number not in task.ports:
        raise _undeclared(f"the job has no port called {name!r}", name, task)
    return number


def _undeclared(what: str, port: int | str, task: Task) -> UserError:
    has = ", ".join(called(declared, task.environment) for declared in task.ports) or "none"
    return UserError("bad_argument", f"{what}; it declares {has}", hint=f"ports: [{port}] in the job document")


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
