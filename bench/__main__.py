"""`make bench`: every figure the project claims, its bar, and how it was taken; a table, and JSON in bench/results/.

Ratios are to a floor measured in the same run. The machine is shared and noisy: compare figures of one run only, and look at the load line.
Ends non-zero when a bar is missed, after printing everything.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from bench import attacks, crowd, floor, market
from dms.sim.city import GPU_JOBS, run_city
from dms.testing.attackers import AGAINST_PROVIDERS, AGAINST_REQUESTERS, KINDS, ONE_BY_ONE
from dms_proto.sim import boasters
from dms_proto.sim import crowd as crowds
from dms_proto.units import HOUR, MIB, MINUTE, format_count

RESULTS = Path(__file__).parent / "results"
PIECES = 60
"""Of one job: what three providers of two cores hold at 0.1 cores each."""


JOBS = (20, 50, 100, 500)
"""Pieces of work in one job, where results are checked."""
FULL_JOB = 100
"""From so many on, each of a dozen bidders gives enough answers to a job for one to tell of the others."""


class Figure(NamedTuple):
    """One measured figure. `good`: whether it meets its bar; None where there is no bar."""

    name: str
    value: float
    unit: str
    bar: str
    good: bool | None
    method: str


def at_most(name: str, value: float, unit: str, bar: float, method: str) -> Figure:
    """A figure that should be small."""
    return Figure(name, value, unit, f"<= {bar:g}", value <= bar, method)


def at_least(name: str, value: float, unit: str, bar: float, method: str) -> Figure:
    """A figure that should be large."""
    return Figure(name, value, unit, f">= {bar:g}", value >= bar, method)


def market_figures(rounds: int, jobs: int) -> Iterator[Figure]:
    """Real nodes on loopback."""
    base = asyncio.run(floor.measure(rounds))
    yield Figure(
        "floor round p50", base["p50_ms"], "ms", "", None, "bare signed round over TCP, bwrap true (bench/floor.py)"
    )
    yield Figure("floor CPU per round", base["cpu_ms"], "ms", "", None, "the same, all processes")
    with market.devnet(3) as net:
        one = asyncio.run(market.latency(net, rounds))
        how = f"{rounds} sandboxed `true` one by one, 3 bidders, job.submit to `ended` on the feed"
        yield at_most("request to result p50", one["p50_ms"], "ms", 35, how)
        yield at_most("  ratio to the floor", one["p50_ms"] / base["p50_ms"], "x", 3.5, "same run")
        yield Figure("request to result p99", one["p99_ms"], "ms", "", None, how)
        yield at_most("CPU per sandboxed job", one["cpu_ms"], "ms", 15, "all processes of all four nodes")
        nothing = asyncio.run(market.throughput(net, jobs, "scripted"))
        yield at_least(
            "no-op jobs at once", nothing["jobs_per_s"], "jobs/s", 300, "the scripted executor, which starts no process"
        )
        many = asyncio.run(market.throughput(net, jobs))
        yield at_least(
            "sandboxed jobs at once", many["jobs_per_s"], "jobs/s", 80, f"{jobs} jobs submitted at once, durable"
        )
        yield Figure("  CPU per job", many["cpu_ms"], "ms", "", None, "the same")
        how = f"one job with count: {PIECES}, as many as fit at once: one request, one award, a commit to each provider"
        nothing = asyncio.run(market.pieces(net, PIECES, "scripted"))
        yield at_least("no-op pieces of one job", nothing["pieces_per_s"], "jobs/s", 300, how)
        job = asyncio.run(market.pieces(net, PIECES))
        yield at_least("sandboxed pieces of one job", job["pieces_per_s"], "jobs/s", 80, how)
        yield at_most("  CPU per piece", job["cpu_ms"], "ms", 15, "the same")
        resting = market.idle(net)
        yield at_most(
            "idle memory of a node", resting["pss_mib"], "MiB PSS", 150, "node, network and launcher processes"
        )
        yield at_most("idle CPU of a node", resting["cpu_percent"], "% core", 1, "10 s after the work")
        yield at_most("dms --help", market.command(net["requester"], "--help"), "ms", 150, "median of 15 processes")
        yield at_most("dms status", market.command(net["requester"], "status"), "ms", 300, "median of 15 processes")
        yield at_most(
            "winner killed to next running", asyncio.run(market.failover(net)), "ms", 1000, "kill -9 of the whole node"
        )
    with market.devnet(1) as net:
        yield at_most(
            "freed capacity to waiting job", asyncio.run(market.freed(net)), "ms", 500, "1 provider, job fills it"
        )
    with market.devnet(1, **{"market.ask_directly": False}) as net:
        one = asyncio.run(market.latency(net, rounds))
        how = f"two nodes, market.ask_directly off: the bid request is gossiped only; {rounds} sandboxed `true` one by one"
        yield at_most("request to result, gossip only p50", one["p50_ms"], "ms", 150, how)
    how = "job waits, no node fits; from a fitting node's hello heard or its socket answering to running; median of 5 nodes"
    yield at_most("joining node to waiting job", market.joining(), "ms", 500, how)
    yield at_most("node ready from dms up", market.ready(), "s", 2.5, "first answer on the socket")
    yield at_most(
        "four cold nodes to first result", market.cold_start(), "s", 4, "onboarded before; all started at once"
    )


def crowd_figures() -> Iterator[Figure]:
    """Twenty whole nodes on loopback."""
    for name, reached in crowd.measure().items():
        way = "gossip" if name == "gossips" else "direct"
        times = f"{crowd.NODES} whole nodes: from the request in the asker's log to the bid in each other node's; 20 requests"
        yield at_most(f"request at 20 nodes, {way}, p95", reached.p95_ms, "ms", 300, times)
        share = f"of {reached.expected}; half of the requests {crowd.JOINED_S:g} s after 19 nodes joined, half after the last"
        yield at_least("  reached", reached.share, "%", 100, share)


def simulated_figures() -> Iterator[Figure]:
    """Whole networks of the machines under a virtual clock, every invariant checked."""
    for name, gpu_jobs in (("messages per job", 0.0), ("  2 % want a GPU", GPU_JOBS)):
        costs = []
        for nodes in (10, 100, 1000):
            city = run_city(nodes, 11 * MINUTE, every_ms=10 * MINUTE * nodes // 200, gpu_jobs=gpu_jobs)
            assert not city.violation, city.violation
            costs.append(city.messages_per_job)
            how = (
                f"simulated; {city.jobs} jobs in 10 minutes, from request to receipt, each forwarding of gossip counted"
            )
            yield Figure(f"{name}, {nodes} nodes", costs[-1], "messages", "", None, how)
        if not gpu_jobs:
            yield at_most("  1,000 nodes against 10", costs[-1] / costs[0], "x", 1.5, "jobs that many nodes can do")
    city = run_city(1000, HOUR)
    assert not city.violation, city.violation
    how = (
        f"CPU of one process ({city.seconds:.0f} s by the clock); {city.jobs} jobs, each node submits about one in half an hour, {GPU_JOBS:.0%} "
        f"want a GPU; {city.report.steps:,} steps, all checked, a third given twice, logs folded at the end"
    )
    yield at_most("1,000 nodes x 1 simulated hour", city.cpu_seconds, "s", 60, how)


def verification_figures() -> Iterator[Figure]:
    """One requester among strangers of whom one in five lies: the real policies, simulated, many seeds."""
    plan, seeds = crowds.Plan(), range(8)
    counted = (
        f"{plan.pieces:,} pieces of work after {plan.warm_up:,}, {plan.honest} honest strangers, {plan.lonely} that lie alone, "
        f"{plan.colluding} that collude; {len(seeds)} seeds"
    )
    populations = {"all habits": plan.habits} | {habit.value: (habit,) for habit in crowds.EVERY_HABIT}
    for name, habits in populations.items():
        figures = crowds.Figures()
        for seed in seeds:
            figures += crowds.simulate(msgspec.structs.replace(plan, habits=habits), seed)
        yield at_most(f"wrong results accepted, {name}", 1000 * figures.wrong_share, "per 1,000", 1, counted)
        yield at_most("  runs per piece of work", figures.cost, "x", 1.3, "the same, copies and canaries counted")
        accused = 100 * figures.accused / figures.honest
        yield at_most("  honest ones called wrong", accused, "%", 1, "the same, at least once")
    yield from turncoat_figures(plan, seeds)
    yield from boasting_figures()


def turncoat_figures(plan: crowds.Plan, seeds: range) -> Iterator[Figure]:
    """All liars are right until after the warm-up, then turn, one after another. A job of one piece has no bar: nothing of it can be done again."""
    late = "all liars are right until after the warm-up, then wrong every other time"
    for pieces in (1, *JOBS):
        turned = crowds.Figures()
        for seed in seeds:
            turned += crowds.simulate(msgspec.structs.replace(plan, habits=(crowds.Habit.TURNCOAT,), job=pieces), seed)
        name, share = f"turncoats, jobs of {pieces}", 1000 * turned.wrong_share
        if pieces >= FULL_JOB:
            yield at_most(name, share, "per 1,000", 1, late)
        else:
            yield Figure(name, share, "per 1,000", "", None, late)
        yield at_most("  runs per piece of work", turned.cost, "x", 1.3, "the same, copies and canaries counted")


def boasting_figures() -> Iterator[Figure]:
    """Providers whose benchmarks are checked."""
    nodes = range(2_000)
    for name, truth, busy, sees_it, bar in (
        ("claims twice its speed", boasters.CLAIM // 2, boasters.BUSY, False, at_least),
        ("honest, noisy", boasters.CLAIM, boasters.BUSY, False, at_most),
        ("honest, its owner uses it", boasters.CLAIM, 0.7, True, at_most),
    ):
        caught = sum(
            boasters.caught_after(truth, 300, node, busy_share=busy, sees_it=sees_it) is not None for node in nodes
        )
        seen = "which it sees" if sees_it else "which it does not see"
        how = f"{len(nodes):,} nodes, 300 awards each, {busy:.0%} of the time busy with others' work, {seen}"
        yield bar(f"caught: {name}", 100 * caught / len(nodes), "%", 99 if truth < boasters.CLAIM else 1, how)


def component_figures() -> Iterator[Figure]:
    """Parts on their own; each has a bench file with more figures."""
    from bench import ranking, store  # noqa: PLC0415

    for case in ranking.measure(10_000):
        name = case.name.strip()
        if case.bar:
            yield at_most(name[:34], case.value, case.unit, case.bar, "bench/ranking.py; CPU time, best of 7")
    stored = store.run()[0]
    how = f"{stored['clients']} clients x {stored['events_per_append']} events, durable (bench/store.py)"
    yield at_least("event append / bare sqlite3", stored["ratio"], "x", store.BAR, how)


def wire_figures() -> Iterator[Figure]:
    """What it costs to know who sent a message, that it is new, and that its sender may ask for it."""
    from bench import wire  # noqa: PLC0415

    rounds = 200
    for cost in wire.checking(rounds):
        less = format_count(cost.checks, "Ed25519 check")
        how = f"signature, replay, grant: {cost.all_us:.0f} us, less {less} beside it; median of {rounds}, best of {wire.REPETITIONS} (bench/wire.py)"
        yield at_most(f"checking {cost.name}", cost.beyond_us, "us", 250, how)


def pool_figures() -> Iterator[Figure]:
    """What a pool of warm containers gains and costs."""
    from bench import pools  # noqa: PLC0415

    for ratio in pools.hit_ratios():
        how = f"{pools.LENGTH:,} calls, {pools.FRAMES} containers of one size; sim/traces.py"
        yield Figure(f"warm calls, {ratio.trace}, optimum", 100 * ratio.optimum, "%", "", None, how)
        for strategy, share in ratio.strategies.items():
            yield Figure(f"  {strategy}", 100 * share, "%", "", None, "the same string")
    costs = pools.costs()
    how = f"CPU; {pools.CONTAINERS} containers, {pools.USERS} virtual; best of {pools.REPETITIONS} (bench/pools.py)"
    yield at_most("making a virtual container", costs.virtual_us / 1000, "ms", 10, f"its first call included; {how}")
    yield Figure("a warm call, decided and counted", costs.warm_us, "us", "", None, how)
    yield at_least("decisions", costs.per_second, "per s", 5_000, "three of them are a call")
    back = pools.restoring()
    how = f"wall; {back.rows:,} events since the pool began, the store opened, read and folded"
    yield at_most("pool restored", back.since_s, "s", 5, f"{how}, from where it was last written as one")
    yield Figure("  from the first event on", back.whole_s, "s", "", None, how)
    whole = pools.back()
    how = "wall, kill -9 of the node, median of 3"
    yield Figure("killed node without a pool back", whole.bare_s, "s", "", None, f"launched until it answers; {how}")
    yield Figure("  with a pool", whole.ready_s, "s", "", None, "the same, in turn with it")
    yield at_most("killed node's first call served", whole.served_s, "s", 5, "until the warm container has answered")
    counting = pools.counting()
    how = "one call alone in its batch, appended and waited for, not synced; a real store"
    yield Figure("counters of a call, written", counting.first_us, "us", "", None, how)
    yield Figure(
        "  in the store", counting.disk_bytes, "bytes", "", None, "the same; twice for a call, at delivery and end"
    )


def colocation_figures() -> Iterator[Figure]:
    """Offline work beside online work, on one trace."""
    from bench import colocation  # noqa: PLC0415

    seen = colocation.measure()
    jobs = f"{len(seen.alone.took_s)} interactive jobs that need the whole core"
    how = f"{jobs}, job.submit to `ended`; the node runs on that core as well"
    waited = "threads of the provider's node that were ready and did not run, as the kernel tells it; for each job"
    yield Figure("online jobs alone, p99", seen.alone.p99_ms, "ms", "", None, how)
    yield Figure("  p50", seen.alone.p50_ms, "ms", "", None, "the same")
    yield Figure("  the node waited for the core", seen.alone.waited_ms, "ms", "", None, waited)
    yield Figure("  the core in use", seen.alone.busy_percent, "%", "", None, "CPU of all jobs by the clock")
    yield Figure("with offline work beside them, p99", seen.beside.p99_ms, "ms", "", None, "the same jobs, in turns")
    yield at_most("  ratio", seen.beside.p99_ms / seen.alone.p99_ms, "x", 1.2, "p99, same run")
    yield Figure("  p50", seen.beside.p50_ms, "ms", "", None, "the same")
    yield Figure("  ratio", seen.beside.p50_ms / seen.alone.p50_ms, "x", "", None, "p50, same run")
    yield Figure("  the node waited for the core", seen.beside.waited_ms, "ms", "", None, "the same")
    yield at_least("  the core in use", seen.beside.busy_percent, "%", seen.alone.busy_percent, "more than alone")
    took = colocation.until_stopped()
    bare = f"the longest of {len(took)}: from a signal until a program that burns a core stands still"
    yield Figure("floor: a program stands still after", 1e3 * max(took), "ms", "", None, bare)
    how = f"the longest of {len(seen.given_way_s)}: from job.submit until all processes of a batch job stand still"
    yield at_most("an online job has the core after", max(seen.given_way_s), "s", 2, how)
    owner = colocation.until_frozen()
    how = f"the longest of {len(owner)}: from foreign programs on every core until all processes of a job stand still"
    yield at_most("the owner has the machine after", max(owner), "s", 2, how)


def tunnel_figures(rounds: int) -> Iterator[Figure]:
    """Bytes into a sandbox at another node, beside the least that could carry them."""
    from bench import tunnels  # noqa: PLC0415

    seen = tunnels.measure(10 * rounds)
    how = (
        f"{10 * rounds} exchanges of 100 bytes each way, one after the other; {tunnels.BULK // MIB} MiB there and back"
    )
    for name, way in (("plain TCP", seen.tcp), ("plain Unix socket", seen.unix), ("bare libp2p stream", seen.stream)):
        yield Figure(f"floor: {name}, p50", way.p50_ms, "ms", "", None, how)
        yield Figure("  p95", way.p95_ms, "ms", "", None, "the same")
        yield Figure("  bulk", way.mib_per_s, "MiB/s", "", None, "each way at once")
    tunnel = seen.tunnel
    yield at_most("tunnel into a sandbox, p50", tunnel.p50_ms, "ms", 5, f"two nodes on loopback; {how}")
    yield Figure("  p95", tunnel.p95_ms, "ms", "", None, "the same")
    yield Figure("  ratio to a bare stream", tunnel.p50_ms / seen.stream.p50_ms, "x", "", None, "p50, same run")
    yield Figure("  bulk", tunnel.mib_per_s, "MiB/s", "", None, "each way at once")
    yield Figure("  of a bare stream", 100 * tunnel.mib_per_s / seen.stream.mib_per_s, "%", "", None, "same run")
    crowd = f"one client, {tunnels.AT_ONCE} tunnels to each of two providers, an exchange under way in each"
    yield at_least("exchanges at once", seen.exchanges_per_s, "a second", 1_000, crowd)


def function_figures(rounds: int) -> Iterator[Figure]:
    """Functions called at other nodes, beside processes here and the tunnel under it."""
    from bench import functions  # noqa: PLC0415

    seen = functions.measure(10 * rounds)
    one = f"{10 * rounds} calls of abs, one after the other"
    crowd = f"{40 * rounds} calls at once, by one client"
    yield Figure("floor: two processes here, p50", seen.processes.p50_ms, "ms", "", None, f"ProcessPoolExecutor; {one}")
    yield Figure("  p95", seen.processes.p95_ms, "ms", "", None, "the same")
    yield Figure("  at once", seen.processes.calls_per_s, "calls/s", "", None, crowd)
    yield Figure("floor: the tunnel under it, p50", seen.tunnel_p50_ms, "ms", "", None, "100 bytes each way")
    yield at_most("function elsewhere, p50", seen.functions.p50_ms, "ms", 5, f"two providers on loopback; {one}")
    yield Figure("  p95", seen.functions.p95_ms, "ms", "", None, "the same")
    yield Figure("  more than the tunnel", seen.functions.p50_ms - seen.tunnel_p50_ms, "ms", "", None, "p50, same run")
    yield at_least(
        "  at once", seen.functions.calls_per_s, "calls/s", 1_000, f"a worker at each of two providers; {crowd}"
    )
    yield Figure("  in chunks of 100", seen.in_chunks_per_s, "calls/s", "", None, "map with chunksize")
    how = f"a round of the market, a sandbox, Python, cloudpickle, a tunnel; median of {functions.COLD} executors"
    yield at_most("first call of all", seen.cold_p50_ms, "ms", 600, how)
    yield Figure("  the slowest", seen.cold_most_ms, "ms", "", None, "the same")


def data_figures() -> Iterator[Figure]:
    """A large content over a link that is cut."""
    from bench import data  # noqa: PLC0415

    seen = data.measure()
    how = f"{data.BYTES:,} bytes, cut {data.CUTS} times; what crossed the wire beyond the content, framing included"
    yield at_most("sent again after cuts", seen.more_percent, "%", 5, how)
    several = f"the same, of {data.HOLDERS} holders, the link to one after the other cut"
    yield at_most("  of several holders", seen.more_of_several_percent, "%", 5, several)
    yield Figure(
        "  without a cut", seen.mib_per_s, "MiB/s", "", None, "loopback, verified chunk by chunk and as a whole"
    )
    yield from whole_data_figures()


def whole_data_figures() -> Iterator[Figure]:
    """The same between whole nodes."""
    from bench import data_nodes  # noqa: PLC0415

    seen = data_nodes.measure()
    floor = seen.tcp_mib_per_s
    yield Figure("floor: plain TCP into a file", floor, "MiB/s", "", None, "loopback, one process, nothing verified")
    how = (
        f"{data_nodes.BYTES:,} bytes between whole nodes, cut {data_nodes.CUTS} times, all that the nodes said included"
    )
    for name, until, way in (
        ("a dataset", "invoked to inputs laid out", seen.dataset),
        ("a result", "ended to fetched", seen.result),
    ):
        yield at_most(f"{name} of a job, sent again", way.more_percent, "%", 5, how)
        yield Figure(
            "  without a cut", way.mib_per_s, "MiB/s", "", None, f"{until}, as the node that got it wrote down"
        )
        yield Figure("  of the floor", 100 * way.mib_per_s / floor, "%", "", None, "same run")
        grown = "the most by which node and network process of either side grew, cut or not"
        yield at_most("  memory", way.growth_mib, "MiB more", 48, grown)


def log_figures() -> Iterator[Figure]:
    """A long log, mirrored while it is written."""
    from bench import logs  # noqa: PLC0415

    seen, size = logs.measure(), logs.BYTES / MIB
    how = f"{size:.0f} MiB of random bytes from a sandbox at another node, compared byte by byte"
    yield at_least("log mirrored", size / seen.mirrored_s, "MiB/s", 1, how)
    yield Figure("  and read by a program", size / seen.read_s, "MiB/s", "", None, "job.logs on the node's socket")


def attack_figures(rounds: int, kinds: Sequence[str]) -> Iterator[Figure]:
    """An honest pair under each attack on the one that works and on the one that asks, and beside it what chance alone does."""
    for group, validity_ms, forgive_s in (
        (AGAINST_PROVIDERS, 500, attacks.FORGIVE_S),
        (AGAINST_REQUESTERS, 10_000, attacks.FORGIVE_WINNERS_S),
    ):
        if chosen := [kind for kind in group if kind in kinds]:
            yield from _attacks_on(chosen, rounds, validity_ms, forgive_s)


def _attacks_on(kinds: Sequence[str], rounds: int, validity_ms: int, forgive_s: int) -> Iterator[Figure]:
    with attacks.pair(validity_ms, forgive_s) as net:
        chance = asyncio.run(attacks.measure(net, attacks.NOBODY, rounds))
        how = f"request to running, {chance.rounds_before} rounds against {chance.rounds_under}"
        yield Figure("p95 of peace against peace", chance.ratio, "x", "", None, how)
        for kind in kinds:
            seen = asyncio.run(attacks.measure(net, kind, rounds))
            how = (
                f"{seen.p95_before_ms:.0f} ms from request to running, {seen.rounds_before} rounds in peace; "
                f"{seen.p95_under_ms:.0f} ms, {seen.rounds_under} rounds from its first hostile byte until it is forgiven, "
                f"{seen.slowest_ms:.0f} ms the slowest"
            )
            yield at_most(f"{kind}: p95 under attack", seen.ratio, "x", 1.2, how)
            yield at_most("  memory of the victim", seen.growth_mib, "MiB more", 20, "PSS of all its processes")
            yield at_most("  muted within", seen.muted_s, "s", 2, attacks.muted_means(kind))
            if kind not in ONE_BY_ONE:
                told = f"network.forgive_s is {forgive_s}"
                yield at_most("  forgiven within", seen.forgiven_s, "s", 2 * forgive_s, told)


PARTS: dict[str, Callable[[argparse.Namespace], Iterator[Figure]]] = {
    "market": lambda options: market_figures(options.rounds, options.jobs),
    "crowd": lambda _options: crowd_figures(),
    "simulated": lambda _options: simulated_figures(),
    "verification": lambda _options: verification_figures(),
    "attacks": lambda options: attack_figures(options.rounds, options.attacker or KINDS),
    "wire": lambda _options: wire_figures(),
    "data": lambda _options: data_figures(),
    "tunnels": lambda options: tunnel_figures(options.rounds),
    "functions": lambda options: function_figures(options.rounds),
    "logs": lambda _options: log_figures(),
    "pools": lambda _options: pool_figures(),
    "colocation": lambda _options: colocation_figures(),
    "components": lambda _options: component_figures(),
}


def main() -> int:
    """Measures, prints, writes JSON."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument(
        "parts", nargs="*", choices=[[], *PARTS], default=[], metavar="PART", help=f"{', '.join(PARTS)}; default: all"
    )
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument(
        "--attacker",
        action="append",
        choices=KINDS,
        help="only this one, may be given again; default: all",
    )
    options = parser.parse_args()
    figures: list[Figure] = []
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}\n"
    )
    for part in options.parts or PARTS:
        for figure in PARTS[part](options):
            figures.append(figure)
            mark = {True: "ok  ", False: "MISS", None: "    "}[figure.good]
            print(
                f"{mark} {figure.name:34}{figure.value:>10.2f} {figure.unit:9}{figure.bar:10} {figure.method}",
                flush=True,
            )
    print(f"\nload at the end {os.getloadavg()[0]:.1f}")
    _write(figures)
    return 1 if any(figure.good is False for figure in figures) else 0


def _write(figures: list[Figure]) -> None:
    RESULTS.mkdir(exist_ok=True)
    told: dict[str, Any] = {
        "at": int(time.time()),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "load": os.getloadavg(),
        "figures": [figure._asdict() for figure in figures],
    }
    file = RESULTS / f"{told['at']}.json"
    file.write_text(json.dumps(told, indent=1))
    print(f"written to {file.relative_to(Path.cwd())}")


if __name__ == "__main__":
    sys.exit(main())
