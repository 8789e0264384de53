"""Dying at every point: one small plan, run again for each append of a node and each number of effects performed after it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import msgspec

from dms_proto.sim.plan import CrashPoint, Plan
from dms_proto.sim.simulation import Simulation


def crash_points(plan: Plan, seed: int, node: int, *, most_effects: int = 2) -> Iterator[Plan]:
    """The plan with `node` dying right after each of its appends, before, between and after the effects that follow it.

    How many appends there are is found by running the plan undisturbed. Each time with runs that survive and runs that do
    not, and with a log that has everything and one that lacks what no promise rests on.
    """
    appends = Simulation(plan, seed).run().appends[node]
    for append in range(1, appends + 1):
        for effects in range(most_effects + 1):
            for survive, forgets in product((True, False), repeat=2):
                down_ms = (30, 700, 4_000)[append % 3]
                point = CrashPoint(node, append, effects, down_ms, survive, forgets)
                yield msgspec.structs.replace(plan, faults=(*plan.faults, point))
