"""What a run may use of what was reserved for it, its agents included."""

from __future__ import annotations

import pytest

from dms_proto.capability import Gpu, Resources
from dms_proto.egress import Egress
from dms_proto.siblings import Names
from dms_proto.units import MIB
from dms_proto.work import (
    EGRESS_PROXY_BYTES,
    EXEC_AGENT_BYTES,
    NAMES_KEEPER_BYTES,
    PORT_AGENT_BYTES,
    PYTHON,
    SANDBOX,
    ExecBy,
    Task,
    agent_bytes,
    within,
)


def task(memory: int, executor: str = SANDBOX, *, ports: tuple[int, ...] = (8080,)) -> Task:
    return Task(executor, ("serve",), resources=Resources(1000, memory), ports=ports)


@pytest.mark.parametrize("reserved", [64 * MIB, 512 * MIB, 512 * MIB + PORT_AGENT_BYTES, 1024 * MIB])
def test_a_job_with_its_agents_stays_within_what_was_reserved(reserved: int) -> None:
    run = within(task(512 * MIB), Resources(1000, reserved))
    own = run.resources.memory_bytes
    assert own + PORT_AGENT_BYTES <= reserved
    assert own == min(512 * MIB, reserved - PORT_AGENT_BYTES)


def test_without_agents_nothing_is_taken_from_a_job_and_without_a_reservation_neither() -> None:
    assert within(task(64 * MIB, ports=()), Resources(1000, 64 * MIB)).resources.memory_bytes == 64 * MIB
    assert within(task(0), Resources(1000)).resources.memory_bytes == 0


def test_its_devices_are_those_that_were_reserved() -> None:
    gpus = (Gpu("1", "nvidia"),)
    assert within(task(MIB), Resources(1000, 64 * MIB, 0, gpus)).resources.gpus == gpus


def test_agents_are_where_there_is_something_to_lead_to() -> None:
    assert agent_bytes(SANDBOX, (), ExecBy.NOBODY) == 0
    assert agent_bytes(SANDBOX, (1, 2), ExecBy.GRANTED) == PORT_AGENT_BYTES + EXEC_AGENT_BYTES
    assert agent_bytes(PYTHON, (), ExecBy.REQUESTER) == EXEC_AGENT_BYTES
    assert agent_bytes("oci", (1,), ExecBy.REQUESTER) == PORT_AGENT_BYTES + EXEC_AGENT_BYTES
    assert agent_bytes("wasm", (1,), ExecBy.REQUESTER) == 0
    named = agent_bytes(SANDBOX, (1,), ExecBy.NOBODY, names=Names(0, 2))
    assert named == PORT_AGENT_BYTES + NAMES_KEEPER_BYTES
    out = Egress(("pypi.org:443",), 1)
    assert (
        agent_bytes(PYTHON, (), ExecBy.NOBODY, out)
        == agent_bytes(SANDBOX, (), ExecBy.NOBODY, out)
        == EGRESS_PROXY_BYTES
    )
