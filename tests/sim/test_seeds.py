"""Two hundred seeded networks over all scenarios: every invariant holds at every step, every request ends, all capacity is free again.

`dms sim --seeds N` runs as many more as wanted; a seed that fails there prints itself and its shortest trace, and becomes a named test here.
"""

from __future__ import annotations

import pytest

from dms.sim.campaign import run_campaign
from dms_proto.sim.scenarios import SCENARIOS
from dms_proto.work import OWNERS, EndReason

SEEDS = 200
NAMES = tuple(SCENARIOS)
PER_SCENARIO = -(-SEEDS // len(NAMES))


@pytest.mark.parametrize("scenario", NAMES)
def test_every_invariant_holds_at_every_step(scenario: str) -> None:
    work = [(scenario, seed) for seed in range(PER_SCENARIO)]
    outcome = run_campaign(work)
    assert outcome.failures == []
    assert outcome.steps > 0
    assert outcome.reasons, "no request ended"
    assert {OWNERS[EndReason(reason)] for reason in outcome.reasons}


def test_the_same_seed_gives_the_same_run() -> None:
    work = [("everything", 7)]
    assert run_campaign(work) == run_campaign(work)
