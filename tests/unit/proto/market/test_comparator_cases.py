"""The cases in tests/fixtures/comparator: job, machine, and the verdict per dimension with its reason."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from dms_proto.market.cases import Case, differences, read_cases
from dms_proto.market.comparator import CapabilityComparator
from dms_proto.market.comparison import fits

FILES = sorted((Path(__file__).parents[3] / "fixtures" / "comparator").glob("*.yaml"))
CASES = [(file.stem, case) for file in FILES for case in read_cases(yaml.safe_load(file.read_text(encoding="utf-8")))]


@pytest.mark.parametrize("case", [pytest.param(case, id=f"{stem}: {case.name}") for stem, case in CASES])
def test_the_comparator_gives_the_verdicts_of_the_case(case: Case) -> None:
    assert differences(case, CapabilityComparator().compare) == []
    assert fits(case.required, case.offered, max_price=case.max_price) == (case.over_all in ("better", "equal"))


def test_there_are_at_least_two_hundred_cases_with_different_names() -> None:
    assert len(CASES) >= 200
    assert len({(stem, case.name) for stem, case in CASES}) == len(CASES)


def test_a_comparator_that_judges_otherwise_is_found_out() -> None:
    case = next(case for _, case in CASES if case.name == "one of two")
    swapped = lambda required, offered, **rest: CapabilityComparator().compare(offered, required, **rest)  # noqa: E731
    assert differences(case, swapped) != []


def test_a_case_with_an_unknown_key_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"odd.*colour"):
        read_cases([{"name": "odd", "job": {"colour": "red"}, "machine": {}, "over_all": "equal"}])
