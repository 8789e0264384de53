"""Every scenario by its name: how a seed becomes a plan."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final

from dms_proto.capability import JobClass, Price
from dms_proto.messages import Pricing
from dms_proto.sim import words
from dms_proto.sim.chance import chance
from dms_proto.sim.comparing import BROKEN, NEAR
from dms_proto.sim.plan import (
    AnyFault,
    Freeze,
    JobSpec,
    Lie,
    Outage,
    Outcome,
    Pause,
    Plan,
    Pressure,
    Stop,
)
from dms_proto.sim.words import SETTLED_MS, change
from dms_proto.units import GIB, MINUTE, SECOND
from dms_proto.verification.policy import Apart, Policy, Verification

SECOND_PRICE_LIES: Final = (Lie.OPENS_WRONGLY, Lie.SETS_PRICES)
LIES: Final = tuple(lie for lie in Lie if lie not in SECOND_PRICE_LIES)
"""Those that tell where bids are not sealed."""


def calm(rng: Random) -> Plan:
    """Nothing goes wrong; programs end as they like."""
    plan = words.priced(words.network(rng.randint(2, 7), rng), rng)
    for _ in range(rng.randint(3, 10)):
        plan = words.with_jobs(plan, 1, rng, count=rng.choice((1, 1, 2, 5)), outcome=words.any_outcome(rng))
    return plan


def lossy(rng: Random) -> Plan:
    """Messages are lost."""
    return words.with_weather(_busy(rng), loss=rng.choice((0.02, 0.1, 0.3)))


def duplicating(rng: Random) -> Plan:
    """Messages come twice, at once or much later."""
    return words.with_weather(_busy(rng), duplication=rng.choice((0.1, 0.5, 1.0)))


def reordering(rng: Random) -> Plan:
    """Messages overtake each other."""
    return words.with_weather(_busy(rng), reordering=rng.choice((0.2, 1.0)))


def stormy(rng: Random) -> Plan:
    """All of that, and slowly."""
    return words.with_weather(_busy(rng), loss=0.1, duplication=0.2, reordering=0.3, delay_ms=(20, 200), jitter_ms=200)


def partitions(rng: Random) -> Plan:
    """The network falls apart and heals."""
    return words.parted(_busy(rng), rng.randint(1, 4), rng)


def crashes(rng: Random) -> Plan:
    """Nodes die and start again, at any time."""
    return words.crashing(_busy(rng), rng.randint(1, 6), rng)


def skewed_clocks(rng: Random) -> Plan:
    """Clocks differ by almost what is tolerated, or by more."""
    return words.skewed(_busy(rng), rng, rng.choice((2 * SECOND, 14 * SECOND, 40 * SECOND)))


def liars(rng: Random) -> Plan:
    """Some nodes lie, in one way or several."""
    plan = words.with_node(words.network(rng.randint(2, 4), rng), 0, accepts_work=False)
    for lie in rng.sample(LIES, rng.randint(1, 4)):
        plan = words.with_liar(plan, lie)
    return words.with_jobs(plan, rng.randint(3, 8), rng, node=rng.randrange(2), wall_ms=MINUTE)


def wrong_results(rng: Random) -> Plan:
    """Some nodes give wrong results, alone or in agreement; requesters have them checked, by copies or by their good name."""
    plan = words.priced(words.network(rng.randint(4, 7), rng), rng)
    for _ in range(rng.randint(1, 3)):
        plan = words.with_liar(plan, Lie.WRONG_RESULTS)
    for _ in range(rng.randint(4, 10)):
        policy = rng.choice((Policy.REPLICATE, Policy.ADAPTIVE, Policy.ADAPTIVE))
        verify = Verification(policy, rng.choice((2, 3)), apart=Apart.NODES)
        plan = words.with_jobs(plan, 1, rng, count=rng.choice((1, 1, 4)), outcome=words.any_outcome(rng), verify=verify)
    if rng.random() < 0.5:
        plan = words.crashing(words.with_weather(plan, loss=0.05, duplication=0.1, reordering=0.1), 2, rng)
    return plan


def compared_results(rng: Random) -> Plan:
    """Results differ a little from node to node, and a comparator compares them; some nodes give wrong ones, or such as cannot be compared."""
    plan = words.priced(words.network(rng.randint(4, 7), rng), rng)
    for _ in range(rng.randint(0, 3)):
        plan = words.with_liar(plan, Lie.WRONG_RESULTS)
    for _ in range(rng.randint(4, 8)):
        policy, comparator = rng.choice((Policy.REPLICATE, Policy.ADAPTIVE)), rng.choice((NEAR, NEAR, NEAR, BROKEN))
        verify = Verification(policy, rng.choice((2, 3)), comparator, Apart.NODES)
        plan = words.with_jobs(
            plan,
            1,
            rng,
            count=rng.choice((1, 1, 3)),
            outcome=rng.choice((Outcome.VARIES, Outcome.VARIES, Outcome.FAILS_ONCE, Outcome.OK)),
            outputs=True,
            verify=verify,
            cancel_after=rng.choice((0, 0, 0, 2_000)),
            deadline_ms=rng.choice((0, 0, 5_000)),
        )
    if rng.random() < 0.5:
        plan = words.crashing(words.with_weather(plan, loss=0.05, duplication=0.1, reordering=0.1), 2, rng)
    return plan


def checkpoints(rng: Random) -> Plan:
    """Programs stop half-way and go on wherever there is room, while nodes die."""
    plan = words.priced(words.network(rng.randint(2, 5), rng), rng)
    for _ in range(rng.randint(3, 6)):
        limits = {"cancel_after": rng.choice((0, 0, 0, 2_000)), "deadline_ms": rng.choice((0, 0, 0, 5_000))}
        plan = words.with_jobs(plan, 1, rng, count=rng.choice((1, 1, 3)), outcome=Outcome.HALFWAY, **limits)
    if rng.random() < 0.5:
        plan = words.with_liar(plan, rng.choice(LIES))
    return words.crashing(words.with_weather(plan, loss=0.05, duplication=0.1, reordering=0.1), 2, rng)


def offline_beside_online(rng: Random) -> Plan:
    """Batch jobs have the CPU that others leave idle, stand still while those come and go, and are evicted; while nodes die."""
    plan = words.priced(words.network(rng.randint(2, 4), rng, cores=rng.choice((1, 2, 4)), offline_gives_way=True), rng)
    for _ in range(rng.randint(4, 8)):
        outcome = rng.choice((Outcome.OK, Outcome.OK, Outcome.HALFWAY, Outcome.FAILS))
        plan = words.with_jobs(plan, 1, rng, count=rng.choice((1, 3)), outcome=outcome, kind=JobClass.BATCH)
        plan = words.with_jobs(
            plan, 1, rng, work_ms=rng.choice((300, 3_000, 12_000)), cancel_after=rng.choice((0, 0, 900))
        )
    if rng.random() < 0.5:
        plan = words.crashing(words.with_weather(plan, loss=0.05, duplication=0.1, reordering=0.1), 2, rng)
    return plan


def owners_first(rng: Random) -> Plan:
    """Owners come, go, and come again, while what runs on their machines stands still, is evicted and goes on; while nodes die."""
    plan = words.network(rng.randint(2, 5), rng, cores=rng.choice((1, 2, 4)), offline_gives_way=rng.random() < 0.5)
    plan = words.priced(plan, rng)
    for _ in range(rng.randint(4, 8)):
        outcome = rng.choice((Outcome.OK, Outcome.OK, Outcome.OK, Outcome.HALFWAY, Outcome.FAILS, Outcome.OVERRUNS))
        plan = words.with_jobs(
            plan,
            1,
            rng,
            count=rng.choice((1, 1, 3)),
            outcome=outcome,
            kind=rng.choice((None, JobClass.BATCH)),
            wall_ms=MINUTE,
            cancel_after=rng.choice((0, 0, 0, 0, 4_000)),
        )
    plan = words.with_owners(plan, rng.randint(2, 6), rng)
    if rng.random() < 0.5:
        plan = words.crashing(words.with_weather(plan, loss=0.05, duplication=0.1, reordering=0.1), 2, rng)
    return words.frozen(plan, rng.randrange(2), rng)


def overload(rng: Random) -> Plan:
    """Much more is asked for than there is: requests stand and are served as capacity frees."""
    plan = words.network(rng.randint(2, 4), rng, cores=2)
    plan = words.with_jobs(plan, 25, rng, over_ms=5 * SECOND, work_ms=rng.choice((500, 3_000)))
    jobs = tuple(change(job, priority=rng.randrange(3)) for job in plan.jobs)
    return change(plan, jobs=jobs)


def joining(rng: Random) -> Plan:
    """Jobs wait until a node joins that can do them."""
    plan = words.network(rng.randint(1, 2), rng, cores=1)
    plan = words.with_jobs(plan, 3, rng, cores=3, patience_ms=2 * MINUTE)
    late = [
        change(plan.nodes[0], cores=8, bootstrap=(0,), joins_at=rng.randrange(10 * SECOND, 60 * SECOND))
        for _ in range(2)
    ]
    return change(plan, nodes=(*plan.nodes, *late))


def cancel_storm(rng: Random) -> Plan:
    """Owners change their minds, at any moment."""
    plan = words.network(rng.randint(2, 5), rng)
    for _ in range(12):
        plan = words.with_jobs(
            plan,
            1,
            rng,
            count=rng.choice((1, 3)),
            cancel_after=rng.choice((1, 15, 30, 45, 60, 100, 300, 2_000)),
            deadline_ms=rng.choice((0, 0, 40, 1_000)),
        )
    return words.with_weather(plan, loss=rng.choice((0.0, 0.0, 0.1)))


def many_slots(rng: Random) -> Plan:
    """Jobs of many allocations, on several machines at once and in turn."""
    plan = words.network(rng.randint(2, 4), rng)
    plan = words.with_jobs(plan, 3, rng, count=rng.choice((7, 20, 40)), work_ms=rng.choice((100, 2_000)))
    return words.crashing(plan, rng.randint(0, 1), rng)


def gpus(rng: Random) -> Plan:
    """Few machines have GPUs; jobs want whole ones, several, or none, and shares, which one of them gives to one of the others."""
    plan = words.network(rng.randint(3, 5), rng)
    two = (words.gpu("0"), words.gpu("1"))
    plan = words.with_node(plan, 1, gpus=two, own=(0,))
    plan = words.with_node(plan, 2, gpus=(words.gpu("0", model="H200", memory=80 * GIB),))
    wants = (
        (words.gpu(memory=10 * GIB, milli=500),),
        (words.gpu(),),
        (words.gpu(), words.gpu()),
        (words.gpu(model="H200", memory=0),),
        (words.gpu(model="none such"),),
        (),
    )
    for _ in range(10):
        plan = words.with_jobs(plan, 1, rng, gpus=rng.choice(wants))
    return plan


def gangs(rng: Random) -> Plan:
    """Jobs whose allocations go together, on machines with a GPU or two each, some of which die, beside jobs for one: all of a job, or none of it."""
    plan = words.network(rng.randint(3, 6), rng)
    for index in range(1, len(plan.nodes)):
        plan = words.with_node(plan, index, gpus=tuple(words.gpu(str(number)) for number in range(rng.randint(1, 2))))
    for _ in range(6):
        size = rng.choice((1, 2, 2, 3, 4, 9))
        plan = words.with_jobs(
            plan,
            1,
            rng,
            gpus=(words.gpu(),),
            count=size,
            together=size > 1,
            cancel_after=rng.choice((0, 0, 0, 500)),
            outcome=rng.choice((Outcome.OK, Outcome.OK, Outcome.FAILS, Outcome.BREAKS_NODE)),
            queue_ms=MINUTE,
        )
    plan = words.with_weather(plan, loss=rng.choice((0.0, 0.0, 0.05)))
    return words.crashing(plan, rng.randint(0, 1), rng)


def price_floors(rng: Random) -> Plan:
    """Nobody works for less than its price; some jobs pay too little for anybody."""
    plan = words.priced(words.network(rng.randint(2, 5), rng, tariff=Price(cpu_core_hour=60_000)), rng)
    plan = words.with_node(plan, 0, accepts_work=False)
    for _ in range(6):
        plan = words.with_jobs(plan, 1, rng, node=0, max_price=rng.choice((0, 10, 1_000, 4_000, 100_000)))
    return plan


def second_prices(rng: Random) -> Plan:
    """Bids are sealed; some are opened wrongly or not, some prices are made up, messages are lost and nodes die."""
    plan = words.priced(words.network(rng.randint(3, 6), rng, cores=rng.choice((1, 4))), rng)
    plan = words.with_node(plan, 0, accepts_work=False)
    lies = rng.sample((*SECOND_PRICE_LIES, Lie.SILENT_WINNER, Lie.WRONG_OFFERS), rng.randrange(3))
    patience = MINUTE if lies else 0  # whoever has its commits refused or not answered goes on asking
    for _ in range(rng.randint(4, 8)):
        plan = words.with_jobs(
            plan,
            1,
            rng,
            outcome=words.any_outcome(rng),
            max_price=rng.choice((10, 3_000, 100_000)),
            pricing=rng.choice((Pricing.SECOND_PRICE,) * 4 + (Pricing.FIRST_PRICE,)),
            cancel_after=rng.choice((0, 0, 0, 40, 400)),
            deadline_ms=patience,
        )
    for lie in lies:
        plan = words.with_liar(plan, lie)
        if lie is Lie.SETS_PRICES:
            liar, pricing = len(plan.nodes) - 1, Pricing.SECOND_PRICE
            plan = words.with_jobs(plan, 3, rng, node=liar, pricing=pricing, deadline_ms=patience)
    loss = rng.choice((0.0, 0.0, 0.1))
    plan = words.with_weather(plan, loss=loss, duplication=rng.choice((0.0, 0.3)), reordering=rng.choice((0.0, 0.3)))
    return words.crashing(words.frozen(plan, rng.randrange(3), rng), rng.randrange(3), rng)


def bursts(rng: Random) -> Plan:
    """Many jobs at once, over a way so long that acknowledgements come late: what is wrongly taken for silence costs no job its end."""
    plan = words.with_node(words.network(rng.randint(3, 5), rng), 0, accepts_work=False)
    plan = words.with_jobs(plan, 25, rng, node=0, over_ms=100, work_ms=rng.choice((50, 500)))
    return words.with_weather(plan, delay_ms=(100, 220), jitter_ms=rng.choice((20, 60)))


def in_turn(rng: Random) -> Plan:
    """One node has many more jobs, of two kinds, than may seek at a time; owners change their minds, deadlines pass, and it dies."""
    plan = words.network(rng.randint(2, 4), rng, cores=rng.choice((1, 2)), seekers=rng.choice((1, 2, 5)))
    for memory in (GIB, 2 * GIB):
        plan = words.with_jobs(
            plan,
            rng.randint(8, 16),
            rng,
            node=0,
            over_ms=rng.choice((1, 500, 5 * SECOND)),
            memory=memory,
            work_ms=rng.choice((50, 500)),
        )
    changes = (
        {"cancel_after": rng.choice((0, 0, 0, 1, 40, 900)), "deadline_ms": rng.choice((0, 0, 0, 900, 3_000))}
        for _ in plan.jobs
    )
    jobs = tuple(change(job, priority=rng.randrange(2), **spec) for job, spec in zip(plan.jobs, changes, strict=True))
    plan = change(plan, jobs=jobs)
    if rng.random() < 0.5:
        plan = words.with_weather(plan, loss=0.05, duplication=0.1, reordering=0.1)
    return words.crashing(plan, rng.randrange(3), rng)


def silent_winner(rng: Random) -> Plan:
    """Nodes stand still just when they have won."""
    plan = words.with_node(words.network(rng.randint(3, 5), rng), 0, accepts_work=False)
    plan = words.with_jobs(plan, 6, rng, work_ms=500)
    faults = [
        Freeze(rng.randrange(len(plan.nodes)), job.at + 10, job.at + rng.choice((100, 700, 3_000))) for job in plan.jobs
    ]
    return words.with_faults(plan, *faults)


def own_outage(rng: Random) -> Plan:
    """A requester's own network fails while its jobs run: its providers are innocent."""
    plan = words.with_node(words.network(rng.randint(2, 4), rng), 0, accepts_work=False)
    plan = words.with_jobs(plan, 5, rng, node=0, work_ms=rng.choice((1_000, 8_000)))
    return words.cut_off(plan, 0, rng)


def hosts_at_work(rng: Random) -> Plan:
    """Owners of machines use them, pause them, stop what runs there."""
    plan = _busy(rng)
    faults: list[AnyFault] = []
    for _ in range(4):
        node, at = rng.randrange(len(plan.nodes)), SETTLED_MS + rng.randrange(15 * SECOND)
        choice: tuple[AnyFault, ...] = (
            Pressure(node, at, at + 8 * SECOND, cores=3),
            Pause(node, at, at + 5 * SECOND, stopping=bool(at % 2)),
            Stop(node, at),
        )
        faults.append(rng.choice(choice))
    return words.with_faults(plan, *faults)


def impossible(rng: Random) -> Plan:
    """Some jobs nobody can ever do, some nobody else is there for."""
    plan = words.network(rng.choice((1, 2, 5)), rng)
    plan = words.with_jobs(plan, 2, rng, cores=64)
    plan = words.with_jobs(plan, 2, rng, architecture="riscv64", patience_ms=rng.choice((0, 5_000)))
    return words.with_jobs(plan, 2, rng)


def failing_jobs(rng: Random) -> Plan:
    """The programs themselves fail, or break what runs them."""
    plan = words.network(rng.randint(1, 5), rng)
    for outcome in Outcome:
        plan = words.with_jobs(plan, 1, rng, outcome=outcome, work_ms=300, wall_ms=5 * SECOND)
    return plan


def everything(rng: Random) -> Plan:
    """All at once."""
    plan = words.with_node(words.priced(words.network(rng.randint(3, 6), rng), rng), 1, accepts_work=False)
    plan = words.with_liar(plan, rng.choice(LIES))
    for _ in range(8):
        plan = words.with_jobs(
            plan,
            1,
            rng,
            count=rng.choice((1, 1, 4)),
            outcome=words.any_outcome(rng),
            wall_ms=MINUTE,
            cancel_after=rng.choice((0, 0, 0, 500)),
        )
    plan = words.with_weather(plan, loss=0.05, duplication=0.1, reordering=0.1)
    plan = words.skewed(plan, rng, 5 * SECOND)
    plan = words.crashing(words.parted(words.frozen(plan, 2, rng), 1, rng), 3, rng)
    plan = words.with_owners(plan, rng.randrange(3), rng)
    return words.with_faults(plan, Outage(0, 8 * SECOND, 10 * SECOND))


def two_nodes(rng: Random) -> Plan:
    """One asks, one works: the smallest market, for crashing at every point."""
    plan = words.network(2, rng)
    plan = words.with_node(plan, 0, accepts_work=False)
    job = JobSpec(node=0, at=SETTLED_MS, work_ms=400, count=rng.choice((1, 2)), inputs=True, outputs=True)
    return change(plan, jobs=(job,))


def _busy(rng: Random) -> Plan:
    plan = words.priced(words.network(rng.randint(3, 6), rng, cores=rng.choice((1, 4))), rng)
    for index in range(rng.randrange(len(plan.nodes))):
        plan = words.with_node(plan, index, accepts_work=False)
    for _ in range(rng.randint(4, 9)):
        plan = words.with_jobs(plan, 1, rng, count=rng.choice((1, 1, 1, 3)), outcome=words.any_outcome(rng))
    return plan


Scenario = Callable[[Random], Plan]

SCENARIOS: Final[dict[str, Scenario]] = {
    scenario.__name__.replace("_", "-"): scenario
    for scenario in (
        calm,
        lossy,
        duplicating,
        reordering,
        stormy,
        partitions,
        crashes,
        skewed_clocks,
        liars,
        wrong_results,
        compared_results,
        checkpoints,
        offline_beside_online,
        owners_first,
        overload,
        joining,
        cancel_storm,
        many_slots,
        gpus,
        gangs,
        price_floors,
        second_prices,
        bursts,
        in_turn,
        silent_winner,
        own_outage,
        hosts_at_work,
        impossible,
        failing_jobs,
        everything,
        two_nodes,
    )
}
"""By the name a person types."""


def plan_of(scenario: str, seed: int) -> Plan:
    """The plan of one seed."""
    return SCENARIOS[scenario](chance("plan", scenario, seed))
