"""The services of a node: kinds of tasks that its owner has installed, for others to call. Stream "services".

::

    install ──▶ installed ──start──▶ offered ──stop──▶ installed ──remove──▶ gone

A service is known by its kind and its entry. What it runs is a task that listens on one port; a call is a connection to that port, in whichever
container the pool gives it to. A service that is stopped, removed, or installed anew with another task lets its containers end.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

import msgspec

from dms_proto.ids import Digest, digest_of
from dms_proto.machine import IGNORED, Decision, Event, Row, Stimulus, Table
from dms_proto.pool.records import Image, Service
from dms_proto.rules import Word
from dms_proto.tunnels import Target, ToCalls, ToPort
from dms_proto.units import format_count
from dms_proto.work import Task, taken_by, takes_calls

SERVICES_STREAM: Final = "services"
MOST: Final = 256
"""Services that may be installed: each is told to every peer while it is offered."""
_SHOWN: Final = 16
"""Characters of a digest that tell one task from another."""


class ServicesPhase(StrEnum):
    """There is one: each service is installed or not by itself."""

    HELD = "held"


class Installed(msgspec.Struct, frozen=True, omit_defaults=True):
    """A service.

    Attributes:
        kind: of task.
        entry: which of that kind.
        task: what a container of it runs; its first port takes the calls.
        at: Unix ms when it was installed.
        is_offered: whether calls are taken.
    """

    kind: Word
    entry: Word
    task: Task
    at: int
    is_offered: bool = False

    @property
    def name(self) -> str:
        """Kind and entry in one."""
        return service_name(self.kind, self.entry)

    @property
    def service(self) -> Service:
        """As the pool knows it: another task is another image."""
        model = f"{self.entry}@{_digest(self.task).removeprefix('sha256:')[:_SHOWN]}"
        return Service(self.name, Image(self.kind, model, taken_by(self.task)))


class Services(msgspec.Struct, frozen=True):
    """The state: the services by name."""

    by_name: Mapping[str, Installed] = {}
    phase: ServicesPhase = ServicesPhase.HELD

    @property
    def offered(self) -> tuple[Installed, ...]:
        """Those that take calls."""
        return tuple(each for each in self.by_name.values() if each.is_offered)

    def of_image(self, image: Image) -> Installed | None:
        """The service that runs an image, if it is still installed."""
        return next((each for each in self.by_name.values() if each.service.image == image), None)


# ---------------------------------------------------------------------------------------------------------------- stimuli


class InstallWished(Stimulus, frozen=True):
    """The owner installs a service, or another task under the name of one that is there; that is offered on if it was."""

    kind: str
    entry: str
    task: Task


class OfferWished(Stimulus, frozen=True):
    """The owner has calls of a service taken from now on, or (`wanted` False) no longer."""

    name: str
    wanted: bool = True


class RemoveWished(Stimulus, frozen=True):
    """The owner takes a service away."""

    name: str


# ----------------------------------------------------------------------------------------------------------------- events


class ServiceInstalled(Event, frozen=True):
    """A service is there, or another task under its name."""

    installed: Installed


class ServiceOffered(Event, frozen=True):
    """Calls of a service are taken."""

    name: str


class ServiceWithdrawn(Event, frozen=True):
    """Calls of a service are taken no longer."""

    name: str


class ServiceRemoved(Event, frozen=True):
    """A service is gone."""

    name: str


# -------------------------------------------------------------------------------------------------------------- functions


def service_name(kind: str, entry: str) -> str:
    """Kind and entry in one."""
    return f"{kind}/{entry}"


def target_of(task: Task) -> Target:
    """To what a call leads in a container."""
    return ToPort(task.ports[0]) if task.ports else ToCalls()


def flaw_of(task: Task) -> str:
    """Why a task cannot be that of a service; empty if it can."""
    flaws = (
        (task.secrets, "it has secrets, which are sealed to one job"),
        (task.checkpoint, "it names a checkpoint, and a container of the pool begins anew"),
        (
            len(task.ports) != 1 and not takes_calls(task),
            f"it declares {format_count(len(task.ports), 'port')}, and has to listen on one",
        ),
    )
    return next((words for has_it, words in flaws if has_it), "")


def decide(services: Services, stimulus: Stimulus, now: int) -> Decision:
    """What becomes of the owner's wish at `now` (Unix ms)."""
    return TABLE[services.phase, type(stimulus)].handler(services, stimulus, now)


def evolve(services: Services, event: Event) -> Services:
    """The state after `event`."""
    by_name = dict(services.by_name)
    match event:
        case ServiceInstalled(installed=installed):
            by_name[installed.name] = installed
        case ServiceOffered(name=name):
            by_name[name] = msgspec.structs.replace(by_name[name], is_offered=True)
        case ServiceWithdrawn(name=name):
            by_name[name] = msgspec.structs.replace(by_name[name], is_offered=False)
        case ServiceRemoved(name=name):
            del by_name[name]
    return msgspec.structs.replace(services, by_name=by_name)


def let_go(before: Services, after: Services) -> tuple[Image, ...]:
    """The images of which no calls are taken any more."""
    kept = {each.service.image for each in after.offered}
    return tuple(image for each in before.offered if (image := each.service.image) not in kept)


def _install(services: Services, stimulus: InstallWished, now: int) -> Decision:
    known = services.by_name.get(service_name(stimulus.kind, stimulus.entry))
    if (known is not None and known.task == stimulus.task) or (known is None and len(services.by_name) >= MOST):
        return IGNORED
    is_offered = known is not None and known.is_offered
    return Decision((ServiceInstalled(Installed(stimulus.kind, stimulus.entry, stimulus.task, now, is_offered)),))


def _offer(services: Services, stimulus: OfferWished, _now: int) -> Decision:
    known = services.by_name.get(stimulus.name)
    if known is None or known.is_offered == stimulus.wanted:
        return IGNORED
    return Decision(((ServiceOffered if stimulus.wanted else ServiceWithdrawn)(stimulus.name),))


def _remove(services: Services, stimulus: RemoveWished, _now: int) -> Decision:
    return Decision((ServiceRemoved(stimulus.name),)) if stimulus.name in services.by_name else IGNORED


def _digest(task: Task) -> Digest:
    return digest_of(msgspec.msgpack.encode(task))


TABLE: Final[Table[Services]] = {
    (ServicesPhase.HELD, InstallWished): Row(
        _install,
        "there from now on, not yet offered; another task under its name takes its place; a repeat changes nothing",
    ),
    (ServicesPhase.HELD, OfferWished): Row(_offer, "calls are taken, or no longer; of one that is not there nothing"),
    (ServicesPhase.HELD, RemoveWished): Row(_remove, "gone; one that is not there already is"),
}
WISHES: Final = frozenset(kind for _, kind in TABLE)
"""The stimuli of this machine."""
