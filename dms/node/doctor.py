"""Is this machine fit to be a node: what was looked at, what was seen, what to do about it. With and without a running node.

A check gives findings with evidence; what could not be looked at is SKIP with the reason, never PASS. The checks, most important first::

    identity  config  grants  interfaces  store  disk  ports  executors  network  reach  peers  clock  gpus  pressure
    mishaps

`main` is what ``python -m dms.node doctor`` runs where no node can be asked.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import stat
import statistics
import tempfile
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from dms import __version__
from dms.config import Config, Home, load_config
from dms.config.identity import is_protected, read_names, unlock
from dms.config.passphrase import is_named, unattended
from dms.config.paths import require_private
from dms.executors.cluster.cluster import PlacedExecutor
from dms.executors.detect import Unavailable, detect
from dms.executors.oci.engine import Facts
from dms.executors.oci.executor import OciExecutor
from dms.executors.oci.finding import find_engine, sockets
from dms.hardware.capability import find_gpus
from dms.hardware.pressure import Pressure
from dms.net.addresses import parse
from dms.node.cluster import in_words
from dms.node.grants_check import look_at_grants
from dms.node.onboard import executor_settings
from dms.node.reach import judge
from dms.node.services import NETWORK_DOWN, NETWORK_RESTARTS, REACHED_BY, Services
from dms.rpc.api.events import EXECUTORS, Check, DoctorReport, Finding
from dms.rpc.exposure import is_loopback, options_of, tls_of
from dms.rpc.registry import Access
from dms.rpc.token import load_token, token_file
from dms.store.verify import Verdict, verify_file
from dms_actors.node import NodeState
from dms_actors.ports import Executor
from dms_proto import abilities
from dms_proto.capability import NOTHING, ExecutorOffer
from dms_proto.errors import DmsError, UserError
from dms_proto.ids import PeerId, short
from dms_proto.membership.machine import CLOCK_TOLERANCE_MS, Peer, PeerPhase
from dms_proto.units import GIB, MIB, format_age, format_bytes, format_count

DISK_FAIL: Final = 200 * MIB
DISK_WARN: Final = GIB
SKEW_WARN_MS: Final = 2_000
"""Peers refuse what is 30 s off; a clock that is 2 s off is not kept right by anything."""
MAX_EVENTS_WALKED: Final = 200_000
"""About a second; a longer history is walked by `dms events verify`."""
MANY_SILENT: Final = 2
"""Peers taken last, and at least half of those that take work: one alone is its own affair."""
PROBE_S: Final = 30.0
"""Seconds that probing the executors may take."""


class Live(NamedTuple):
    """A running node: its parts, and its state now."""

    services: Services
    state: NodeState


class Subject(NamedTuple):
    """What is looked at. `config` None: it cannot be read, `problem` says why. `answers`: a node runs there, and was not asked."""

    home: Home
    config: Config | None
    problem: UserError | None = None
    live: Live | None = None
    answers: bool = False


Examine = Callable[[Subject], Awaitable[list[Check]]]


def passed(name: str, evidence: str) -> Check:
    """Nothing to do."""
    return Check(name, Finding.PASS, evidence)


def skipped(name: str, why: str, fix: str = "") -> Check:
    """It could not be looked at."""
    return Check(name, Finding.SKIP, why, fix)


def _not_asked(name: str, subject: Subject) -> Check:
    if subject.answers:
        return skipped(name, "the node that runs here knows, and was not asked", "ask it: dms doctor")
    return skipped(name, "no node runs", "dms up")


async def examine(subject: Subject, only: Iterable[str] = ()) -> DoctorReport:
    """Runs the checks.

    Args:
        subject: the home, and the node if one runs.
        only: names of checks, or of executors; empty for all.

    Raises:
        UserError: `bad_argument`: there is no check of that name.
    """
    wanted = tuple(only) or tuple(CHECKS)
    unknown = [name for name in wanted if name not in CHECKS and name not in EXECUTORS]
    if unknown:
        names = ", ".join((*CHECKS, *EXECUTORS))
        raise UserError("bad_argument", f"there is no check {unknown[0]!r}", hint=f"checks: {names}")
    found: list[Check] = []
    for name, check in CHECKS.items():
        if name in wanted:
            found += await check(subject)
        elif name == "executors" and not EXECUTORS.isdisjoint(wanted):
            everything = await check(subject)
            found += [one for one in everything if one.name in wanted] or everything  # what is there says why it is not
    return DoctorReport(tuple(found))


# ---------------------------------------------------------------------------------------------------------- the home itself


async def _identity(subject: Subject) -> list[Check]:
    home = subject.home
    if not home.exists():
        return [Check("identity", Finding.FAIL, f"{home.root} holds no node yet", "dms onboard")]
    try:
        require_private(home.root)
        names = read_names(home)
        guard = await asyncio.to_thread(_guard, home, names.uuid)
    except DmsError as error:
        return [Check("identity", Finding.FAIL, error.message, error.hint)]
    key, root = (stat.S_IMODE(path.stat().st_mode) for path in (home.identity_key, home.root))
    evidence = f"{names.peer_id}, key {key:04o}, {guard}, home {root:04o}"
    return [Check("identity", Finding.PASS, evidence, "" if is_protected(home) else "dms identity protect")]


def _guard(home: Home, uuid: str) -> str:
    """What stands between the key and whoever reads its file. The key is opened to see whether it can be, but no person is asked.

    Raises:
        UserError: `bad_config`, `key_locked`: the node could not start.
    """
    try:
        _, passphrase = unlock(home, unattended(home, uuid))
    except UserError as error:
        if error.code != "key_locked" or is_named(home):
            raise
        return "opened by a passphrase that a person types at each start"
    if passphrase is None:
        return "no passphrase: whoever can read the file is this node"
    return f"opened by the passphrase from {passphrase.source}"


async def _config(subject: Subject) -> list[Check]:
    if subject.problem is not None:
        return [
            Check(
                "config", Finding.FAIL, subject.problem.message, subject.problem.hint or f"edit {subject.home.config}"
            )
        ]
    there = subject.home.config.exists()
    return [
        passed("config", f"{subject.home.config} is valid" if there else "no config.toml: every setting at its default")
    ]


async def _grants(subject: Subject) -> list[Check]:
    return await asyncio.to_thread(look_at_grants, subject.home)


async def _interfaces(subject: Subject) -> list[Check]:
    if subject.config is None:
        return [skipped("interfaces", "the configuration cannot be read")]
    rpc = subject.config.rpc
    if not rpc.http:
        return [passed("interfaces", "the Unix socket only, its owner only; HTTP is off")]
    files = [token_file(subject.home, access) for access in Access]
    try:
        for file in files:
            if file.exists():
                load_token(file)
        tls = tls_of(options_of(rpc))
    except DmsError as error:
        return [Check("interfaces", Finding.FAIL, error.message, error.hint)]
    evidence = f"HTTP on {rpc.host}:{rpc.port}, {'TLS' if tls else 'no TLS, loopback only'}, tokens are private"
    if not is_loopback(rpc.host):
        return [
            Check(
                "interfaces",
                Finding.WARN,
                f"{evidence}; other machines reach it",
                "let in by the firewall who needs it",
            )
        ]
    return [passed("interfaces", evidence)]


async def _store(subject: Subject) -> list[Check]:
    if subject.live is not None:
        events = subject.live.services.store.head().seq
        if events > MAX_EVENTS_WALKED:
            return [
                skipped(
                    "store", f"open, {format_count(events, 'event')}; the chain was not walked", "dms events verify"
                )
            ]
        return [_verdict(await subject.live.services.store.verify())]
    if not subject.home.events.exists():
        return [skipped("store", "there is no event store yet", "dms up makes it")]
    try:
        return [_verdict(await asyncio.to_thread(verify_file, subject.home.events))]
    except DmsError as error:
        return [Check("store", Finding.FAIL, error.message, error.hint)]


def _verdict(verdict: Verdict) -> Check:
    if verdict.broken is None:
        return passed("store", f"{format_count(verdict.checked, 'event')}, chain sound, head {verdict.head_hash[:12]}")
    evidence = f"event {verdict.broken.seq}: {verdict.broken.what}: {verdict.broken.detail}"
    return Check("store", Finding.FAIL, evidence, "keep the file as it is, and restore events.db from a backup")


async def _disk(subject: Subject) -> list[Check]:
    path = subject.home.root
    while not path.exists():
        path = path.parent
    usage = shutil.disk_usage(path)
    evidence = f"{format_bytes(usage.free)} free of {format_bytes(usage.total)} where {subject.home.root} lies"
    if usage.free < DISK_FAIL:
        return [Check("disk", Finding.FAIL, evidence, f"free at least {format_bytes(DISK_WARN)} there")]
    if subject.live is not None:
        ledger = subject.live.state.book.ledger
        promised = ledger.registered.disk_bytes
        if promised > usage.free:
            evidence += f"; {format_bytes(promised)} are offered to jobs"
            return [Check("disk", Finding.WARN, evidence, "free space, or offer less: set provider.disk")]
    if usage.free < DISK_WARN:
        return [Check("disk", Finding.WARN, evidence, f"free at least {format_bytes(DISK_WARN)} there")]
    return [passed("disk", evidence)]


# ---------------------------------------------------------------------------------------------------------------- network


async def _ports(subject: Subject) -> list[Check]:
    if subject.config is None:
        return [skipped("ports", "the configuration cannot be read")]
    if subject.live is not None:
        hello = subject.live.state.membership.hello
        listening = ", ".join(hello.addresses) if hello is not None else ""
        if not listening:
            return [Check("ports", Finding.FAIL, "the node listens nowhere", "see the check network")]
        return [passed("ports", f"listens; announced as {listening}")]
    if subject.answers:
        return [skipped("ports", "the node that runs here holds them", "ask it: dms doctor")]
    return [_bindable(address) for address in subject.config.network.listen]


def _bindable(address: str) -> Check:
    try:
        target = parse(address)
        family = socket.AF_INET6 if target.family == "ip6" else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((target.host, target.port))
    except ValueError as error:
        return Check("ports", Finding.FAIL, str(error), "correct network.listen")
    except OSError as error:
        evidence = f"{address} cannot be bound: {error.strerror}"
        return Check("ports", Finding.FAIL, evidence, "stop the other program, or set another port in network.listen")
    return passed("ports", f"{address} is free")


async def _network(subject: Subject) -> list[Check]:
    if subject.live is None:
        return [_not_asked("network", subject)]
    services, state = subject.live
    down = services.notes.get(NETWORK_DOWN, "")
    restarts = services.notes.get(NETWORK_RESTARTS, "0")
    if down:
        return [Check("network", Finding.FAIL, f"the network process is down: {down}", f"see {services.home.node_log}")]
    addresses = state.membership.hello.addresses if state.membership.hello is not None else ()
    links = services.network.links()
    relayed = sum(link.relayed for link in links.values())
    evidence = f"{format_count(len(links), 'connection')}, {relayed} relayed, {format_count(len(addresses), 'address', 'addresses')} announced"
    if restarts != "0":
        evidence += f"; the network process was restarted {format_count(int(restarts), 'time')}"
        return [Check("network", Finding.WARN, evidence, f"see {services.home.node_log}")]
    if links and relayed == len(links):
        return [Check("network", Finding.WARN, evidence, "forward the port and set network.announce")]
    return [passed("network", evidence)]


async def _reach(subject: Subject) -> list[Check]:
    if subject.live is None:
        return [_not_asked("reach", subject)]
    services, state = subject.live
    addresses = state.membership.hello.addresses if state.membership.hello is not None else ()
    return [judge(addresses, services.notes.get(REACHED_BY, ""), len(services.network.links()))]


async def _peers(subject: Subject) -> list[Check]:
    if subject.live is None:
        return [_not_asked("peers", subject)]
    peers = subject.live.state.membership.peers
    greeted = [peer for peer in peers.values() if peer.phase is PeerPhase.GREETED]
    refused = [peer for peer in peers.values() if peer.phase is PeerPhase.REFUSED]
    found = [*map(_refused, refused), *_taken_last(subject.live.state, greeted)]
    ours = f"dms/{__version__}"
    others = sorted({peer.hello.software for peer in greeted if peer.hello is not None} - {ours})
    evidence = f"{len(greeted)} take part, {len(peers)} known" + (
        f"; also there: {', '.join(others)}" if others else ""
    )
    if not greeted:
        evidence = f"connected to nobody; {len(peers)} known"
        return [
            Check("peers", Finding.WARN, evidence, "dms join INVITATION, with what `dms invite` prints elsewhere"),
            *found,
        ]
    return [passed("peers", evidence), *found]


def _taken_last(state: NodeState, greeted: Sequence[Peer]) -> list[Check]:
    """Where most of those that take work were silent when they had won, it may be this machine that hears them late."""
    takers = [peer.peer for peer in greeted if peer.hello is not None and peer.hello.accepts_work]
    silent = [peer for peer in takers if peer in state.set_aside]
    if len(silent) < MANY_SILENT or 2 * len(silent) < len(takers):
        return []
    first = state.set_aside[silent[0]]
    evidence = (
        f"{len(silent)} of {format_count(len(takers), 'peer')} that take work are taken last, since they were silent"
        f" when they had won; {short(silent[0])}: {first}"
    )
    fix = "dms peers list says which and until when; if it is all of them, look at this machine's load and network"
    return [Check("peers", Finding.WARN, evidence, fix)]


def _refused(peer: Peer) -> Check:
    clock = "clock" in peer.refused_because
    fix = "set the clock right on both machines (NTP)" if clock else "upgrade the older of the two"
    return Check("peers", Finding.WARN, f"{short(peer.peer)} is refused: {peer.refused_because}", fix)


async def _clock(subject: Subject) -> list[Check]:
    if subject.live is None:
        return [_not_asked("clock", subject)]
    peers: dict[PeerId, Peer] = dict(subject.live.state.membership.peers)
    offsets = [peer.clock_offset_ms for peer in peers.values() if peer.phase is PeerPhase.GREETED]
    if not offsets:
        return [skipped("clock", "no peer to compare with")]
    middle = round(statistics.median(offsets))
    evidence = f"{middle:+d} ms from {format_count(len(offsets), 'peer')}; {CLOCK_TOLERANCE_MS // 1000} s are tolerated"
    if abs(middle) > SKEW_WARN_MS:
        return [Check("clock", Finding.WARN, evidence, "timedatectl set-ntp true")]
    return [passed("clock", evidence)]


# ---------------------------------------------------------------------------------------------------------------- machine


async def _executors(subject: Subject) -> list[Check]:
    if subject.live is not None:
        services = subject.live.services
        found = _executor_checks(services.executors.values(), services.unavailable)
        return [*found, *await _other_engine(services.config)]
    config = subject.config or Config()
    with tempfile.TemporaryDirectory(prefix="dms-doctor-") as directory:
        try:
            async with asyncio.timeout(PROBE_S):
                detected = await detect(executor_settings(Path(directory), config))
        except TimeoutError:
            return [
                Check("executors", Finding.FAIL, f"probing took more than {PROBE_S:.0f} s", "look for a stuck mount")
            ]
        try:
            found = _executor_checks(detected.available, detected.unavailable)
            return [*found, *await _other_engine(config)]
        finally:
            await detected.close()


def _executor_checks(
    proven: Iterable[tuple[Executor, ExecutorOffer]], unavailable: Iterable[Unavailable]
) -> list[Check]:
    found = [_proven(executor, offer) for executor, offer in proven]
    worst = Finding.WARN if found else Finding.FAIL
    found += [Check(gone.name, worst, gone.error.message, gone.error.hint) for gone in unavailable]
    if not found:
        found = [Check("executors", Finding.FAIL, "no executor is enabled", "set executors.enabled")]
    return found


def _proven(executor: Executor, offer: ExecutorOffer) -> Check:
    held = f"isolation {offer.isolation}, hard limits: {', '.join(offer.limits) or 'none'}"
    if isinstance(executor, PlacedExecutor):
        return _placed(executor, offer, held)
    beside = f"jobs can have beside them: {abilities.of(offer.name)}"
    if not isinstance(executor, OciExecutor) or executor.facts is None:
        return passed(offer.name, f"{offer.version}, {held}; {beside}")
    if executor.closed:
        beside = f"jobs can have nothing beside them: {executor.closed}"
    return _container(executor.facts, f"{held}; {beside}", is_closed=bool(executor.closed))


def _container(facts: Facts, held: str, *, is_closed: bool) -> Check:
    if is_closed:
        fix = "use the engine's own runtime, or run such jobs in the sandbox"
        return Check("oci", Finding.WARN, f"{facts}; {held}", fix)
    if facts.rootless:
        return passed("oci", f"{facts}; {held}")
    evidence = f"{facts}; {held}; whoever can reach that socket is root of this machine"
    return Check("oci", Finding.WARN, evidence, "use a rootless engine: systemctl --user enable --now podman.socket")


def _placed(executor: PlacedExecutor, offer: ExecutorOffer, held: str) -> Check:
    cluster = executor.cluster
    assert cluster.known is not None
    where = f"on {in_words(cluster.known.capacity)}"
    if cluster.fault:
        evidence = f"{where}: nothing is offered now: {cluster.fault}"
        return Check(offer.name, Finding.FAIL, evidence, f"look at {cluster.engine.name}")
    beside = f"jobs can have beside them: {abilities.of(offer.name)}"
    if executor.closed:
        beside = f"jobs can have nothing beside them: {executor.closed}"
    evidence = f"{offer.version}, {held}, as {cluster.known.proof.machine} proved; {where}; {beside}"
    evidence += "".join(f"; GPUs ({kind}) are not offered: {why}" for kind, why in cluster.known.unproven.items())
    if executor.closed and cluster.is_to_be_reached:
        return Check(offer.name, Finding.WARN, evidence, "let its machines connect to executors.cluster_address")
    return passed(offer.name, evidence)


async def _other_engine(config: Config) -> list[Check]:
    """A container engine that could be used and is not."""
    if "oci" in config.executors.enabled:
        return []
    try:
        engine = await find_engine(sockets(config.executors.oci_socket, os.environ, os.geteuid()))
    except DmsError:
        return []  # nobody needs one
    await engine.close()
    return [skipped("oci", f"not enabled; {engine.facts} answers", "to offer containers: executors.enabled")]


async def _gpus(subject: Subject) -> list[Check]:
    if subject.config is None:
        return [skipped("gpus", "the configuration cannot be read")]
    try:
        detection = await asyncio.to_thread(find_gpus, subject.config.provider)
    except UserError as error:
        return [Check("gpus", Finding.FAIL, error.message, error.hint)]
    if not detection.gpus:
        return [passed("gpus", "none on this machine")]
    usable = ", ".join(f"{gpu.device} ({gpu.model}, {format_bytes(gpu.memory_bytes)})" for gpu in detection.offers)
    found = [passed("gpus", usable)] if usable else []
    return found + [
        Check("gpus", Finding.WARN, f"{gpu.model} {gpu.pci} is not offered: {gpu.problem}", gpu.hint)
        for gpu in detection.gpus
        if gpu.offer is None
    ]


async def _pressure(subject: Subject) -> list[Check]:
    if subject.live is None:
        return [_not_asked("pressure", subject)]
    book = subject.live.state.book
    if book.pressure == NOTHING:
        return [passed("pressure", "other programs stay within what was left to them")]
    fix = "close them, or offer less: provider.cpu, provider.memory, provider.disk"
    used = Pressure(book.pressure.cpu_millicores, book.pressure.memory_bytes, book.pressure.disk_bytes)
    return [Check("pressure", Finding.WARN, used.explain(), fix)]


async def _mishaps(subject: Subject) -> list[Check]:
    if subject.live is None:
        return [_not_asked("mishaps", subject)]
    seen = subject.live.services.mishaps
    if seen.last is None:
        return [passed("mishaps", "every message since the start could be handled")]
    last = seen.last
    ago = format_age(subject.live.services.clock() - last.at)
    by = f" of {short(last.by)}" if last.by is not None else ""
    evidence = f"{format_count(seen.count, 'message')} left out since the start; last, {ago} ago, {last.about}{by} at {last.actor}: {last.error}"
    fix = f"a defect of dms: report it with the lines of {subject.home.node_log}; dms down and dms up does what was left undone"
    return [Check("mishaps", Finding.WARN, evidence, fix)]


CHECKS: Final[dict[str, Examine]] = {
    "identity": _identity,
    "config": _config,
    "grants": _grants,
    "interfaces": _interfaces,
    "store": _store,
    "disk": _disk,
    "ports": _ports,
    "executors": _executors,
    "network": _network,
    "reach": _reach,
    "peers": _peers,
    "clock": _clock,
    "gpus": _gpus,
    "pressure": _pressure,
    "mishaps": _mishaps,
}
"""In order of importance."""


def subject_of(home: Home) -> Subject:
    """A home, looked at from outside its node."""
    answers = _answers(home)
    try:
        return Subject(home, load_config(home), answers=answers)
    except UserError as error:
        return Subject(home, None, error, answers=answers)


def _answers(home: Home) -> bool:
    """Whether a node answers on the home's socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(home.socket))
        except OSError:
            return False
        return True


def main(home: Home, *, as_json: bool, only: Iterable[str] = ()) -> int:
    """Prints the report on a home whose node does not run. Exit status 0: nothing failed, 1: something did.

    Raises:
        UserError: `bad_argument`: there is no check of a name in `only`.
    """
    report = asyncio.run(examine(subject_of(home), only))
    if as_json:
        print(msgspec.json.encode(report).decode())
    else:
        for check in report.checks:
            fix = f"\n{'':24}fix: {check.fix}" if check.fix else ""
            print(f"{check.finding.upper():<5} {check.name:<16}  {check.evidence}{fix}")
    return int(any(check.finding is Finding.FAIL for check in report.checks))
