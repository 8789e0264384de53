"""Why a call is refused: the rule, what is in the way, and what would help."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from dms_proto.messages import Clause
from dms_proto.pool.records import ContainerId
from dms_proto.units import format_millis


class Code(StrEnum):
    """Why a call is refused."""

    TOO_LARGE = "too_large"
    RESERVED = "reserved"
    THRASHING = "thrashing"
    NO_ROOM = "no_room"
    START_FAILED = "start_failed"
    TOO_MANY = "too_many"
    CLOSING = "closing"
    NOT_AGREED = "not_agreed"
    """It is paid, and on no tab that is open."""
    UNSIGNED = "unsigned"
    SPENT = "spent"


class InTheWay(msgspec.Struct, frozen=True):
    """A container that would have to go and may not, why, and Unix ms when that may change; 0: nobody knows."""

    container_id: ContainerId
    why: str
    until: int = 0


class Refusal(msgspec.Struct, frozen=True):
    """Why a call is refused, and what would help.

    Attributes:
        code: which rule.
        why: for a person.
        clauses: per dimension that does not fit: what is wanted, what is there, the nearest change.
        wait_ms: after which it may be worth trying again; 0: nobody knows, or waiting does not help (see the clauses' `passing`).
        in_the_way: what did not go for it. For the owner alone; `outward` is what who calls may know.
    """

    code: Code
    why: str
    clauses: tuple[Clause, ...] = ()
    wait_ms: int = 0
    in_the_way: tuple[InTheWay, ...] = ()

    @property
    def outward(self) -> Refusal:
        """The same without what others have here."""
        return msgspec.structs.replace(self, in_the_way=())

    @property
    def nearest(self) -> str:
        """The nearest change that would make it a yes; empty where nobody knows one."""
        changes = ", ".join(clause.nearest for clause in self.clauses if clause.nearest and not clause.passing)
        return changes or (f"again in {format_millis(self.wait_ms)}" if self.wait_ms else "")
