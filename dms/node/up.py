"""A node process, from start to end: what `python -m dms.node up` runs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator

import msgspec

from dms import __version__
from dms.config import Config, Home, Identity
from dms.config.loading import load_config
from dms.config.paths import require_private
from dms.executors.cluster.cluster import Cluster, PlacedExecutor
from dms.executors.detect import Detected, detect
from dms.executors.oci.executor import OciExecutor
from dms.executors.scripted import ScriptedExecutor
from dms.hardware.facts import read_facts
from dms.hardware.monitor import Monitor
from dms.hardware.owner_watch import OwnerWatch
from dms.hardware.pressure import Pressure
from dms.net.client import NetworkProcess
from dms.net.launching import Launched
from dms.node.api import LocalApi
from dms.node.app import NodeApp, unix_ms
from dms.node.assembly import Probed
from dms.node.cluster import LOOK_S, ClusterWatch, capability_on, policy_on
from dms.node.comparators import check_configured, load_comparators
from dms.node.networking import net_config
from dms.node.offering import offer, take_share
from dms.node.onboard import executor_settings, gpus_of, last_benchmark, proposed
from dms.node.pricing import policy_of
from dms.node.registration import merged_capability
from dms.rpc.api import NodeApi
from dms.rpc.dispatcher import Dispatcher
from dms.rpc.openrpc import document
from dms.rpc.registry import methods_of
from dms.rpc.unix import UnixServer
from dms.telemetry import garbage
from dms.telemetry.logs import set_up, shut_down
from dms_actors.letters import Told
from dms_proto.capability import NOTHING, Resources
from dms_proto.market.comparators import install
from dms_proto.market.offer_state import CapabilityMeasured, OwnerSeen, PauseWished, PolicyWished, PressureSeen
from dms_proto.owner_first import Rules
from dms_proto.rules import MAX_LINE
from dms_proto.units import SECOND

log = logging.getLogger(__name__)

SWITCH_INTERVAL_S = 0.0005
"""How long a thread may hold the interpreter while others wait. The default of 5 ms would be added to a message at every hop."""


async def up(
    home: Home,
    identity: Identity,
    *,
    foreground: bool,
    ready: Callable[[str], None],
    launched: Launched | None = None,
    clock: Callable[[], int] = unix_ms,
) -> None:
    """Runs the node of `home` until it is told to stop (SIGTERM, SIGINT, `dms down`).

    Args:
        home: of an onboarded node.
        identity: loaded from there before, outside the loop: a person may be asked for a passphrase, whom ctrl-C has to reach.
        foreground: also log to the terminal.
        ready: called once with one line when the node answers on its socket.
        launched: its network process, if that has been started beforehand.
        clock: Unix ms by this machine; tests set it wrong.

    Raises:
        UserError: `bad_config`, `bad_expression`.
        MachineError: `home_in_use`, `port_in_use`, `store_corrupt`, …
    """
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    config = load_config(home)
    require_private(home.root)  # before it is made private again: others may have read what is in it
    home.prepare()
    set_up(config.log, home.node_log, sys.stderr if foreground else None)
    try:
        async with contextlib.AsyncExitStack() as stack:
            with _told_to_stop() as told:
                app = await _start(stack, home, config, identity, launched, clock)
                home.pid.write_text(f"{os.getpid()}\n")
                stack.callback(home.pid.unlink, missing_ok=True)
                garbage.settle()
                ready(f"node {app.services.identity.node_id.peer_id} answers on {home.socket}")
                await _until_any(told, app.services.stop)
                app.services.node.tell(Told(PauseWished(paused=True, stopping=True), "stop"))
            log.info("stopping")
    finally:
        shut_down()


async def _start(  # noqa: PLR0917 - called once
    stack: contextlib.AsyncExitStack,
    home: Home,
    config: Config,
    identity: Identity,
    launched: Launched | None,
    clock: Callable[[], int],
) -> NodeApp:
    terms = policy_of(config)
    install(await asyncio.to_thread(load_comparators))  # before any machine decides
    check_configured(config.provider.comparator)
    network = NetworkProcess(net_config(config, identity.seed()), launched)

    found: list[Detected] = []
    gpus = await asyncio.to_thread(gpus_of, config)

    async def probe() -> Probed:
        detected = await detect(executor_settings(home.executors, config, gpus.gpus))
        found.append(detected)
        enabled = config.executors.enabled
        wanted = {e.name: (e, offer) for e, offer in detected.available if e.name in enabled}
        if "scripted" in enabled:
            scripted = ScriptedExecutor()  # runs no program at all: for tests and the bench, never there unless named
            wanted["scripted"] = (scripted, await scripted.probe())
        missing = tuple(u for u in detected.unavailable if u.name in enabled)
        return Probed(wanted, missing, detected.close, detected.cluster)

    app = await NodeApp.start(home=home, config=config, identity=identity, network=network, probe=probe, clock=clock)
    stack.push_async_callback(app.stop)
    services = app.services
    state = await app.state()
    executors = list(services.executors.values())
    cluster = services.cluster
    benchmark = last_benchmark(home) if cluster is None else None
    new = await asyncio.to_thread(proposed, home, config, executors, benchmark, gpus, cluster=cluster)
    capability = merged_capability(state.book.capability, new, config)
    if cluster is not None:
        capability = capability_on(cluster, capability, state.book.capability)
    alone = {
        e.name: e.closed[:MAX_LINE] for e, _ in executors if isinstance(e, (OciExecutor, PlacedExecutor)) and e.closed
    }
    policy = msgspec.structs.replace(policy_on(cluster, terms, state.book.policy), alone=alone)
    services.node.tell(Told(PolicyWished(policy), "start"))
    services.node.tell(Told(CapabilityMeasured(capability), "start"))
    services.node.tell(Told(PressureSeen(NOTHING), "start"))  # what others used then is not what they use now
    services.node.tell(Told(OwnerSeen(), "start"))  # likewise
    await take_share(services)
    await offer(services)
    await _start_looking(stack, app, found[0], capability.resources)
    api = await LocalApi.start(services)
    stack.push_async_callback(api.close)
    table = methods_of(NodeApi)
    dispatcher = Dispatcher(api, table, __version__, lambda: document(table, __version__))
    server = UnixServer(dispatcher, home.socket)
    await server.start()
    stack.push_async_callback(server.stop)
    if config.rpc.http:
        await _serve_http(stack, dispatcher, home, config)
    return app


async def _serve_http(stack: contextlib.AsyncExitStack, dispatcher: Dispatcher, home: Home, config: Config) -> None:
    from dms.rpc.exposure import options_of  # noqa: PLC0415
    from dms.rpc.http import HttpServer  # noqa: PLC0415 - aiohttp costs 10 MB and is off by default
    from dms.rpc.token import Tokens  # noqa: PLC0415

    server = HttpServer(dispatcher, options_of(config.rpc), Tokens(home))
    await server.start()
    stack.push_async_callback(server.stop)


async def _start_looking(
    stack: contextlib.AsyncExitStack, app: NodeApp, detected: Detected, registered: Resources
) -> None:
    """Looks from now on at what others use: of the cluster, or of this machine."""
    config = app.services.config
    if detected.cluster is not None:
        watch = _watch(app, detected.cluster, registered)
        await watch.look()
        watch.start()
        stack.push_async_callback(watch.stop)
    elif config.provider.monitor_s:
        monitor = _monitor(app, registered, detected.processes)
        monitor.start()
        stack.push_async_callback(monitor.stop)
    if config.owner_first.enabled:
        owner = _owner_watch(app, detected.processes)
        owner.start()
        stack.push_async_callback(owner.stop)


def _watch(app: NodeApp, cluster: Cluster, registered: Resources) -> ClusterWatch:
    services = app.services

    def on_change(pressure: Resources, why: str) -> None:
        services.notes["pressure"] = why
        services.node.tell(Told(PressureSeen(pressure), "cluster"))

    return ClusterWatch(cluster, registered, services.config.provider.monitor_s or LOOK_S, on_change)


def _monitor(app: NodeApp, registered: Resources, runs: Callable[[], frozenset[int]]) -> Monitor:
    services = app.services

    def on_change(pressure: Pressure) -> None:
        services.notes["pressure"] = pressure.explain()
        used = Resources(pressure.cpu_millicores, pressure.memory_bytes, pressure.disk_bytes)
        services.node.tell(Told(PressureSeen(used), "monitor"))

    return Monitor(
        services.home.root,
        read_facts(services.home.root).cpu_millicores,
        lambda: registered,
        interval_s=services.config.provider.monitor_s,
        adopted=runs,
        on_change=on_change,
    )


def _owner_watch(app: NodeApp, runs: Callable[[], frozenset[int]]) -> OwnerWatch:
    services, owner_first = app.services, app.services.config.owner_first

    def on_change(because: str) -> None:
        log.info("the owner comes first: %s" if because else "the owner does not need the machine any more%s", because)
        seen = OwnerSeen(because, owner_first.evict_after_s * SECOND, owner_first.grace_s * SECOND)
        services.node.tell(Told(seen, "owner"))

    rules = Rules(owner_first.cpu, owner_first.battery, owner_first.typing, owner_first.resume_after_s * SECOND)
    return OwnerWatch(rules, on_change, adopted=runs)


@contextlib.contextmanager
def _told_to_stop() -> Iterator[asyncio.Event]:
    """Set by the first SIGTERM or SIGINT; a second one ends the process as if nobody listened.

    Listened for before anything is begun: a node that has just started, or is starting, ends in order too, and leaves no network process behind
    that holds its port for a while.
    """
    loop, told = asyncio.get_running_loop(), asyncio.Event()
    numbers = (signal.SIGTERM, signal.SIGINT)

    def hear() -> None:
        told.set()
        forget()

    def forget() -> None:
        for number in numbers:
            loop.remove_signal_handler(number)

    for number in numbers:
        loop.add_signal_handler(number, hear)
    try:
        yield told
    finally:
        forget()


async def _until_any(*events: asyncio.Event) -> None:
    waiting = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
