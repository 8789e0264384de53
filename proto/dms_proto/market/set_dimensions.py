"""Dimensions that are lists of names: executors, libraries, labels. One verdict for each name the request asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from dms_proto.capability import Capability, ExecutorOffer, Isolation
from dms_proto.market.changes import ISOLATIONS, Change, any_executor
from dms_proto.market.verdicts import DimensionVerdict, Verdict, bad, good

# -------------------------------------------------------------------------------------------------------------- executors


def executor_test(required: Sequence[ExecutorOffer]) -> Callable[[Capability], bool] | None:
    """Whether each required executor is there: that name (and version, if one is asked), as isolated and as limited."""
    if not required:
        return None

    def test(offered: Capability) -> bool:
        there = offered.executors
        for want in required:
            for executor in there:
                # Most often it is just what is asked, which two comparisons tell.
                if executor.name == want.name and (executor == want or _does(executor, want)):
                    break
            else:
                return False
        return True

    return test


def judge_executors(required: Sequence[ExecutorOffer], offered: Sequence[ExecutorOffer]) -> Iterator[DimensionVerdict]:
    """One verdict per required executor, under ``executor:NAME``."""
    for want in required:
        yield _judge_executor(want, [there for there in offered if there.name == want.name], offered)


def _does(there: ExecutorOffer, want: ExecutorOffer) -> bool:
    return (
        there.name == want.name
        and (not want.version or there.version == want.version)
        and (there.isolation == want.isolation or _rank(there.isolation) >= _rank(want.isolation))
        and (there.limits == want.limits or set(want.limits) <= set(there.limits))
    )


_RANKS: Final = {isolation: rank for rank, isolation in enumerate(ISOLATIONS)}


def _rank(isolation: Isolation) -> int:
    return _RANKS[isolation]


def _judge_executor(
    want: ExecutorOffer, named: list[ExecutorOffer], offered: Sequence[ExecutorOffer]
) -> DimensionVerdict:
    dimension = f"executor:{want.name}"
    fitting = [there for there in named if _does(there, want)]
    if fitting:
        return good(dimension, equal=all(_does(want, there) for there in fitting))
    if not named:
        others = ", ".join(sorted({there.name for there in offered})) or "none"
        return bad(dimension, _describe(want), f"not there; executors: {others}")
    # The one that lacks least: its version first, then isolation, then limits.
    closest = max(
        named,
        key=lambda there: (
            not want.version or there.version == want.version,
            min(_rank(there.isolation), _rank(want.isolation)),
            len(set(want.limits) & set(there.limits)),
        ),
    )
    other_version = bool(want.version) and closest.version != want.version
    isolation = min(want.isolation, closest.isolation, key=_rank)
    limits = tuple(limit for limit in want.limits if limit in closest.limits)
    nearest = any_executor(want.name, isolation, limits, any_version=other_version)
    verdict = Verdict.INCOMPARABLE if other_version else Verdict.WORSE
    return bad(dimension, _describe(want), _describe(closest), str(nearest), verdict=verdict)


def _describe(executor: ExecutorOffer) -> str:
    limits = ", ".join(sorted(executor.limits)) or "none"
    version = f" {executor.version}" if executor.version else ""
    return f"{executor.name}{version}, isolation {executor.isolation}, hard limits: {limits}"


# -------------------------------------------------------------------------------------------------------------- libraries


def library_test(required: Sequence[str]) -> Callable[[Capability], bool] | None:
    """Whether each required library is there, in exactly the version asked if one is."""
    if not required:
        return None
    return lambda offered: all(any(_provides(there, want) for there in offered.libraries) for want in required)


def judge_libraries(required: Sequence[str], offered: Sequence[str]) -> Iterator[DimensionVerdict]:
    """One verdict per required library, under ``library:NAME``."""
    for want in required:
        name, _, version = want.partition("==")
        dimension = f"library:{name}"
        named = [there for there in offered if there.partition("==")[0].casefold() == name.casefold()]
        fitting = [there for there in named if _provides(there, want)]
        if fitting:
            yield good(dimension, equal=all(_provides(want, there) for there in fitting))
        elif not named:
            yield bad(dimension, want, "not there", str(Change(dimension, 0, "none")))
        else:
            versions = [there.partition("==")[2] for there in named]
            observed = f"{name} {', '.join(v for v in versions if v) or 'of unknown version'}"
            verdict = Verdict.INCOMPARABLE if all(versions) and version else Verdict.WORSE
            yield bad(dimension, want, observed, str(Change(dimension, 0, "any version")), verdict=verdict)


def _provides(there: str, want: str) -> bool:
    their_name, _, their_version = there.partition("==")
    name, _, version = want.partition("==")
    return their_name.casefold() == name.casefold() and (not version or their_version == version)


# ----------------------------------------------------------------------------------------------------------------- labels


def label_test(required: Mapping[str, str]) -> Callable[[Capability], bool] | None:
    """Whether each required label is there with the same value."""
    if not required:
        return None
    return lambda offered: all(offered.labels.get(key) == value for key, value in required.items())


def judge_labels(required: Mapping[str, str], offered: Mapping[str, str]) -> Iterator[DimensionVerdict]:
    """One verdict per required label, under ``label:KEY``."""
    for key, value in sorted(required.items()):
        dimension = f"label:{key}"
        there = offered.get(key)
        if there == value:
            yield good(dimension, equal=True)
        else:
            verdict = Verdict.WORSE if there is None else Verdict.INCOMPARABLE
            yield bad(
                dimension,
                f"{key}={value}",
                "not there" if there is None else f"{key}={there}",
                str(Change(dimension, 0, "any")),
                verdict=verdict,
            )
