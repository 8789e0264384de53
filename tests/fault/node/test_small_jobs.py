"""How many jobs a stranger gets out of its share of the log budget, as the decision on it says."""

from __future__ import annotations

from collections import Counter

from dms.testing.honest_pair import HonestPair
from dms_actors.strangers import Strangers
from dms_proto.ids import PeerId
from dms_proto.units import HOUR, SECOND
from dms_proto.wire.log_budget import BURSTS_A_DAY, PEER_PART, PER_DAY_BYTES, LogBudget

SHARE = PER_DAY_BYTES // PEER_PART
DAY_S = 24 * HOUR // SECOND


class CountedBudget(LogBudget):
    """Keeps what each peer paid."""

    def __init__(self) -> None:
        super().__init__()
        self.paid: Counter[PeerId] = Counter()

    def wrote(self, peer: PeerId, source: str, size_bytes: int, now: int, *, is_gossiped: bool = False) -> None:
        self.paid[peer] += size_bytes
        super().wrote(peer, source, size_bytes, now, is_gossiped=is_gossiped)


def test_a_stranger_gets_about_2400_small_jobs_at_once_and_one_in_nine_seconds_after_that() -> None:
    budgets: list[CountedBudget] = []

    def strangers() -> Strangers:
        budgets.append(CountedBudget())
        return Strangers(budgets[-1])

    pair = HonestPair(strangers)
    requester = pair.requester.signer.peer_id

    def paid() -> int:
        return sum(budget.paid[requester] for budget in budgets)

    before = paid()
    assert pair.works()
    cost = paid() - before

    assert SHARE // BURSTS_A_DAY // cost in range(2_300, 2_500)
    assert round(cost * DAY_S / SHARE) == 9
