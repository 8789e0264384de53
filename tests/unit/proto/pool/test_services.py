"""Services of a node: what its owner's wishes lead to, who may call, and what becomes of the containers."""

from __future__ import annotations

from functools import reduce

import msgspec
import pytest

from dms_actors.events import from_row, to_row
from dms_actors.ports import StoredEvent
from dms_proto.capability import Resources
from dms_proto.egress import Egress, read_destination
from dms_proto.errors import UserError
from dms_proto.grants.access import Access, Credential
from dms_proto.grants.rights import CALL, Rights
from dms_proto.ids import AllocationId, PeerId
from dms_proto.machine import Event, Stimulus
from dms_proto.market.offer_state import OfferBook
from dms_proto.market.preferences import ProviderPolicy
from dms_proto.pool import machine
from dms_proto.pool.callers import OWN_TIER, admitted, call_refused, tier_of_caller
from dms_proto.pool.fold import evolve as evolve_pool
from dms_proto.pool.records import Because, CallId, ContainerId, ContainerPhase, Image, Service
from dms_proto.pool.refusals import Code, InTheWay, Refusal
from dms_proto.pool.services import (
    MOST,
    Installed,
    InstallWished,
    OfferWished,
    RemoveWished,
    ServiceInstalled,
    Services,
    decide,
    evolve,
    flaw_of,
    let_go,
    target_of,
)
from dms_proto.pool.state import Called, CallEnded, CapacityWished, ImageWithdrawn, Pool, Refuse, Started, StopContainer
from dms_proto.secrets import Secret
from dms_proto.tunnels import (
    Opening,
    ToCalls,
    ToPort,
    ToService,
    read_opening,
    read_target,
    write_opening,
    write_target,
)
from dms_proto.units import GIB, MIB
from dms_proto.work import EGRESS_PROXY_BYTES, PORT_AGENT_BYTES, PYTHON, Task

ME, OWN, OTHER = PeerId("me"), PeerId("own"), PeerId("other")
SIZE = Resources(500, 64 * MIB, 16 * MIB)
TASK = Task("sandbox", ("serve",), resources=SIZE, ports=(8080,))
NAME = "command/echo"


def after(*wishes: Stimulus, services: Services = Services()) -> Services:  # noqa: B008 - frozen
    for wish in wishes:
        services = reduce(evolve, decide(services, wish, 7).events, services)
    return services


INSTALL = InstallWished("command", "echo", TASK)


def test_what_is_installed_is_offered_once_it_is_started_and_no_longer_when_stopped() -> None:
    installed = after(INSTALL)
    assert (installed.by_name[NAME].at, installed.offered) == (7, ())
    offered = after(OfferWished(NAME), services=installed)
    assert [each.name for each in offered.offered] == [NAME]
    assert after(OfferWished(NAME, wanted=False), services=offered).offered == ()
    assert after(RemoveWished(NAME), services=offered).by_name == {}


@pytest.mark.parametrize(
    "wish", [INSTALL, OfferWished(NAME), OfferWished("command/none"), RemoveWished("command/none")]
)
def test_a_repeat_and_what_is_not_there_change_nothing(wish: Stimulus) -> None:
    assert decide(after(INSTALL, OfferWished(NAME)), wish, 8).events == ()


def test_another_task_under_the_same_name_is_another_image_and_stays_offered() -> None:
    before = after(INSTALL, OfferWished(NAME))
    changed = after(InstallWished("command", "echo", Task("sandbox", ("other",), ports=(1,))), services=before)
    assert changed.by_name[NAME].is_offered
    (image,) = let_go(before, changed)
    assert image == before.by_name[NAME].service.image != changed.by_name[NAME].service.image
    assert changed.of_image(image) is None
    assert let_go(before, before) == ()


def test_a_container_is_as_large_as_its_program_and_what_leads_into_and_out_of_it() -> None:
    with_proxy = msgspec.structs.replace(TASK, egress=Egress((read_destination("example.org:443"),)))
    sizes = [Installed("k", "e", task, 0).service.image.size.memory_bytes for task in (TASK, with_proxy)]

    assert sizes == [64 * MIB + PORT_AGENT_BYTES, 64 * MIB + PORT_AGENT_BYTES + EGRESS_PROXY_BYTES]


def test_there_are_not_more_than_may_be() -> None:
    full = Services({f"k/{n}": Installed("k", str(n), TASK, 0) for n in range(MOST)})
    assert decide(full, INSTALL, 8).events == ()
    assert decide(full, InstallWished("k", "1", Task("sandbox")), 8).events != ()


def test_the_events_can_be_written_and_read() -> None:
    event: Event = ServiceInstalled(after(INSTALL).by_name[NAME])
    row = to_row("services", event, "test")
    assert from_row(StoredEvent(1, row.stream, 1, row.kind, 0, row.cause_id, row.body)) == event


def test_a_service_listens_on_one_port_or_takes_calls() -> None:
    assert flaw_of(TASK) == ""
    assert target_of(TASK) == ToPort(8080)
    python = Task(PYTHON)
    assert (flaw_of(python), target_of(python)) == ("", ToCalls())
    assert "declares 0 ports" in flaw_of(Task("sandbox", ("x",)))
    assert "declares 2 ports" in flaw_of(Task("sandbox", ("x",), ports=(1, 2)))
    assert "secrets" in flaw_of(Task("sandbox", ("x",), ports=(1,), secrets=(Secret("A", b"x"),)))


def test_an_opening_names_a_service_and_shows_a_grant() -> None:
    opening = Opening(AllocationId(""), write_target(ToService(NAME)), grant=b"grant")
    assert read_opening(write_opening(opening)) == opening
    assert read_target(opening.target) == ToService(NAME)


def book(access: Access = Access.PUBLIC) -> OfferBook:
    return OfferBook(ME, policy=ProviderPolicy(access=access, own_peers=(OWN,)))


def shown(*kinds: str, own: bool = False) -> Credential:
    return Credential(Rights(one_of={"kind": kinds} if kinds else {}, own=own), "", (ME,))


OFFERED = after(INSTALL, OfferWished(NAME))
SERVICE = OFFERED.by_name[NAME].service


@pytest.mark.parametrize("peer", [ME, OWN])
def test_the_owner_s_machines_call_without_a_grant_and_go_first(peer: PeerId) -> None:
    assert admitted(book(Access.OWN), OFFERED, peer, NAME, Credential()) == SERVICE
    assert tier_of_caller(book(), peer, Credential()) == OWN_TIER


def test_others_call_under_a_grant_alone_even_where_the_market_is_public() -> None:
    with pytest.raises(UserError, match="calls take a grant: wanted the right to call, there no grant was shown"):
        admitted(book(), OFFERED, OTHER, NAME, Credential(anchors=(ME,)))
    with pytest.raises(UserError, match="calls take a grant"):
        admitted(book(), OFFERED, OTHER, NAME, shown("request"))
    for kinds in ((CALL,), ()):
        assert admitted(book(), OFFERED, OTHER, NAME, shown(*kinds)) == SERVICE
    assert tier_of_caller(book(), OTHER, shown(CALL)) == 0


def test_a_node_for_own_machines_takes_calls_of_those_alone() -> None:
    with pytest.raises(UserError, match="a machine of the same owner"):
        admitted(book(Access.OWN), OFFERED, OTHER, NAME, shown(CALL))
    assert admitted(book(Access.OWN), OFFERED, OTHER, NAME, shown(CALL, own=True)) == SERVICE


def test_who_may_not_call_does_not_hear_what_is_offered() -> None:
    with pytest.raises(UserError, match="calls take a grant") as caught:
        admitted(book(), OFFERED, OTHER, "command/none", Credential())
    assert NAME not in caught.value.message
    with pytest.raises(UserError, match=f"command/none is not offered there; offered are: {NAME}"):
        admitted(book(), OFFERED, OTHER, "command/none", shown(CALL))


def test_a_refusal_tells_nothing_of_other_containers() -> None:
    refusal = Refusal(
        Code.NO_ROOM, "the pool is full", wait_ms=2_000, in_the_way=(InTheWay(ContainerId("c-9"), "hot"),)
    )
    error = call_refused(refusal)
    assert (error.code, error.retryable) == ("call_refused", True)
    assert error.message == "the pool is full; nearest: again in 2 s"


# ------------------------------------------------------------------------------------------------------ what is withdrawn


IMAGE = Image("command", "echo@1", SIZE)


def pool(*stimuli: Stimulus) -> Pool:
    state = Pool()
    for at, stimulus in enumerate((CapacityWished(Resources(2_000, GIB, GIB)), *stimuli), 1_000):
        state = reduce(evolve_pool, machine.decide(state, stimulus, at).events, state)
    return state


CALL_1, CALL_2 = (Called(CallId(name), OTHER, Service(NAME, IMAGE)) for name in ("1", "2"))
READY = Started(ContainerId("c-1"))


def test_an_idle_container_of_what_is_withdrawn_stops_and_what_pointed_to_it_is_forgotten() -> None:
    idle = pool(CALL_1, READY, CallEnded(CALL_1.call_id))
    decision = machine.decide(idle, ImageWithdrawn(IMAGE), 2_000)
    assert StopContainer(ContainerId("c-1")) in decision.effects
    assert not reduce(evolve_pool, decision.events, idle).virtual


def test_a_busy_container_of_what_is_withdrawn_stops_when_its_calls_are_over() -> None:
    busy = pool(CALL_1, READY, CALL_2, ImageWithdrawn(IMAGE))
    (container,) = busy.containers.values()
    assert (container.phase, container.because) == (ContainerPhase.DRAINING, Because.WITHDRAWN)
    over = pool(CALL_1, READY, CALL_2, ImageWithdrawn(IMAGE), CallEnded(CALL_1.call_id), CallEnded(CALL_2.call_id))
    assert [each.phase for each in over.containers.values()] == [ContainerPhase.STOPPING]


def test_containers_of_other_images_are_left_alone() -> None:
    idle = pool(CALL_1, READY, CallEnded(CALL_1.call_id))
    decision = machine.decide(idle, ImageWithdrawn(Image("command", "other")), 2_000)
    assert (decision.events, [effect for effect in decision.effects if not isinstance(effect, Refuse)]) == ((), [])
