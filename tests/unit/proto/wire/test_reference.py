"""The contract in words says what the code does."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from dms_proto.messages import KINDS
from dms_proto.wire import (
    CLOCK_SKEW_MS,
    DEFAULT_LIMITS,
    MAX_DIRECT_FRAME,
    MAX_DIRECT_LIFETIME_MS,
    MAX_GOSSIP_FRAME,
    MAX_GOSSIP_LIFETIME_MS,
    KindClass,
    RefusalCode,
    ReplayWindow,
    encoding,
)
from dms_proto.wire.envelope import DOMAIN, MAX_AUTH, Signed
from dms_proto.wire.reference import kinds_reference

ROOT = Path(__file__).parents[4]
README = (ROOT / "proto" / "README.md").read_text(encoding="utf-8")


def test_the_generated_parts_are_those_of_the_code() -> None:
    spec = importlib.util.spec_from_file_location("make_wire_reference", ROOT / "scripts" / "make_wire_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.refreshed(README) == README, "run scripts/make_wire_reference.py"


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_section(kind: str) -> None:
    assert f"\n### {kind}\n" in README


@pytest.mark.parametrize("code", RefusalCode)
def test_every_refusal_is_in_the_order_of_checks_and_in_the_table(code: RefusalCode) -> None:
    checks, _, table = README.partition("<!-- refusals")
    assert f"`{code}`" in checks
    assert f"| `{code}` |" in table


def test_the_elements_of_an_envelope_are_named_in_their_order() -> None:
    rows = re.findall(r"^\| (\d+) \| (\w+) \|", README, re.MULTILINE)
    assert [name for _, name in rows] == list(Signed.__struct_fields__)
    assert [int(number) for number, _ in rows] == list(range(len(rows)))


@pytest.mark.parametrize(
    "number",
    [
        MAX_DIRECT_FRAME,
        MAX_GOSSIP_FRAME,
        MAX_DIRECT_LIFETIME_MS,
        MAX_GOSSIP_LIFETIME_MS,
        CLOCK_SKEW_MS,
        MAX_AUTH,
        encoding.MAX_STRING,
        encoding.MAX_ITEMS,
        encoding.MAX_KEYS,
    ],
)
def test_every_limit_is_named(number: int) -> None:
    assert f"{number:,}" in README


def test_the_bounds_of_the_replay_window_are_named() -> None:
    defaults = ReplayWindow.__init__.__kwdefaults__
    assert defaults is not None
    assert all(f"{number:,}" in README for number in defaults.values())


def test_the_domain_and_the_limit_on_answers_are_named() -> None:
    assert len(DOMAIN) == 15
    assert '15 bytes "dms/envelope/1" 00' in README
    answers = DEFAULT_LIMITS[KindClass.ANSWER]
    assert (answers.per_second, answers.burst) == (1, 20)
    assert "at most one a second and twenty at once" in README


def test_every_field_has_a_meaning() -> None:
    rows = [line for line in kinds_reference().splitlines() if line.startswith("| `")]
    assert rows
    assert [row for row in rows if row.endswith("|  |")] == []
