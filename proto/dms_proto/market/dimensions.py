"""The dimensions in which a machine is held against a request: one table, one small entry each.

Every dimension answers twice. `test` prepares the short answer, a yes or no, for ranking thousands of bids; `judge` gives the long one, verdicts
with clauses for people. A property test holds both to the same answer.

==============  ============================================  =====================================
dimension       fits when                                     nearest change
==============  ============================================  =====================================
cpu             at least as many millicores                   cpu 1.5
memory          at least as many bytes                        memory 8 GiB
disk            at least as many bytes                        disk 20 GiB
gpu…            every need finds a share (`gpu_dimension`)    gpu memory 16 GiB, gpus 1, …
architecture    the same, or none asked                       architecture any
cpu_score       at least as fast per core                     cpu score 0.9
executor:NAME   there, as isolated, as limited                executor sandbox isolation … limits …
library:NAME    there, in the version asked if any            library numpy any version
label:KEY       the same value                                label zone any
country         the same, or none asked                       country any
relayed         direct, or a relay is accepted                relay accepted
job_class       among those accepted; none listed: all        class batch
egress:HOST…    allowed by its owner                          egress pypi.org:443 none
egress_bytes    at most what its owner allows                 egress bytes 1 GiB
wall_time       at most the longest run offered; 0: no limit  wall time 2h
price           the tariff's cost at most the maximum price   max price 0.03
==============  ============================================  =====================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from operator import attrgetter
from typing import Final, NamedTuple

from dms_proto.capability import Capability, Resources
from dms_proto.market.changes import Change, floor_bytes, show_bytes, show_millis, show_thousandths
from dms_proto.market.egress_dimension import egress_bytes_test, egress_test, judge_egress, judge_egress_bytes
from dms_proto.market.gpu_dimension import judge_gpus
from dms_proto.market.gpus import assign_gpus
from dms_proto.market.set_dimensions import (
    executor_test,
    judge_executors,
    judge_labels,
    judge_libraries,
    label_test,
    library_test,
)
from dms_proto.market.verdicts import DimensionVerdict, Verdict, bad, good
from dms_proto.units import format_bytes, format_cores, format_credits, format_millis


class Question(NamedTuple):
    """One machine held against one request.

    Attributes:
        required: what each allocation needs.
        offered: what the machine has; its resources are what is free now.
        total: what the machine has registered, free or not: more than `offered` means that waiting may help. None when not known.
        max_price: micro-credits for one allocation run to its wall limit; None when price is not the question.
    """

    required: Capability
    offered: Capability
    total: Resources | None = None
    max_price: int | None = None


Test = Callable[[Capability], bool]
"""Whether an offered capability fits in one dimension."""


class Dimension(NamedTuple):
    """One row of the table.

    Attributes:
        name: or the part before the colon, where a dimension has one verdict per name.
        test: prepares the test for a required capability and maximum price; None when the request asks for nothing here.
        judge: the verdicts, with clauses.
    """

    name: str
    test: Callable[[Capability, int | None], Test | None]
    judge: Callable[[Question], Iterable[DimensionVerdict]]


# ---------------------------------------------------------------------------------------------------------------- amounts


def _test_cpu(required: Capability, _max_price: int | None) -> Test | None:
    want = required.resources.cpu_millicores
    return (lambda offered: offered.resources.cpu_millicores >= want) if want else None


def _test_memory(required: Capability, _max_price: int | None) -> Test | None:
    want = required.resources.memory_bytes
    return (lambda offered: offered.resources.memory_bytes >= want) if want else None


def _test_disk(required: Capability, _max_price: int | None) -> Test | None:
    want = required.resources.disk_bytes
    return (lambda offered: offered.resources.disk_bytes >= want) if want else None


def _judge_amount(
    name: str, field: str, show: Callable[[int], str], exact: Callable[[int], str], near: Callable[[int], int]
) -> Callable[[Question], Iterator[DimensionVerdict]]:
    amount: Callable[[Capability], int] = attrgetter(f"resources.{field}")

    def judge(question: Question) -> Iterator[DimensionVerdict]:
        want, there = amount(question.required), amount(question.offered)
        if there >= want:
            yield good(name, equal=there == want)
            return
        # Rounded for people, unless that would read "wanted 8 GiB, observed 8 GiB".
        words = show if show(want) != show(there) else exact
        total: int | None = getattr(question.total, field, None)
        observed = words(there) if total is None else f"{words(there)} free of {show(total)}"
        nearest = str(Change(name, near(there))) if there else ""
        yield bad(name, words(want), observed, nearest, passing=total is not None and total >= want)

    return judge


def _test_cpu_score(required: Capability, _max_price: int | None) -> Test | None:
    want = required.cpu_score
    return (lambda offered: offered.cpu_score >= want) if want else None


def _judge_cpu_score(question: Question) -> Iterator[DimensionVerdict]:
    want, there = question.required.cpu_score, question.offered.cpu_score
    if there >= want:
        yield good("cpu_score", equal=there == want)
    else:
        nearest = str(Change("cpu_score", there)) if there else ""
        observed = show_thousandths(there) if there else "not measured"
        yield bad("cpu_score", show_thousandths(want), observed, nearest)


def _test_wall_time(required: Capability, _max_price: int | None) -> Test | None:
    want = required.max_wall_ms
    return (lambda offered: not offered.max_wall_ms or want <= offered.max_wall_ms) if want else None


def _judge_wall_time(question: Question) -> Iterator[DimensionVerdict]:
    want, longest = question.required.max_wall_ms, question.offered.max_wall_ms
    if not want:
        yield good("wall_time", equal=True)
    elif not longest or want <= longest:
        yield good("wall_time", equal=want == longest)
    else:
        words = format_millis if format_millis(want) != format_millis(longest) else show_millis
        yield bad("wall_time", words(want), f"at most {words(longest)}", str(Change("wall_time", longest)))


def _test_price(required: Capability, max_price: int | None) -> Test | None:
    if max_price is None:
        return None
    resources, wall_ms = required.resources, required.max_wall_ms
    return lambda offered: offered.price.cost(resources, wall_ms) <= max_price


def _judge_price(question: Question) -> Iterator[DimensionVerdict]:
    if question.max_price is None:
        return
    cost = question.offered.price.cost(question.required.resources, question.required.max_wall_ms)
    if cost <= question.max_price:
        yield good("price", equal=cost == question.max_price)
    else:
        wanted = f"at most {format_credits(question.max_price)}"
        yield bad("price", wanted, format_credits(cost), str(Change("price", cost)))


# ------------------------------------------------------------------------------------------------------------------ kinds


def _kind(name: str) -> Dimension:
    """A dimension without order: the same word, or none asked."""
    word: Callable[[Capability], str] = attrgetter(name)

    def test(required: Capability, _max_price: int | None) -> Test | None:
        want, folded = word(required), word(required).casefold()
        return (lambda offered: (there := word(offered)) == want or there.casefold() == folded) if want else None

    def judge(question: Question) -> Iterator[DimensionVerdict]:
        want, there = word(question.required), word(question.offered)
        if not want or want.casefold() == there.casefold():
            yield good(name, equal=bool(want) or not there)
        else:
            verdict = Verdict.INCOMPARABLE if there else Verdict.WORSE
            yield bad(name, want, there or "unknown", str(Change(name, 0, "any")), verdict=verdict)

    return Dimension(name, test, judge)


def _test_relayed(required: Capability, _max_price: int | None) -> Test | None:
    return None if required.relayed else (lambda offered: not offered.relayed)


def _judge_relayed(question: Question) -> Iterator[DimensionVerdict]:
    accepted, relayed = question.required.relayed, question.offered.relayed
    if accepted or not relayed:
        yield good("relayed", equal=accepted == relayed)
    else:
        yield bad("relayed", "a direct connection", "reached through a relay", str(Change("relayed", 0, "accepted")))


def _test_job_class(required: Capability, _max_price: int | None) -> Test | None:
    wanted = required.job_classes
    if not wanted:
        return None
    return lambda offered: not offered.job_classes or all(kind in offered.job_classes for kind in wanted)


def _judge_job_class(question: Question) -> Iterator[DimensionVerdict]:
    wanted, accepted = question.required.job_classes, question.offered.job_classes
    if not wanted:
        yield good("job_class", equal=True)
    elif not accepted or all(kind in accepted for kind in wanted):
        yield good("job_class", equal=set(wanted) == set(accepted))
    else:
        nearest = str(Change("job_class", 0, accepted[0]))
        yield bad("job_class", ", ".join(wanted), ", ".join(accepted), nearest, verdict=Verdict.INCOMPARABLE)


# -------------------------------------------------------------------------------------------------------------- the table


def _test_gpus(required: Capability, _max_price: int | None) -> Test | None:
    needs = required.resources.gpus
    return (lambda offered: assign_gpus(needs, offered.resources.gpus) is not None) if needs else None


def _judge_gpus(question: Question) -> Iterable[DimensionVerdict]:
    total = None if question.total is None else question.total.gpus
    return judge_gpus(question.required.resources.gpus, question.offered.resources.gpus, total)


TABLE: Final[tuple[Dimension, ...]] = (
    Dimension("cpu", _test_cpu, _judge_amount("cpu", "cpu_millicores", format_cores, format_cores, int)),
    Dimension("memory", _test_memory, _judge_amount("memory", "memory_bytes", format_bytes, show_bytes, floor_bytes)),
    Dimension("disk", _test_disk, _judge_amount("disk", "disk_bytes", format_bytes, show_bytes, floor_bytes)),
    Dimension("gpu", _test_gpus, _judge_gpus),
    _kind("architecture"),
    Dimension("cpu_score", _test_cpu_score, _judge_cpu_score),
    Dimension(
        "executor",
        lambda required, _: executor_test(required.executors),
        lambda q: judge_executors(q.required.executors, q.offered.executors),
    ),
    Dimension(
        "library",
        lambda required, _: library_test(required.libraries),
        lambda q: judge_libraries(q.required.libraries, q.offered.libraries),
    ),
    Dimension(
        "label",
        lambda required, _: label_test(required.labels),
        lambda q: judge_labels(q.required.labels, q.offered.labels),
    ),
    _kind("country"),
    Dimension("relayed", _test_relayed, _judge_relayed),
    Dimension("job_class", _test_job_class, _judge_job_class),
    Dimension(
        "egress",
        lambda required, _: egress_test(required.egress),
        lambda q: judge_egress(q.required.egress, q.offered.egress),
    ),
    Dimension(
        "egress_bytes",
        lambda required, _: egress_bytes_test(required.egress),
        lambda q: judge_egress_bytes(q.required.egress, q.offered.egress),
    ),
    Dimension("wall_time", _test_wall_time, _judge_wall_time),
    Dimension("price", _test_price, _judge_price),
)
