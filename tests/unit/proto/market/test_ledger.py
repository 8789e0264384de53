"""The capacity ledger: random operations against a plain account, and the ways it refuses what would break the law."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from dms_proto.capability import Gpu, Price, Resources
from dms_proto.ids import AllocationId, BidId, PeerId, RequestId
from dms_proto.market.arithmetic import fits_within
from dms_proto.market.ledger import CapabilityLock, Ledger, Reservation
from dms_proto.units import CORE, GIB

MACHINE = Resources(8 * CORE, 16 * GIB, 100 * GIB, (Gpu("0", "nvidia", "A100", 40 * GIB), Gpu("1", "amd", "MI300")))
shares = st.sampled_from(
    [
        (),
        (Gpu("0", "nvidia", "A100", 10 * GIB, 250),),
        (Gpu("0", "nvidia", "A100", 40 * GIB),),
        (Gpu("1", "amd", "MI300"),),
    ]
)
amounts = st.builds(
    Resources, st.sampled_from([0, 1, 500, 1000, 8000]), st.sampled_from([0, GIB, 3 * GIB]), st.just(0), shares
)


def lock(name: str, *slots: Resources) -> CapabilityLock:
    return CapabilityLock(BidId(name), RequestId("r"), PeerId("p"), slots, Price(), 0, 0, 0)


def reservation(name: str, bid: str, resources: Resources) -> Reservation:
    return Reservation(AllocationId(name), BidId(bid), RequestId("r"), PeerId("p"), 0, resources, Price(), 0, 0)


class LedgerAgainstAccount(RuleBasedStateMachine):
    """Locks, commits and frees in any order; what is refused must be refused for a reason, and nothing changes then."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger().register(MACHINE)
        self.locks: dict[str, tuple[Resources, ...]] = {}
        self.allocations: dict[str, Resources] = {}
        self.count = 0

    @rule(slots=st.lists(amounts, min_size=1, max_size=3))
    def takes_a_lock(self, slots: list[Resources]) -> None:
        self.count += 1
        wanted = lock(f"b{self.count}", *slots)
        try:
            fits = fits_within(wanted.amount, self.ledger.available)
        except ValueError:  # together more than a whole device
            return
        if fits:
            self.ledger = self.ledger.lock(wanted)
            self.locks[wanted.bid_id] = tuple(slots)
        else:
            with pytest.raises(ValueError, match="more than"):
                self.ledger.lock(wanted)

    @precondition(lambda self: self.locks)
    @rule(data=st.data())
    def lets_a_lock_go(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.locks)))
        self.ledger = self.ledger.unlock(BidId(name))
        del self.locks[name]

    @precondition(lambda self: self.locks)
    @rule(data=st.data())
    def commits_a_part(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.locks)))
        slots = self.locks.pop(name)
        taken = slots[: data.draw(st.integers(1, len(slots)))]
        made = [reservation(f"a {name} {index}", name, amount) for index, amount in enumerate(taken)]
        self.ledger = self.ledger.commit(BidId(name), made)
        self.allocations.update({r.allocation_id: r.resources for r in made})

    @precondition(lambda self: self.allocations)
    @rule(data=st.data())
    def frees_an_allocation(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.allocations)))
        self.ledger = self.ledger.free(AllocationId(name))
        del self.allocations[name]

    @rule(factor=st.sampled_from([1, 2]))
    def is_registered_anew(self, factor: int) -> None:
        larger = Resources(
            MACHINE.cpu_millicores * factor, MACHINE.memory_bytes * factor, MACHINE.disk_bytes, MACHINE.gpus
        )
        if fits_within(self.ledger.held, larger):
            self.ledger = self.ledger.register(larger)
        else:
            with pytest.raises(ValueError, match="more than"):
                self.ledger.register(larger)

    @invariant()
    def the_law_holds(self) -> None:
        self.ledger.check()

    @invariant()
    def every_amount_is_accounted_for(self) -> None:
        cores = sum(slot.cpu_millicores for slots in self.locks.values() for slot in slots)
        assert self.ledger.locked.cpu_millicores == cores
        assert self.ledger.allocated.cpu_millicores == sum(r.cpu_millicores for r in self.allocations.values())
        assert set(self.ledger.locks) == set(self.locks)
        assert set(self.ledger.reservations) == set(self.allocations)

    def teardown(self) -> None:
        for name in self.locks:
            self.ledger = self.ledger.unlock(BidId(name))
        for name in self.allocations:
            self.ledger = self.ledger.free(AllocationId(name))
        assert self.ledger.available == self.ledger.registered


TestLedgerAgainstAccount = LedgerAgainstAccount.TestCase
TestLedgerAgainstAccount.settings = settings(max_examples=60, stateful_step_count=30)


@pytest.fixture
def ledger() -> Ledger:
    return Ledger().register(Resources(4 * CORE, 8 * GIB))


def test_a_lock_of_the_same_name_is_refused(ledger: Ledger) -> None:
    locked = ledger.lock(lock("b", Resources(CORE)))

    with pytest.raises(ValueError, match="locked already"):
        locked.lock(lock("b", Resources(CORE)))


def test_a_commit_of_more_than_was_locked_is_refused(ledger: Ledger) -> None:
    locked = ledger.lock(lock("b", Resources(CORE)))

    with pytest.raises(ValueError, match="not that much locked"):
        locked.commit(BidId("b"), [reservation("a", "b", Resources(2 * CORE))])


def test_what_holds_nothing_cannot_be_let_go(ledger: Ledger) -> None:
    with pytest.raises(KeyError):
        ledger.unlock(BidId("b"))
    with pytest.raises(KeyError):
        ledger.free(AllocationId("a"))


def test_a_ledger_that_breaks_the_law_is_noticed(ledger: Ledger) -> None:
    wrong = Ledger(ledger.registered, Resources(3 * CORE, 8 * GIB))

    with pytest.raises(AssertionError, match="capacity law broken"):
        wrong.check()
