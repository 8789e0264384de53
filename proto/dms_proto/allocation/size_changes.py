"""An allocation gets another size while it runs: what its machine decides. The way of it as a whole: `market.sizes`."""

from __future__ import annotations

from dms_proto.allocation.fold import evolve
from dms_proto.allocation.resizing import (
    SetSize,
    SettleSize,
    SizeChanged,
    SizeChanging,
    SizeKept,
    SizeSet,
    SizeWished,
    answer_to,
)
from dms_proto.allocation.state import Allocation, ran_ms, reservation_of
from dms_proto.machine import IGNORED, Decision, Effect, Send


def change_size(allocation: Allocation, stimulus: SizeWished, _now: int) -> Decision:
    """One change after the other: the offer book sees to it. A repeat gets the answer that there is."""
    change, sizes = stimulus.change, allocation.sizes
    if change.number <= sizes.number:
        return Decision((), () if sizes.changing is not None else told_again(allocation))
    return Decision((SizeChanging(change, stimulus.resources),), (SetSize(change.number, stimulus.resources),))


def refuse_size(allocation: Allocation, stimulus: SizeWished, _now: int) -> Decision:
    """Nothing runs whose limits could change. Once it is over, its capacity is free anyhow."""
    if stimulus.change.number <= allocation.sizes.number:
        return Decision((), told_again(allocation))
    kept = SizeKept(answer_to(stimulus.change, why_not="its program does not run"))
    return Decision((kept,), told_again(evolve(allocation, kept)))


def size_set(allocation: Allocation, stimulus: SizeSet, now: int) -> Decision:
    """What is owed from now on follows the new size. No use that was told already is counted anew."""
    change = allocation.sizes.changing
    if change is None or change.number != stimulus.number:
        return IGNORED
    at_ms = max(ran_ms(allocation, now), allocation.usage.wall_ms)
    answer = answer_to(change, at_ms=0 if stimulus.failed else at_ms, why_not=stimulus.failed)
    event = SizeKept(answer) if stimulus.failed else SizeChanged(answer)
    return Decision((event,), told_again(evolve(allocation, event)))


def kept_at_end(allocation: Allocation) -> tuple[SizeKept, ...]:
    """It is over before its run was known to have other limits: what was held all the while is what it held."""
    change = allocation.sizes.changing
    return () if change is None else (SizeKept(answer_to(change, why_not="it ended before its limits were changed")),)


def answered_again(allocation: Allocation) -> tuple[Send, ...]:
    """The last answer to its requester: a bill follows from it."""
    answer = allocation.sizes.answer
    return () if answer is None else (Send(reservation_of(allocation).requester, answer),)


def told_again(allocation: Allocation) -> tuple[Effect, ...]:
    """The last answer to its requester, and what the allocation holds to the offer book."""
    answer, reservation = allocation.sizes.answer, reservation_of(allocation)
    if answer is None:
        return ()
    return *answered_again(allocation), SettleSize(answer.number, reservation.resources, reservation.price)


def set_again(allocation: Allocation) -> tuple[Effect, ...]:
    """The change that was under way when the node died."""
    change, to = allocation.sizes.changing, allocation.sizes.to
    return () if change is None or to is None else (SetSize(change.number, to),)
