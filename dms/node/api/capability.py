"""node.*: what this node offers, holds back and has promised."""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec

from dms.executors.detect import libraries_of
from dms.hardware.benchmark import TOLERANCE, Benchmark, run_benchmark
from dms.hardware.capability import find_gpus, notes, propose
from dms.hardware.facts import Facts, read_facts
from dms.hardware.gpu_use import read_use
from dms.node.api.base import Base, call_id
from dms.node.cluster import facts_of, gpus_on
from dms.node.onboard import gpus_of
from dms.node.registration import merged_capability
from dms.node.services import PRESSURE
from dms.rpc.api.node import (
    BenchmarkParams,
    BenchmarkReport,
    CapabilityParams,
    CapabilityStatus,
    Figure,
    GpuFigures,
    LockList,
    LockParams,
    LockView,
    Pressure,
    ResourcesParams,
)
from dms_actors.node import NodeState
from dms_proto.capability import NOTHING, Capability, ExecutorOffer, Gpu, Resources
from dms_proto.errors import UserError
from dms_proto.ids import BidId, PeerId
from dms_proto.market.arithmetic import canonical, fits_within
from dms_proto.market.gpus import assign_gpus
from dms_proto.market.ledger import CapabilityLock, Ledger
from dms_proto.market.offer_state import OWNER_HOLD, AvailableWished, CapabilityMeasured, HoldWished, OfferBook
from dms_proto.units import format_bytes, format_cores, format_count

POD: Final = "pod:"
"""Begins the name of a lock that the owner took for a pod."""


class CapabilityGroup(Base):
    """The methods of `dms.rpc.api.node.NodeMethods` that are about capability."""

    async def node_capability(self) -> CapabilityStatus:
        """See `NodeMethods`."""
        status = self._capability_status(await self._state())
        provider = self._services.config.provider
        used = await asyncio.to_thread(lambda: read_use(find_gpus(provider).gpus))
        shown = tuple(GpuFigures(use.device, use.busy_percent, use.memory_bytes, use.processes) for use in used)
        return msgspec.structs.replace(status, gpus=shown)

    async def node_get_registered_capability(self) -> Capability:
        """See `NodeMethods`."""
        return (await self._state()).book.capability

    async def node_get_available_capability(self) -> Capability:
        """See `NodeMethods`."""
        book = (await self._state()).book
        return msgspec.structs.replace(book.capability, resources=book.ledger.available)

    async def node_set_registered_capability(self, params: CapabilityParams) -> CapabilityStatus:
        """See `NodeMethods`."""
        book = (await self._state()).book
        wished = msgspec.structs.replace(params.capability, resources=_concrete(params.capability.resources))
        await asyncio.to_thread(self._check_offer, wished)
        if not fits_within(book.ledger.held, wished.resources):
            raise UserError(
                "bad_argument",
                f"{show(book.ledger.held)} are locked or allocated now; less than that cannot be registered",
                hint="dms node pause, wait for what runs to end, then set it",
                retryable=True,
            )
        if params.dry_run:
            return self._status(_registered(book, wished))
        after = await self._wish(CapabilityMeasured(wished), call_id("node.set_registered_capability"))
        if after.book.capability != wished:
            raise UserError("bad_argument", "capacity was promised meanwhile; try again", retryable=True)
        return self._capability_status(after)

    async def node_set_available_capability(self, params: ResourcesParams) -> CapabilityStatus:
        """See `NodeMethods`."""
        book = (await self._state()).book
        wished = _concrete(params.resources)
        free = _without_hold(book.ledger, OWNER_HOLD)
        if not fits_within(wished, free):
            raise UserError(
                "bad_argument",
                f"{show(wished)} are more than is free: {show(free)}",
                hint="dms node set registered raises what is offered at all",
            )
        if params.dry_run:
            ledger = msgspec.structs.replace(book.ledger, available=wished)
            return self._status(msgspec.structs.replace(book, ledger=ledger))
        after = await self._wish(AvailableWished(wished), call_id("node.set_available_capability"))
        if after.book.ledger.available != wished:
            raise UserError("bad_argument", f"only {show(after.book.ledger.available)} are free now", retryable=True)
        return self._capability_status(after)

    async def node_lock_capability(self, params: LockParams) -> LockView:
        """See `NodeMethods`."""
        book, now = (await self._state()).book, self._now()
        if not params.pod or not params.valid_ms:
            raise UserError("bad_argument", "a capability lock has a pod to be for, and a time to be valid")
        name, until = BidId(POD + params.pod), now + params.valid_ms
        free = _without_hold(book.ledger, name)
        wanted = _given_devices(params.capability.resources, free)
        if wanted is None or wanted == NOTHING or not fits_within(wanted, free):
            asked = show(params.capability.resources)
            raise UserError("bad_argument", f"{asked} cannot be locked: {show(free)} are free", retryable=True)
        after = await self._wish(HoldWished(name, wanted, until), call_id("node.lock_capability"))
        lock = after.book.ledger.locks.get(name)
        if lock is None or lock.expires_at != until:
            raise UserError("bad_argument", f"only {show(after.book.ledger.available)} are free now", retryable=True)
        return lock_view(lock, self._me)

    async def node_get_locked_capabilities(self) -> LockList:
        """See `NodeMethods`."""
        locks = (await self._state()).book.ledger.locks
        return LockList(tuple(lock_view(lock, self._me) for lock in locks.values()))

    async def node_benchmark_capability(self, params: BenchmarkParams) -> BenchmarkReport:
        """See `NodeMethods`."""
        home = self._services.home
        if self._services.cluster is not None:
            raise UserError("bad_argument", "jobs run on a cluster here: this machine's score says nothing of it")
        benchmark = await run_benchmark(home.root)
        capability, said = await asyncio.to_thread(self._propose, benchmark, (await self._state()).book.capability)
        if params.register and benchmark.score:
            await asyncio.to_thread((home.cache / "benchmark.json").write_bytes, msgspec.json.encode(benchmark))
            after = await self._wish(CapabilityMeasured(capability), call_id("node.benchmark_capability"))
            if after.book.capability != capability:
                said = (*said, f"not registered: {show(after.book.ledger.held)} are locked or allocated now")
        return _report(benchmark, capability, said)

    def _propose(self, benchmark: Benchmark, registered: Capability) -> tuple[Capability, tuple[str, ...]]:
        services = self._services
        facts, gpus = read_facts(services.home.root), find_gpus(services.config.provider)
        executors = services.executors.values()
        offers = [offer for _, offer in executors]
        proposed = propose(facts, gpus, benchmark, offers, services.config, libraries=libraries_of(executors))
        said = notes(facts, gpus, benchmark, offers, services.config)
        return merged_capability(registered, proposed, services.config), said

    def _check_offer(self, wished: Capability) -> None:
        """Refuses to offer what this machine has not.

        Raises:
            UserError: `bad_argument`.
        """
        services = self._services
        _check_amounts(wished.resources, facts_of(services.cluster, read_facts(services.workbench.jobs)))
        gpus = gpus_of(services.config) if services.cluster is None else gpus_on(services.cluster)
        there = {gpu.device: gpu for gpu in gpus.offers}
        for gpu in wished.resources.gpus:
            if gpu.device not in there:
                known = ", ".join(there) or "none"
                raise UserError("bad_argument", f"there is no GPU {gpu.device!r}; usable here: {known}")
        proven = {offer.name: offer for _, offer in services.executors.values()}
        for offer in wished.executors:
            _check_executor(offer, proven.get(offer.name))

    def _capability_status(self, state: NodeState) -> CapabilityStatus:
        return self._status(state.book)

    def _status(self, book: OfferBook) -> CapabilityStatus:
        ledger = book.ledger
        detail = self._services.notes.get(PRESSURE, "") if book.pressure != NOTHING else ""
        return CapabilityStatus(
            registered=ledger.registered,
            available=ledger.available,
            locked=ledger.locked,
            allocated=ledger.allocated,
            free=book.free,
            pressure=Pressure(_is_withheld(book), detail, book.pressure),
            offer=book.capability,
        )


def show(resources: Resources) -> str:
    """Amounts for a person."""
    parts = [
        format_cores(resources.cpu_millicores),
        f"{format_bytes(resources.memory_bytes)} of memory",
        f"{format_bytes(resources.disk_bytes)} of disk",
    ]
    if resources.gpus:
        parts.append(format_count(len(resources.gpus), "GPU"))
    return ", ".join(parts)


def lock_view(lock: CapabilityLock, me: PeerId) -> LockView:
    """A capability lock as callers see it; those of this node's owner have no requester."""
    if lock.request_id:
        return LockView(lock.bid_id, lock.request_id, lock.requester, lock.amount, lock.expires_at)
    assert lock.requester == me, "a lock without a request is the owner's own"
    return LockView(lock.bid_id, lock.bid_id.removeprefix(POD), "", lock.amount, lock.expires_at)


def _concrete(resources: Resources) -> Resources:
    """One spelling of amounts whose GPUs name their device.

    Raises:
        UserError: `bad_argument`: they do not.
    """
    try:
        return canonical(resources)
    except ValueError as error:
        raise UserError(
            "bad_argument", str(error), hint="name each GPU once, by the device dms doctor shows"
        ) from error


def _given_devices(wanted: Resources, free: Resources) -> Resources | None:
    """The amounts with a device for each GPU asked for, or None when there is none."""
    gpus: tuple[Gpu, ...] | None = assign_gpus(wanted.gpus, free.gpus)
    return None if gpus is None else _concrete(msgspec.structs.replace(wanted, gpus=gpus))


def _without_hold(ledger: Ledger, name: BidId) -> Resources:
    return ledger.unlock(name).available if name in ledger.locks else ledger.available


def _registered(book: OfferBook, wished: Capability) -> OfferBook:
    return msgspec.structs.replace(book, capability=wished, ledger=book.ledger.register(wished.resources))


def _is_withheld(book: OfferBook) -> bool:
    """Whether pressure leaves nothing of something that the ledger thinks is free."""
    free, available = book.free, book.ledger.available
    return book.pressure != NOTHING and (
        (available.cpu_millicores > 0 and free.cpu_millicores == 0)
        or (available.memory_bytes > 0 and free.memory_bytes == 0)
        or (available.disk_bytes > 0 and free.disk_bytes == 0)
    )


def _check_amounts(wished: Resources, facts: Facts) -> None:
    for what, asked, there, shown in (
        ("CPU", wished.cpu_millicores, facts.cpu_millicores, format_cores),
        ("memory", wished.memory_bytes, facts.memory_bytes, format_bytes),
        ("disk", wished.disk_bytes, facts.disk_total_bytes, format_bytes),
    ):
        if asked > there:
            raise UserError(
                "bad_argument", f"{what}: {shown(asked)} cannot be offered, this machine has {shown(there)}"
            )


def _check_executor(wished: ExecutorOffer, proven: ExecutorOffer | None) -> None:
    if proven is None or wished != proven:
        what = (
            "was not proven to work here"
            if proven is None
            else f"was proven as {proven.isolation}, {', '.join(proven.limits)}"
        )
        raise UserError("bad_argument", f"executor {wished.name!r} {what}", hint="dms doctor shows what was proven")


def _report(benchmark: Benchmark, capability: Capability, said: tuple[str, ...]) -> BenchmarkReport:
    figures = [
        Figure("score", benchmark.score / 1000, "reference cores", TOLERANCE),
        Figure("effective_cores", benchmark.effective_cores_milli / 1000, "cores", TOLERANCE),
        *(Figure(metric.name, metric.value, metric.unit, TOLERANCE) for metric in benchmark.metrics),
    ]
    if benchmark.disk_write:
        figures.append(Figure("disk_write", benchmark.disk_write, "MB/s"))
    if benchmark.disk_sync_us:
        figures.append(Figure("disk_sync", benchmark.disk_sync_us / 1000, "ms"))
    return BenchmarkReport(
        method=benchmark.method,
        version=str(benchmark.version),
        at=benchmark.at_ms,
        took_ms=benchmark.duration_ms,
        figures=tuple(figures),
        capability=capability,
        notes=said,
    )
