"""Onboarding: makes this machine a node. Identity, configuration, proven executors, a measured capability locked in the event store.

Nothing here needs root, an account or a network. Running it again on the same home is refused, unless asked to measure again.

The key comes last: a home without one holds no node and cannot be started. So onboarding that failed or was stopped is simply done again, and no node
ever runs under other settings than its owner chose.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import msgspec

from dms.config import Config, Home
from dms.config.identity import check_key_and_names, create, load
from dms.config.loading import load_config, parse_config
from dms.config.reference import template
from dms.executors.cluster.cluster import Cluster
from dms.executors.detect import detect, libraries_of
from dms.executors.settings import ExecutorSettings, OciSettings
from dms.hardware.benchmark import VERSION, Benchmark, Progress, run_benchmark
from dms.hardware.capability import egress_of, find_gpus, notes, propose
from dms.hardware.facts import read_facts
from dms.hardware.gpu_types import Detection, FoundGpu
from dms.node.cluster import cluster_settings, facts_of, gpus_on, jobs_directory, policy_on
from dms.node.pricing import policy_of
from dms.node.stopped import open_stopped
from dms_actors.events import to_row
from dms_actors.node_parts import MARKET_STREAM
from dms_actors.ports import Executor
from dms_proto.capability import Capability, ExecutorOffer
from dms_proto.errors import UserError
from dms_proto.ids import NodeId
from dms_proto.market.offer_state import CapabilityRegistered, PolicyChanged
from dms_proto.market.preferences import ProviderPolicy


class Onboarded(msgspec.Struct, frozen=True):
    """What onboarding made.

    Attributes:
        home: the node's directory.
        id: its names.
        capability: what it offers from now on, locked in its event store.
        unavailable: executors that cannot run here, with reason and fix.
        notes: what the owner should know.
        benchmark: what was measured; None when it was skipped.
    """

    home: str
    id: NodeId
    capability: Capability
    unavailable: tuple[tuple[str, str, str], ...]
    notes: tuple[str, ...]
    benchmark: Benchmark | None


Report = Callable[[str], None]


async def onboard(
    home: Home, *, chosen: Mapping[str, Any], quick: bool, again: bool, measure: bool, report: Report
) -> Onboarded:
    """Makes a node in `home`.

    Args:
        home: directory; created with mode 0700.
        chosen: settings to write into config.toml, by "section.field".
        quick: measure for a second instead of six.
        again: measure and register anew on a home that holds a node.
        measure: False skips the benchmark; the CPU score stays unknown.
        report: told each step, one line.

    Raises:
        UserError: `already_onboarded`, `bad_argument`, `bad_config`, `bad_expression`; then nothing was written.
        MachineError: `home_in_use`, `disk_full`, `store_failed`.
    """
    if is_onboarded(home) and not again:
        raise UserError(
            "already_onboarded",
            f"{home.root} holds a node already",
            hint="start it with `dms up`, or measure again with `dms onboard --again`",
        )
    if chosen and is_onboarded(home):
        raise UserError(
            "bad_argument",
            f"--set writes config.toml anew, and the settings of this node are in {home.config}",
            hint="change them there, then `dms onboard --again`",
        )
    check_key_and_names(home)
    home.prepare()
    known = load(home) if home.is_complete() else None
    config = _settle(home, chosen)
    gpus = gpus_of(config)
    detected = await detect(executor_settings(home.executors, config, gpus.gpus))
    try:
        for executor, offer in detected.available:
            report(f"executor  {executor.name}: {offer.isolation}, hard limits {', '.join(offer.limits) or 'none'}")
        for missing in detected.unavailable:
            report(f"executor  {missing.name} is not available: {missing.error}")
        measures = measure and detected.cluster is None  # this machine's score says nothing of those that run the jobs
        benchmark = await _measure(home, report, quick=quick) if measures else None
        offers = [offer for _, offer in detected.available]
        found = gpus if detected.cluster is None else gpus_on(detected.cluster)
        capability = proposed(home, config, detected.available, benchmark, gpus, cluster=detected.cluster)
        policy = policy_of(config)
        await _register(home, policy_on(detected.cluster, policy, policy), capability)
        identity = known or create(home)
        report(f"identity  {identity.node_id.peer_id}")
        return Onboarded(
            home=str(home.root),
            id=identity.node_id,
            capability=capability,
            unavailable=tuple((u.name, u.error.message, u.error.hint) for u in detected.unavailable),
            notes=notes(facts_of(detected.cluster, read_facts(home.root)), found, benchmark, offers, config),
            benchmark=benchmark,
        )
    finally:
        await detected.close()


def is_onboarded(home: Home) -> bool:
    """Whether onboarding came to its end here. A restored identity alone is not a node yet: nothing is registered."""
    return home.is_complete() and home.events.exists()


def executor_settings(directory: Path, config: Config, gpus: tuple[FoundGpu, ...] = ()) -> ExecutorSettings:
    """How the owner wants executors to be: which Python, and how containers are run, if at all.

    Args:
        directory: where they keep their files.
        config: the settings.
        gpus: for jobs that are given one; nothing where none is run.

    Raises:
        UserError: `bad_config`: `provider.egress_networks` names none.
    """
    return ExecutorSettings(
        state_directory=directory,
        oci=container_settings(config),
        python=config.executors.python,
        gpus=gpus,
        egress=egress_of(config.provider),
        egress_networks=tuple(map(_network, config.provider.egress_networks)),
        cluster=cluster_settings(config),
    )


def _network(text: str) -> str:
    try:
        return str(ip_network(text))
    except ValueError as error:
        raise UserError(
            "bad_config", f"provider.egress_networks: {error}", hint="write it as 10.1.0.0/16, or 10.1.2.3/32 for one"
        ) from None


def gpus_of(config: Config) -> Detection:
    """The GPUs of this machine that jobs may be given; none where they run on a cluster, whose machines have their own.

    Raises:
        UserError: `bad_config`.
    """
    return Detection() if cluster_settings(config) is not None else find_gpus(config.provider)


def container_settings(config: Config) -> OciSettings | None:
    """How the owner wants containers run; None: not at all."""
    if "oci" not in config.executors.enabled:
        return None
    return OciSettings(
        socket=config.executors.oci_socket,
        runtime=config.executors.oci_runtime,
        registries=config.executors.oci_registries,
        image_bytes=config.executors.oci_image_bytes,
        images_bytes=config.executors.oci_images_bytes,
    )


def proposed(
    home: Home,
    config: Config,
    executors: Sequence[tuple[Executor, ExecutorOffer]],
    benchmark: Benchmark | None,
    gpus: Detection,
    *,
    cluster: Cluster | None = None,
) -> Capability:
    """What would be offered now, with these executors: of this machine, or of the cluster that they are on."""
    offers = [offer for _, offer in executors]
    facts = facts_of(cluster, read_facts(jobs_directory(home, config)))
    gpus = gpus if cluster is None else gpus_on(cluster)
    return propose(facts, gpus, benchmark, offers, config, libraries=libraries_of(executors))


def last_benchmark(home: Home) -> Benchmark | None:
    """The last measurement, or None when there is none (or one of an older form)."""
    file = home.cache / "benchmark.json"
    try:
        found = msgspec.json.decode(file.read_bytes(), type=Benchmark)
    except (OSError, msgspec.MsgspecError):
        return None
    return found if found.version == VERSION else None


def _settle(home: Home, chosen: Mapping[str, Any]) -> Config:
    """The configuration from now on. It is written down only if this machine can keep it."""
    if home.config.exists() and not chosen:
        config = load_config(home)
        _check(home, config)
        return config
    text = template(chosen)
    config = parse_config(text, home.config, os.environ, dict.fromkeys(chosen, "--set"))
    _check(home, config)
    home.config.write_text(text)
    home.config.chmod(0o600)
    return config


def _check(home: Home, config: Config) -> None:
    policy_of(config)
    if cluster_settings(config) is None:  # what a cluster has is not known before it was asked
        proposed(home, config, [], None, find_gpus(config.provider))


async def _measure(home: Home, report: Report, *, quick: bool) -> Benchmark:
    said = ""

    def on_progress(progress: Progress) -> None:
        nonlocal said
        step = str(progress.step)
        if step != said:
            said = step
            report(f"measuring {step}")

    benchmark = await run_benchmark(home.root, quick=quick, on_progress=on_progress)
    home.cache.mkdir(mode=0o700, exist_ok=True)
    (home.cache / "benchmark.json").write_bytes(msgspec.json.encode(benchmark))
    return benchmark


async def _register(home: Home, policy: ProviderPolicy, capability: Capability) -> None:
    async with await open_stopped(home) as store:
        events = (PolicyChanged(policy), CapabilityRegistered(capability))
        await store.append([to_row(MARKET_STREAM, event, "onboard") for event in events])
