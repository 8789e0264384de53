"""What the doctor says of a container engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from dms.config import Config, Home
from dms.config.settings import Executors
from dms.node.doctor import Subject, examine
from dms.rpc.api.events import Finding

from .conftest import Ground

pytestmark = pytest.mark.slow


async def test_an_engine_that_answers_and_is_not_enabled_is_named(tmp_path: Path, ground: Ground) -> None:
    config = Config(executors=Executors(oci_socket=ground.socket))
    report = await examine(Subject(Home(tmp_path), config), ["executors"])
    check = report.checks[-1]
    assert (check.name, check.finding) == ("oci", Finding.SKIP)
    assert f"not enabled; {ground.name}" in check.evidence
    assert "executors.enabled" in check.fix


async def test_one_that_is_enabled_and_does_not_answer_is_missed(tmp_path: Path) -> None:
    config = Config(executors=Executors(enabled=("oci",), oci_socket=str(tmp_path / "none.sock")))
    report = await examine(Subject(Home(tmp_path), config), ["executors"])
    (check,) = [check for check in report.checks if check.name == "oci"]
    assert check.finding in (Finding.WARN, Finding.FAIL)
    assert "no container engine answers" in check.evidence


async def test_an_engine_that_is_enabled_and_limits_nothing_is_missed_with_what_it_needs(
    tmp_path: Path, ground: Ground
) -> None:
    if ground.facts.has_cgroups:
        pytest.skip("this engine limits what it runs")
    config = Config(executors=Executors(enabled=("oci",), oci_socket=ground.socket))
    report = await examine(Subject(Home(tmp_path), config), ["executors"])
    (check,) = [check for check in report.checks if check.name == "oci"]
    assert check.finding in (Finding.WARN, Finding.FAIL)
    assert "keeps no limit of memory and processes" in check.evidence
    assert "cgroup v2, delegated to its user" in check.fix
