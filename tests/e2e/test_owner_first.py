"""The owner comes first, through whole nodes: what runs in a real sandbox stands still, and the owner is told why and since when."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from dms.devnet.topology import NodeSpec
from dms.testing.foreign_load import foreign_load
from dms.testing.frozen import frozen
from dms.testing.whole_market import (
    MARK,
    PROVIDER,
    REQUESTER,
    WholeMarket,
    first_line,
    marked_job,
    processes_marked,
    wait_until,
    whole_market,
)

pytestmark = [pytest.mark.slow, pytest.mark.libp2p]

AT_KEYS = {"enabled": True, "cpu": "0", "typing": True, "battery": False, "resume_after_s": 1}
"""Keys alone are a sign: other programs of a machine that runs tests are always there."""
JOB = ("--cpu", "0.2", "--memory", "64MiB", "--disk", "16MiB", "--max-price", "100", "--queue", "60s")


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeMarket]:
    wishes = {f"owner_first.{name}": value for name, value in AT_KEYS.items()}
    provider = NodeSpec(PROVIDER.name, PROVIDER.role, {**PROVIDER.settings, **wishes})
    with whole_market(tmp_path_factory.mktemp("owner"), REQUESTER, provider) as market:
        yield market


@pytest.fixture
def mark(market: WholeMarket) -> Iterator[str]:
    with marked_job(market) as mark:
        yield mark


@contextmanager
def running(market: WholeMarket, mark: str, node: str = "requester") -> Iterator[None]:
    """A job that uses all it has, from its first line on."""
    asked = ("run", *JOB, "-e", f"{MARK}={mark}", "--", "sh", "-c", "echo up; while :; do :; done")
    with market.started(*asked, node=node) as run:
        first_line(run)
        assert processes_marked(mark)
        yield
        job = market.json("job", "list", node=node)["jobs"][0]["job_id"]
        assert market.dms("job", "cancel", job, node=node).returncode == 0


@contextmanager
def keys() -> Iterator[tuple[int, int]]:
    """A terminal of somebody's."""
    ends = os.openpty()
    try:
        yield ends
    finally:
        for end in ends:
            os.close(end)


def type_at(ends: tuple[int, int]) -> None:
    os.write(ends[0], b"x\n")
    os.read(ends[1], 16)


def stands_still(mark: str) -> bool:
    """Whether all processes of a job do."""
    return frozen(processes_marked(mark)) == {True}


def goes_on(mark: str) -> bool:
    """Whether all of them do."""
    return frozen(processes_marked(mark)) == {False}


def here(market: WholeMarket) -> Any:
    """The allocation that runs at the provider, as its owner sees it."""
    (shown,) = market.json("alloc", "list", "--active", node="provider")["allocations"]
    return shown


def test_a_job_stands_still_while_its_owner_types_and_goes_on(market: WholeMarket, mark: str) -> None:
    with running(market, mark):
        with keys() as ends:

            def typed_until_still() -> bool:
                type_at(ends)
                return stands_still(mark)

            wait_until(typed_until_still, "the job stands still")
            shown = here(market)
            assert shown["frozen"] == "somebody types at the machine"
            assert shown["frozen_since"] > shown["started_at"]
            listed = market.dms("alloc", "list", "--active", node="provider").stdout
            assert "frozen for" in listed
            assert "somebody types at the machine" in listed
            assert "running" not in listed
            wait_until(
                lambda: market.json("alloc", "list", "--active")["allocations"][0].get("frozen"),
                "its requester is told",
            )
        wait_until(lambda: goes_on(mark), "the job goes on")
        wait_until(lambda: here(market).get("frozen", "") == "", "its owner sees that")
        assert here(market)["phase"] == "running"


def test_a_job_that_its_node_finds_again_stands_still_when_others_need_the_machine(
    market: WholeMarket, mark: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = market["provider"]
    with running(market, mark, "provider"):
        provider.kill()
        monkeypatch.setenv("DMS_OWNER_FIRST_CPU", "0.2")
        provider.launch()
        provider.wait_ready()
        with foreign_load():
            wait_until(lambda: stands_still(mark), "the job stands still")
            wait_until(lambda: here(market).get("frozen", "").startswith("other programs use "), "its owner sees why")
        provider.kill()
        monkeypatch.delenv("DMS_OWNER_FIRST_CPU")
        provider.launch()
        provider.wait_ready()
        wait_until(lambda: goes_on(mark), "the job goes on, with nobody there that it gives way to")
