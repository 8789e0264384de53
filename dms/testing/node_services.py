"""Services of the node in memory: whatever is called echoes."""

# ruff: noqa: D102 - every method is described where it is declared, in dms.rpc.api

from __future__ import annotations

import msgspec

from dms.node.api.tabs import used_view
from dms.rpc.api.services import (
    CallOpened,
    CallParams,
    CallPrice,
    CallPrices,
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
from dms.rpc.api.tunnels import TunnelOpened, TunnelParams
from dms.rpc.registry import Handover
from dms.testing.sample_tabs import tab_at
from dms_proto.capability import Resources
from dms_proto.errors import UserError
from dms_proto.ids import PeerId
from dms_proto.pool.placement import Bounds, place
from dms_proto.pool.records import (
    Container,
    ContainerId,
    ContainerPhase,
    Image,
    Service,
    Tally,
    VirtualContainer,
    VirtualId,
)
from dms_proto.pool.routes import CallRouted, KnownNode, Rule
from dms_proto.pool.services import service_name
from dms_proto.pool.state import PoolPhase, PoolRules
from dms_proto.tabs.terms import most_after, rate_of
from dms_proto.units import MIB
from dms_proto.work import Usage

SIZE = Resources(500, 64 * MIB, 16 * MIB)
CAPACITY = Resources(2_000, 512 * MIB, 256 * MIB)
CREATED = 1_700_000_000_000


class MemoryServices:
    """The part of `MemoryNode` that is services. One container is there, and one virtual one."""

    def __init__(self, provider: PeerId) -> None:
        self.installed: dict[str, ServiceView] = {}
        self._provider = provider
        image = Image("python-script", "upper@0123456789abcdef", SIZE)
        tally = Tally(3, CREATED + 2_000, CREATED + 2_050, Usage(150))
        self.container = Container(
            ContainerId("c-1"),
            1,
            image,
            SIZE,
            0,
            CREATED,
            ContainerPhase.READY,
            CREATED,
            CREATED + 400,
            tally,
            (VirtualId("v-2"),),
        )
        service = Service("python-script/upper", image)
        self.virtual = VirtualContainer(
            VirtualId("v-2"), provider, service, 0, CREATED, tally, container=self.container.container_id
        )

    async def service_install(self, params: InstallParams) -> ServiceView:
        view = ServiceView(params.kind, params.entry, CREATED, offered=False, task=params.spec.task)
        self.installed[service_name(params.kind, params.entry)] = view
        return view

    async def service_start(self, params: ServiceParams) -> ServiceView:
        return self._offered(params, wanted=True)

    async def service_stop(self, params: ServiceParams) -> ServiceView:
        return self._offered(params, wanted=False)

    async def service_remove(self, params: ServiceParams) -> ServiceView:
        view = self._offered(params, wanted=False)
        del self.installed[service_name(params.kind, params.entry)]
        return view

    async def service_list(self) -> ServiceList:
        return ServiceList(tuple(self.installed.values()), CAPACITY)

    async def service_call(self, params: CallParams) -> Handover:
        handover = await self.tunnel_open(TunnelParams(service_name(params.kind, params.entry), "service"))
        assert isinstance(handover.answer, TunnelOpened)
        return handover._replace(answer=CallOpened(handover.answer.tunnel, self._provider))

    async def service_price(self, params: CallParams) -> CallPrices:
        near = CallPrice(PeerId("near"), why_not="its calls cost nothing")
        terms = tab_at(self._provider).terms
        dear = CallPrice(self._provider, terms, rate_of(terms), most_after(terms, 1, 0), "too dear")
        return CallPrices((near, dear if params.max_rate == 0 else msgspec.structs.replace(dear, why_not="")))

    async def service_explain(self, params: RouteParams) -> RouteView:
        if params.tunnel not in ("", "t-1"):
            raise UserError("not_found", f"this node has made no call {params.tunnel!r}")
        options = (
            KnownNode(PeerId("near"), rtt_us=300, said="too many wait for it"),
            KnownNode(self._provider, rtt_us=1_200),
        )
        routed = CallRouted("t-1", "python-script/upper", options, self._provider, Rule.NEAREST)
        return RouteView(CREATED, routed, replayed=True, tab=used_view(tab_at(self._provider)))

    async def pool_list(self) -> PoolView:
        return PoolView(PoolPhase.OPEN, CAPACITY, SIZE, PoolRules(), (self.container,), (self.virtual,), ())

    async def pool_show(self, params: ContainerParams) -> ContainerView:
        if params.container_id != self.container.container_id:
            raise UserError("not_found", f"there was no container {params.container_id!r} here")
        placement = place((), Bounds(10, 32))
        return ContainerView(self.container, CREATED, placement, replayed=True, virtual=(self.virtual,))

    async def tunnel_open(self, params: TunnelParams) -> Handover:
        raise NotImplementedError

    def _offered(self, params: ServiceParams, *, wanted: bool) -> ServiceView:
        name = service_name(params.kind, params.entry)
        if name not in self.installed:
            raise UserError("not_found", f"no service {name} is installed here")
        found = self.installed[name]
        self.installed[name] = ServiceView(found.kind, found.entry, found.at, wanted, found.task)
        return self.installed[name]
