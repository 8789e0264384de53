from __future__ import annotations

import pytest

from dms.config.migrations import MIGRATIONS, Document, migrate
from dms.config.settings import VERSION
from dms_proto.errors import UserError


def rename_a_to_b(document: Document) -> Document:
    return {("b" if key == "a" else key): value for key, value in document.items()}


def double_b(document: Document) -> Document:
    return {**document, "b": document["b"] * 2}


STEPS = ((1, rename_a_to_b), (2, double_b))


def test_each_step_runs_once_and_in_order() -> None:
    assert migrate({"version": 1, "a": 5}, STEPS, newest=3) == {"version": 3, "b": 10}


def test_a_file_of_a_middle_version_takes_the_later_steps_only() -> None:
    assert migrate({"version": 2, "b": 5}, STEPS, newest=3) == {"version": 3, "b": 10}


def test_a_file_that_names_no_version_is_of_the_first() -> None:
    assert migrate({"a": 5}, STEPS, newest=3)["b"] == 10


def test_the_given_document_is_not_changed() -> None:
    document: Document = {"a": 5}
    migrate(document, STEPS, newest=3)
    assert document == {"a": 5}


@pytest.mark.parametrize("version", [0, -1, "1", 1.0, True, None])
def test_what_is_no_version_is_refused(version: object) -> None:
    with pytest.raises(UserError, match="not a positive whole number"):
        migrate({"version": version})


def test_a_newer_file_is_refused_with_a_way_out() -> None:
    with pytest.raises(UserError) as caught:
        migrate({"version": VERSION + 1})
    assert caught.value.code == "bad_config"
    assert "newer" in caught.value.hint


def test_the_table_leads_from_one_to_the_newest_without_gaps() -> None:
    assert [reads for reads, _ in MIGRATIONS] == list(range(1, VERSION))
