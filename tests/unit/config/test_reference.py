from __future__ import annotations

import pytest

from dms.config.loading import quantity
from dms.config.reference import nearest, sections, settings, spell


def test_every_setting_has_a_meaning_in_whole_sentences_and_its_own_variable() -> None:
    variables = [setting.env for setting in settings()]
    assert len(variables) == len(set(variables))
    for setting in settings():
        assert setting.description.endswith("."), setting.key
        assert len(setting.description) > 15, setting.key
        assert setting.env == f"DMS_{setting.section}_{setting.name}".upper()


def test_every_section_has_one_line() -> None:
    assert all(line.endswith(".") for line in sections().values())
    assert {setting.section for setting in settings()} == set(sections())


def test_kinds_units_and_choices_are_told_from_the_types() -> None:
    by_key = {setting.key: setting for setting in settings()}
    assert by_key["provider.cpu"].unit == "cores"
    assert by_key["provider.cpu"].kind == "int"
    assert by_key["network.listen"].kind == "list"
    assert by_key["node.labels"].kind == "table"
    assert by_key["network.mdns"].kind == "bool"
    assert by_key["node.name"].kind == "str"
    assert "container" in by_key["executors.minimum_isolation"].choices
    assert by_key["provider.job_classes"].choices == ("batch", "interactive", "service")


@pytest.mark.parametrize("unit", ["cores", "bytes", "ms", "seconds", "credits", "credits per hour"])
@pytest.mark.parametrize("value", [0, 1, 7, 999, 1000, 1024, 1500, 60_000, 90_000, 2**20, 5 * 2**30, 3_600_000, 10**12])
def test_a_spelled_quantity_is_read_back_exactly(value: int, unit: str) -> None:
    assert quantity(spell(value, unit), unit) == value


def test_the_nearest_name_is_close_or_none() -> None:
    assert nearest("windw_ms", ["window_ms", "ack_timeout_ms"]) == "window_ms"
    assert nearest("zebra", ["window_ms"]) == ""
