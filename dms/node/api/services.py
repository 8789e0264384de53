"""service.*, pool.*: what is offered for calls, what is kept warm, and calls."""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec

from dms.hardware.capability import egress_of
from dms.node.api.base import Base, call_id
from dms.node.api.tabs import used_view
from dms.node.dataset_jobs import check_kept, with_datasets
from dms.node.images import pin_image
from dms.node.incoming import copy_inputs
from dms.node.offering import offer, offered_by, take_share
from dms.node.tunnels import Led
from dms.rpc.api.services import (
    CallOpened,
    CallParams,
    CallPrice,
    CallPrices,
    CallView,
    ContainerParams,
    ContainerView,
    InstallParams,
    PoolView,
    RouteParams,
    RouteView,
    ServiceList,
    ServiceParams,
    ServiceView,
)
from dms.rpc.api.tabs import TabView
from dms.rpc.registry import Handover
from dms_actors.events import from_row
from dms_proto.capability import Price, Resources
from dms_proto.egress import Egress
from dms_proto.errors import DmsError, PeerError, UserError
from dms_proto.grants.access import NOTHING_SHOWN
from dms_proto.grants.rights import CALL
from dms_proto.ids import Digest, PeerId
from dms_proto.market.arithmetic import total_of
from dms_proto.market.egress_dimension import judge_egress, judge_egress_bytes
from dms_proto.pool.admission import placed
from dms_proto.pool.callers import tariff_for, tariff_of
from dms_proto.pool.placement import replay
from dms_proto.pool.records import ContainerId, ContainerPhase
from dms_proto.pool.routes import CALLS_STREAM, CallRouted, KnownNode, RouteTaken, nearest
from dms_proto.pool.services import (
    MOST,
    Installed,
    InstallWished,
    OfferWished,
    RemoveWished,
    Services,
    flaw_of,
    service_name,
)
from dms_proto.pool.state import POOL_STREAM, ContainerAdmitted, Pool
from dms_proto.tabs.terms import Ceiling, most_after, rate_of
from dms_proto.units import DAY, GPU, HOUR, format_bytes, format_cores, format_count
from dms_proto.work import Task

LIFE_MS: Final = 365 * DAY
"""How long a container may run: as long as it is of use."""
ROUTE_S: Final = 60.0
"""Seconds in which all nodes that offer a service are asked, one after the other: a few of them may be silent."""
NO_TIME: Final = "it has not let the call in before the time for it was over"
_THERE: Final = frozenset(ContainerPhase) - {ContainerPhase.WAITING}


class ServiceGroup(Base):
    """The methods of `dms.rpc.api.services.ServiceMethods`."""

    async def service_install(self, params: InstallParams) -> ServiceView:
        """See `ServiceMethods`."""
        services = self._services
        spec = await pin_image(params.spec, services.config)
        if flaw := "it has secrets, which are sealed to one job" if spec.secrets else flaw_of(spec.task):
            hint = f"dms task show {params.kind} lists what it takes"
            raise UserError("bad_job", f"this cannot be a service: {flaw}", hint=hint)
        if spec.task.executor not in services.executors:
            raise UserError("bad_job", f"there is no executor {spec.task.executor!r} on this node", hint="dms doctor")
        _check_ways_out(spec.task.egress, egress_of(services.config.provider))
        spec = await asyncio.to_thread(with_datasets, spec, services.datasets, self._me, self_bids=True)
        await asyncio.to_thread(check_kept, spec.task, services.datasets, services.blobs)
        name = service_name(params.kind, params.entry)
        before = await services.calls.services()
        if name not in before.by_name and len(before.by_name) >= MOST:
            raise UserError(
                "bad_argument", f"{MOST} services are installed, as many as may be", hint="dms service remove"
            )
        new: list[Digest] = []
        await asyncio.to_thread(copy_inputs, spec, services.blobs, new)
        after = await services.calls.wish(
            InstallWished(params.kind, params.entry, _lasting(spec.task)), call_id("service")
        )
        return await self._service_view(after, name)

    async def service_start(self, params: ServiceParams) -> ServiceView:
        """See `ServiceMethods`."""
        found = await self._installed(params)
        capacity = await take_share(self._services)
        size = found.service.image.size
        if placed(size, capacity) is None:
            raise UserError(
                "bad_argument",
                f"a container of {found.name} takes {_show(size)}, and the pool has {_show(capacity)}",
                hint="set pool.cpu, pool.memory, pool.disk and pool.gpus, within what the market has left, and start the node again",
            )
        return await self._offered(found, wanted=True)

    async def service_stop(self, params: ServiceParams) -> ServiceView:
        """See `ServiceMethods`."""
        return await self._offered(await self._installed(params), wanted=False)

    async def service_remove(self, params: ServiceParams) -> ServiceView:
        """See `ServiceMethods`."""
        found = await self._installed(params)
        view = await self._service_view(await self._services.calls.services(), found.name)
        await self._services.calls.wish(RemoveWished(found.name), call_id("service"))
        await offer(self._services)
        return msgspec.structs.replace(view, offered=False)

    async def service_list(self) -> ServiceList:
        """See `ServiceMethods`."""
        pool = await self._services.calls.pool()
        services = await self._services.calls.services()
        tariff = await self._tariff()
        views = (_view(each, pool, tariff) for _, each in sorted(services.by_name.items()))
        return ServiceList(tuple(views), pool.capacity)

    async def service_call(self, params: CallParams) -> Handover:
        """See `ServiceMethods`."""
        name = service_name(params.kind, params.entry)
        options = list(await self._options(name, params.node))
        led, provider, refused = await self._first_to_take(name, options, self._ceiling(params))
        tunnel = led.name if led is not None else ""
        taken = RouteTaken(tunnel, name, tuple(options), provider, bool(params.node))
        self._services.calls.tell(taken, tunnel or call_id("call"))
        if led is None:
            assert refused is not None, "there is at least one, and it has let nobody in"
            if refused.code == "not_granted":
                refused.hint = (
                    f"there: dms grant create --to {self._me} --can {CALL}; here: dms grant keep, with what that prints"
                )
            raise refused
        return Handover(CallOpened(led.name, provider), led.tunnel.join, led.tunnel.abort)

    async def _first_to_take(
        self, name: str, options: list[KnownNode], most: Ceiling
    ) -> tuple[Led | None, PeerId, DmsError | None]:
        """Asks one node after the other, within one deadline for all; what each says is noted in `options`. Gives whose call it is, or why not."""
        refused: DmsError | None = None
        until = asyncio.get_running_loop().time() + ROUTE_S
        for index, option in enumerate(options):
            try:
                async with asyncio.timeout_at(until):
                    return await self._services.own_calls.lead(option.peer, name, most), option.peer, None
            except DmsError as error:
                refused = refused or error  # of the nearest: the others are told less well
                options[index] = msgspec.structs.replace(option, said=error.message)
            except TimeoutError:
                options[index:] = [msgspec.structs.replace(left, said=NO_TIME) for left in options[index:]]
                return None, PeerId(""), _late(name, index + 1, len(options), refused)
        return None, PeerId(""), refused

    async def service_price(self, params: CallParams) -> CallPrices:
        """See `ServiceMethods`."""
        name, most = service_name(params.kind, params.entry), self._ceiling(params)
        options = await self._options(name, params.node)
        return CallPrices(tuple(await asyncio.gather(*(self._price(each, name, most) for each in options))))

    async def _price(self, option: KnownNode, name: str, most: Ceiling) -> CallPrice:
        """What a node says that calls of a service cost there."""
        if option.is_own:
            return CallPrice(option.peer, why_not="calls of its own node cost nothing")
        try:
            ready = await self._services.own_calls.ask(option.peer, name, most)
        except DmsError as error:
            return CallPrice(option.peer, why_not=error.message)
        terms = ready.offer
        if terms is None:
            return CallPrice(option.peer, why_not=ready.why)
        return CallPrice(option.peer, terms, rate_of(terms), most_after(terms, 1, 0), ready.why)

    def _ceiling(self, params: CallParams) -> Ceiling:
        rate = self._services.config.accounts.call_rate if params.max_rate is None else params.max_rate
        return Ceiling(params.max_price, rate)

    async def service_explain(self, params: RouteParams) -> RouteView:
        """See `ServiceMethods`."""
        await self._services.calls.services()  # what was told before has been handled
        await self._services.written()
        store = self._services.store
        if params.tunnel:
            rows = await store.query(stream=CALLS_STREAM, cause_id=params.tunnel)
        else:
            rows = await store.read_stream(CALLS_STREAM, since=CallRouted.__name__)
        for row in reversed(rows):
            route = from_row(row)
            assert isinstance(route, CallRouted), "nothing else is in this stream"
            return RouteView(row.at, route, nearest(route.options) == route.options, await self._tab_of(route))
        asked = f"call {params.tunnel!r}" if params.tunnel else "call"
        raise UserError("not_found", f"this node has made no {asked}", hint="dms service call")

    async def pool_list(self) -> PoolView:
        """See `ServiceMethods`."""
        pool = await self._services.calls.pool()
        there = [each for each in pool.containers.values() if each.phase in _THERE]
        calls = tuple(
            CallView(
                each.call_id, each.virtual_id, each.container_id, each.placed_at, each.delivered_at, each.placement
            )
            for each in pool.calls.values()
        )
        return PoolView(
            pool.phase,
            pool.capacity,
            total_of(each.size for each in there),
            pool.rules,
            tuple(pool.containers.values()),
            tuple(pool.virtual.values()),
            calls,
        )

    async def pool_show(self, params: ContainerParams) -> ContainerView:
        """See `ServiceMethods`."""
        pool = await self._services.calls.pool()
        container = pool.containers.get(ContainerId(params.container_id))
        row = await self._admitted(params.container_id)
        virtual = tuple(each for each in pool.virtual.values() if each.container == params.container_id)
        return ContainerView(container, row.at, row.placement, replay(row.placement) == row.placement, virtual)

    async def _tab_of(self, route: CallRouted) -> TabView | None:
        """The newest tab for such calls, if they are paid."""
        _, used = await self._services.own_calls.tabs()
        theirs = [
            tab
            for tab in used.tabs.values()
            if (tab.terms.provider, tab.terms.service) == (route.provider, route.service)
        ]
        return used_view(theirs[-1]) if theirs else None

    async def _admitted(self, container_id: str) -> ContainerAdmitted:
        """The event by which a container came; searched from the first on.

        Raises:
            UserError: `not_found`.
        """
        after = 0
        while rows := await self._services.store.query(
            stream=POOL_STREAM, kinds=(ContainerAdmitted.__name__,), after_seq=after
        ):
            for event in map(from_row, rows):
                if isinstance(event, ContainerAdmitted) and event.container_id == container_id:
                    return event
            after = rows[-1].seq
        raise UserError("not_found", f"there was no container {container_id!r} here", hint="dms pool list")

    async def _options(self, name: str, node: str) -> tuple[KnownNode, ...]:
        """Whom to call, the nearest first.

        Raises:
            UserError: `not_found`, `ambiguous_id`.
        """
        state = await self._state()
        if node:
            own_name = state.membership.hello.name if state.membership.hello is not None else ""
            found = (self._me if node in (self._me, own_name) else self._peer(node, state),)
        else:
            own = any(each.name == name for each in (await self._services.calls.services()).offered)
            found = (*([self._me] if own else ()), *offered_by(state.membership, name))
        if not found:
            raise UserError("not_found", f"no node known here offers the service {name}", hint="dms peers list")
        links = self._services.network.links()
        return nearest(KnownNode(peer, peer == self._me, links[peer].rtt_us if peer in links else 0) for peer in found)

    async def _installed(self, params: ServiceParams) -> Installed:
        name, services = service_name(params.kind, params.entry), await self._services.calls.services()
        if name not in services.by_name:
            there = ", ".join(sorted(services.by_name)) or "none"
            raise UserError(
                "not_found", f"no service {name} is installed here; there are: {there}", hint="dms service list"
            )
        return services.by_name[name]

    async def _offered(self, found: Installed, *, wanted: bool) -> ServiceView:
        after = await self._services.calls.wish(OfferWished(found.name, wanted), call_id("service"))
        await offer(self._services)
        return await self._service_view(after, found.name)

    async def _service_view(self, services: Services, name: str) -> ServiceView:
        return _view(services.by_name[name], await self._services.calls.pool(), await self._tariff())

    async def _tariff(self) -> Price:
        """What who is no machine of the owner's pays."""
        return tariff_for((await self._state()).book, PeerId(""), NOTHING_SHOWN)


def _late(name: str, asked: int, known: int, refused: DmsError | None) -> DmsError:
    first = f"; the nearest that answered said: {refused.message}" if refused is not None else ""
    what = f"no node took a call of {name} within {ROUTE_S:g} s, {asked} of {format_count(known, 'node')} were asked{first}"
    return PeerError(
        "peer_timeout", what, hint="name a node with --node; `dms service explain` says what each said", retryable=True
    )


def _check_ways_out(wanted: Egress, allowed: Egress) -> None:
    """What a service connects to, its node has to allow as for any job.

    Raises:
        UserError: `bad_job`.
    """
    for judged in (*judge_egress(wanted, allowed), *judge_egress_bytes(wanted, allowed)):
        if judged.clause is not None:
            raise UserError(
                "bad_job",
                f"this cannot be a service here: it wants {judged.clause.wanted}; {judged.clause.observed}",
                hint="provider.egress and provider.egress_bytes in config.toml, then start the node again",
            )


def _lasting(task: Task) -> Task:
    return msgspec.structs.replace(task, limits=msgspec.structs.replace(task.limits, wall_ms=LIFE_MS), outputs=())


def _view(installed: Installed, pool: Pool, tariff: Price) -> ServiceView:
    image = installed.service.image
    containers = sum(each.image == image and each.phase in _THERE for each in pool.containers.values())
    hits = sum(each.tally.hits for each in pool.virtual.values() if each.service.name == installed.name)
    return ServiceView(
        installed.kind,
        installed.entry,
        installed.at,
        installed.is_offered,
        installed.task,
        containers,
        hits,
        tariff_of(tariff, image.size, pool.capacity).cost(image.size, HOUR),
    )


def _show(resources: Resources) -> str:
    disk = f"disk {format_bytes(resources.disk_bytes)}"
    gpus = (f"{gpu.milli / GPU:g} GPU {gpu.model}".strip() for gpu in resources.gpus)
    return ", ".join((format_cores(resources.cpu_millicores), format_bytes(resources.memory_bytes), disk, *gpus))
