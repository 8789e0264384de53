"""Answers that are not the same byte for byte, and yet may be the same: which of them a result comparator is asked about, and what follows.

A comparator is somebody's program that reads files which strangers have left. It is asked about two answers at a time, so that a file at which it
fails spoils no other question; what it says is a fact that is written down, and never asked again::

    founders, fresh ──▶ `grouping` ──Pair──▶ the comparator ──the same, or not, or why it cannot say──▶ … ──▶ Grouping

*The same within a tolerance* is not transitive, so a camp is what is the same as the answer that founded it. The answers take their turn in the order
given, and each joins the first camp that takes it: nobody founds a camp by answering sooner.

Where a comparator fails on a pair, each of the two is compared with itself. One on which it fails even so is *unfit*: it stands alone, and is
not called wrong; but once others are accepted, whoever gave it is not trusted any more. If neither is, or all are, the comparator has failed.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import NamedTuple

import msgspec

Camp = tuple[int, ...]
"""Answers that are the same, by number; the first has founded it."""
Said = bool | str
"""Whether two answers are the same; or why that could not be said."""


class Pair(NamedTuple):
    """Two answers to be compared."""

    left: int
    right: int


class Grouping(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a comparator has said of some answers.

    Attributes:
        camps: each answer once.
        unfit: answers that it could not compare even with themselves, and why.
        failed: why it could compare nothing, or not these two; empty: it could. Then there are no camps.
    """

    camps: tuple[Camp, ...] = ()
    unfit: Mapping[int, str] = {}
    failed: str = ""


Asking = Generator[Pair, Said, Grouping]
"""Yields pairs, is sent what was said of each, and returns what follows."""


def split_name(comparator: str) -> tuple[str, str]:
    """The name and the parameter in what a job declares: ``numbers:1e-6`` is `numbers` with `1e-6`."""
    name, _, parameter = comparator.partition(":")
    return name, parameter


def grouping(founders: Sequence[int], fresh: Sequence[int]) -> Asking:
    """Groups answers.

    Args:
        founders: answers that have founded camps before, which are not compared with each other again.
        fresh: answers that have no camp yet, in the order in which they take their turn.
    """
    return _Grouped(founders).group(fresh)


class _Grouped:
    def __init__(self, founders: Sequence[int]) -> None:
        self._camps = [[founder] for founder in founders]
        self._unfit: dict[int, str] = {}
        self._fit: set[int] = set()

    def group(self, fresh: Sequence[int]) -> Asking:
        for index in fresh:
            failed = yield from self._place(index)
            if failed:
                return Grouping(failed=failed)
        for camp in self._camps if not self._fit else ():
            yield from self._look_at(camp[0])
        if len(self._unfit) == len(self._camps):
            return Grouping(failed=next(iter(self._unfit.values())))
        return Grouping(tuple(map(tuple, self._camps)), self._unfit)

    def _place(self, index: int) -> Generator[Pair, Said, str]:
        """Finds a camp for an answer, or founds one. Returns why the comparator has failed; empty: it has not."""
        for camp in tuple(self._camps):
            if camp[0] in self._unfit:
                continue
            said = yield Pair(camp[0], index)
            if said is True:
                self._fit |= {camp[0], index}
                camp.append(index)
                return ""
            if said is False:
                self._fit |= {camp[0], index}
                continue
            yield from self._look_at(camp[0])
            yield from self._look_at(index)
            if self._fit.issuperset((camp[0], index)):
                return said
            if index in self._unfit:
                break
        self._camps.append([index])
        return ""

    def _look_at(self, index: int) -> Generator[Pair, Said, None]:
        """Whether the comparator can compare an answer at all."""
        if index in self._fit or index in self._unfit:
            return
        said = yield Pair(index, index)
        if said is True:
            self._fit.add(index)
        else:
            self._unfit[index] = said or "it does not take this answer for the same as itself"
