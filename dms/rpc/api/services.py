"""service.* and pool.*: what the owner has installed for others to call, what is kept warm for it, and calls to what others offer."""

from __future__ import annotations

from typing import Annotated, Protocol

import msgspec

from dms.jobs.spec import JobSpec
from dms.rpc.api.tabs import TabView
from dms.rpc.registry import method
from dms_proto.capability import Resources
from dms_proto.ids import PeerId
from dms_proto.messages import TabTerms
from dms_proto.pool.placement import Placement
from dms_proto.pool.records import CallId, Container, ContainerId, VirtualContainer, VirtualId
from dms_proto.pool.routes import CallRouted
from dms_proto.pool.state import PoolPhase, PoolRules
from dms_proto.rules import Amount
from dms_proto.units import CREDIT
from dms_proto.work import Task

Part = Annotated[str, msgspec.Meta(min_length=1, max_length=48, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*\Z")]


class InstallParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A service to be installed.

    Attributes:
        kind: of task.
        entry: which of that kind: the owner's name for it.
        spec: the job that a container of it runs; what it says of the market does not matter.
    """

    kind: Part
    entry: Part
    spec: JobSpec


class ServiceParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A service that is installed.

    Attributes:
        kind: of task.
        entry: which of that kind.
    """

    kind: Part
    entry: Part


class ServiceView(msgspec.Struct, frozen=True):
    """A service.

    Attributes:
        kind: of task.
        entry: which of that kind.
        at: Unix ms when it was installed.
        offered: whether calls are taken.
        task: what a container of it runs.
        containers: how many run it now.
        hits: calls that it was given, of the users known now.
        rate: micro-credits that an hour at work costs whoever is no machine of the owner's, with what is paid once; 0: calls are free.
    """

    kind: str
    entry: str
    at: int
    offered: bool
    task: Task
    containers: int = 0
    hits: int = 0
    rate: int = 0


class ServiceList(msgspec.Struct, frozen=True):
    """The services of this node.

    Attributes:
        services: by name.
        capacity: what the pool may use of the machine; nothing: no calls are taken.
    """

    services: tuple[ServiceView, ...]
    capacity: Resources


class CallParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A call.

    Attributes:
        kind: of task.
        entry: which of that kind.
        node: the node to call: its name or PeerID; empty: the nearest that offers it.
        max_price: micro-credits for all calls of the service within a day, at all nodes together; more than was agreed before is agreed anew.
        max_rate: micro-credits for an hour at work, with what is paid once: no dearer price is agreed. None: the setting `accounts.call_rate`.
    """

    kind: Part
    entry: Part
    node: str = ""
    max_price: Amount = CREDIT
    max_rate: Amount | None = None


class CallPrice(msgspec.Struct, frozen=True):
    """What calls of a service cost at a node.

    Attributes:
        peer: the node.
        terms: that it offers now; None: it offers none.
        rate: micro-credits for an hour at work, with what is paid once.
        longest: micro-credits that one call may come to, with what is paid once.
        why_not: why no call would be made on these terms, or why there are none: calls are free, not allowed, or dearer than the ceiling.
    """

    peer: PeerId
    terms: TabTerms | None = None
    rate: int = 0
    longest: int = 0
    why_not: str = ""


class CallPrices(msgspec.Struct, frozen=True):
    """What calls of a service cost now.

    Attributes:
        prices: by each node that would be called, in the order in which they are asked.
    """

    prices: tuple[CallPrice, ...]


class CallOpened(msgspec.Struct, frozen=True):
    """A call. From the byte after this answer on, the connection is it.

    Attributes:
        tunnel: its name, for tunnel.wait.
        provider: the node that was called.
    """

    tunnel: str
    provider: PeerId


class RouteParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A call of this node's owner.

    Attributes:
        tunnel: its name; empty: the last one.
    """

    tunnel: Annotated[str, msgspec.Meta(max_length=64)] = ""


class RouteView(msgspec.Struct, frozen=True):
    """Which node got a call, and why.

    Attributes:
        at: Unix ms.
        route: the nodes that were known, what they said, and the one that has let the call in.
        replayed: whether the order, computed again from what was known, is the same.
        tab: what such calls cost there; None: nothing.
    """

    at: int
    route: CallRouted
    replayed: bool
    tab: TabView | None = None


class CallView(msgspec.Struct, frozen=True):
    """A call under way.

    Attributes:
        call_id: its name.
        virtual_id: on whose behalf.
        container_id: which works on it, or will.
        placed_at: Unix ms.
        delivered_at: Unix ms; 0: it waits.
        placement: why to this one: what was compared, with the scores and their reasons.
    """

    call_id: CallId
    virtual_id: VirtualId
    container_id: ContainerId
    placed_at: int
    delivered_at: int
    placement: Placement


class PoolView(msgspec.Struct, frozen=True):
    """The pool.

    Attributes:
        phase: whether calls are taken.
        capacity: what all containers together may take.
        used: what they take now.
        rules: the owner's.
        containers: their control blocks, oldest first.
        virtual: those of the virtual ones, oldest first.
        calls: under way.
    """

    phase: PoolPhase
    capacity: Resources
    used: Resources
    rules: PoolRules
    containers: tuple[Container, ...]
    virtual: tuple[VirtualContainer, ...]
    calls: tuple[CallView, ...]


class ContainerParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A container.

    Attributes:
        container_id: its name, such as c-17.
    """

    container_id: str


class ContainerView(msgspec.Struct, frozen=True):
    """A container, and why there is one.

    Attributes:
        container: its control block; None: it is gone.
        admitted_at: Unix ms.
        placement: why none of those there would do for the call it was made for.
        replayed: whether that, computed again from its record, gives the same.
        virtual: those that point to it.
    """

    container: Container | None
    admitted_at: int
    placement: Placement
    replayed: bool
    virtual: tuple[VirtualContainer, ...]


class ServiceMethods(Protocol):
    """What the owner offers for calls, and calls."""

    @method("service.install", mutates=True)
    async def service_install(self, params: InstallParams) -> ServiceView:
        """Installs a service, or another task under the name of one that is there.

        Raises:
            UserError: `bad_job`: its task cannot be that of a service.
        """
        ...

    @method("service.start", mutates=True)
    async def service_start(self, params: ServiceParams) -> ServiceView:
        """Takes calls of a service from now on.

        Raises:
            UserError: `not_found`; `bad_argument`: the pool has nothing of the machine, or less than a container takes.
        """
        ...

    @method("service.stop", mutates=True)
    async def service_stop(self, params: ServiceParams) -> ServiceView:
        """Takes no more calls of a service; its containers end when those they have are over.

        Raises:
            UserError: `not_found`.
        """
        ...

    @method("service.remove", mutates=True)
    async def service_remove(self, params: ServiceParams) -> ServiceView:
        """Takes a service away; gives what it was.

        Raises:
            UserError: `not_found`.
        """
        ...

    @method("service.list")
    async def service_list(self) -> ServiceList:
        """The services of this node."""
        ...

    @method("service.call", mutates=True, hands_over=True)
    async def service_call(self, params: CallParams) -> CallOpened:
        """Calls a service of this node or another: the connection leads to a container of it.

        Raises:
            UserError: `not_found`: nobody known offers it.
            PeerError: `not_granted`, `call_refused`, …: why the node takes no call; `peer_timeout`: all nodes together took too long.
        """
        ...

    @method("service.price", mutates=True)
    async def service_price(self, params: CallParams) -> CallPrices:
        """What the calls cost that `service.call` would make: the nodes are asked, and nothing is agreed.

        Raises:
            UserError: `not_found`: nobody known offers it.
        """
        ...

    @method("service.explain")
    async def service_explain(self, params: RouteParams) -> RouteView:
        """Which node got a call of this node's owner, and why: those that offered the service, and what they said.

        Raises:
            UserError: `not_found`.
        """
        ...

    @method("pool.list")
    async def pool_list(self) -> PoolView:
        """What is kept warm here: the control blocks, and the calls under way."""
        ...

    @method("pool.show")
    async def pool_show(self, params: ContainerParams) -> ContainerView:
        """A container, and the decision that led to it.

        Raises:
            UserError: `not_found`.
        """
        ...
