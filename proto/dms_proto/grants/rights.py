"""Rights: what a grant allows, as limits on facts about one use of a node.

A use is a set of facts: who asks (`peer`), for what (`kind`), when (`time`), and of a bid request its amounts, price and class. Rights bound some of
them from above (`at_most`) and others to a list (`one_of`); what they do not name is free. Narrowing adds bounds and never takes one away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple

import msgspec

from dms_proto.capability import JobClass
from dms_proto.market.changes import show_bytes, show_credits, show_millis, show_thousandths
from dms_proto.messages import AllocationMessage, BidRequest, Commit, Invocation, Message, Resize, TabWanted

Use = Mapping[str, int | str]
"""Facts about one use, by the names in `CEILINGS` and `LISTS`."""

LOGS: Final = "logs"
"""The right to read what the jobs of others wrote."""
EXEC: Final = "exec"
"""The right to run commands beside a job of another that lets it: shown when a tunnel is opened, in no message."""
CALL: Final = "call"
"""The right to call the services of a node. It is shown in the opening of a tunnel, and with the question what calls cost."""
KINDS: Final[dict[type[Message], str]] = {
    BidRequest: "request",
    Commit: "commit",
    Invocation: "invoke",
    Resize: "request",
    AllocationMessage: LOGS,
    TabWanted: CALL,
}
"""The kinds of message that need a right, and its name; of an `AllocationMessage` the question of who is no party. All others concern an agreement
there is and count from its parties alone, or give nothing."""
MARKET: Final = ("request", "commit", "invoke")
"""The rights that a job takes, from the bid request on."""


class Ceiling(NamedTuple):
    """A fact that can be bounded from above: its name for people, how an amount is written, and what a request has of it."""

    words: str
    show: Callable[[int], str]
    of: Callable[[BidRequest], int]


class Listed(NamedTuple):
    """A fact that can be bound to a list: its name for people, and what may stand in the list; empty for anything."""

    words: str
    known: frozenset[str] = frozenset()


CEILINGS: Final[dict[str, Ceiling]] = {
    "cpu": Ceiling("cores", show_thousandths, lambda r: r.count * r.needs.resources.cpu_millicores),
    "memory": Ceiling("memory", show_bytes, lambda r: r.count * r.needs.resources.memory_bytes),
    "disk": Ceiling("disk", show_bytes, lambda r: r.count * r.needs.resources.disk_bytes),
    "gpus": Ceiling("gpus", show_thousandths, lambda r: r.count * sum(g.milli for g in r.needs.resources.gpus)),
    "wall": Ceiling("wall time", show_millis, lambda r: r.needs.max_wall_ms),
    "price": Ceiling("max price", show_credits, lambda r: r.max_price),
}
"""Amounts are those of all allocations of a request together; wall time and price are those of each."""
TIME: Final = "time"
"""Unix ms, whole seconds: the ceiling that is the grant's end."""
LISTS: Final[dict[str, Listed]] = {
    "kind": Listed("rights", frozenset((*MARKET, LOGS, EXEC, CALL))),
    "job_class": Listed("job classes", frozenset(JobClass)),
    "peer": Listed("nodes"),
}


class Rights(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a grant allows. Without arguments: everything.

    Attributes:
        at_most: bounds from above by name: those of `CEILINGS` in the unit of their amount, and `TIME`.
        one_of: the allowed values by name, sorted; names as in `LISTS`.
        own: whether the holder counts as a machine of the granter's owner.
    """

    at_most: Mapping[str, int] = {}
    one_of: Mapping[str, tuple[str, ...]] = {}
    own: bool = False

    @property
    def until(self) -> int:
        """When they end, Unix ms; 0: never."""
        return self.at_most.get(TIME, 0)

    def narrowed(self, by: Rights) -> Rights:
        """What these and `by` both allow. `own` stays as it is: it is no bound."""
        at_most = {**self.at_most}
        for name, most in by.at_most.items():
            at_most[name] = min(most, at_most.get(name, most))
        one_of = {**self.one_of}
        for name, allowed in by.one_of.items():
            one_of[name] = tuple(sorted({*allowed} & {*one_of.get(name, allowed)}))
        return Rights(at_most, one_of, self.own)

    def unmet(self, use: Use) -> Iterator[str]:
        """The names of the facts of `use` that are not allowed. Facts that it does not have are not asked about."""
        for name, most in self.at_most.items():
            amount = use.get(name, 0)
            if isinstance(amount, int) and amount > most:
                yield name
        for name, allowed in self.one_of.items():
            if name in use and use[name] not in allowed:
                yield name


def may_need_right(message: Message) -> bool:
    """Whether what its sender has shown is worth looking at."""
    return type(message) in KINDS and not (isinstance(message, AllocationMessage) and not message.is_question)


def uses_of(message: Message) -> tuple[Use, ...]:
    """The uses of a node that a message amounts to, each of which needs a right. Only kinds in `KINDS` amount to any.

    A bid is for whoever may go on to take it: a request that is meant needs every kind of right, a dry run only that to ask.
    """
    match message:
        case BidRequest():
            first, *others = MARKET
            return ({"kind": first, **_facts(message)}, *({"kind": kind} for kind in others if not message.dry_run))
        case Commit(invocations=invocations) if invocations:
            return {"kind": KINDS[Commit]}, {"kind": KINDS[Invocation]}
        case _:
            return ({"kind": KINDS[type(message)]},)


def _facts(request: BidRequest) -> Use:
    amounts = {name: ceiling.of(request) for name, ceiling in CEILINGS.items()}
    return {**amounts, **{"job_class": str(name) for name in request.needs.job_classes[:1]}}  # noqa: B035 - one at most


def show_limit(name: str, limit: int | tuple[str, ...]) -> str:
    """A bound as people read it: ``cores 4``, ``job classes batch, service``. Not for `TIME`: it is a moment, not an amount."""
    if isinstance(limit, int):
        return f"{CEILINGS[name].words} {CEILINGS[name].show(limit)}"
    return f"{LISTS[name].words} {', '.join(limit) or 'none'}"
