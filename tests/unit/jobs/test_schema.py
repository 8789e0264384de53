"""The JSON Schema says of every field what the types say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dms.jobs.document import JobDocument
from dms.jobs.resolve import resolve_file
from dms.jobs.schema import job_schema

EXAMPLES = sorted((Path(__file__).parents[3] / "examples" / "jobs").glob("*.[yj]*"))


def _all_properties(schema: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{name}.{field}", about)
        for name, part in (("job", schema), *schema["$defs"].items())
        for field, about in part.get("properties", {}).items()
    ]


def test_every_field_is_there_and_described() -> None:
    schema = job_schema()
    assert set(schema["properties"]) == {field.encode_name for field in msgspec.structs.fields(JobDocument)}
    undescribed = [name for name, about in _all_properties(schema) if len(about.get("description", "")) < 4]
    assert undescribed == []


def test_unknown_fields_are_forbidden_by_the_schema_too() -> None:
    schema = job_schema()
    assert schema["additionalProperties"] is False
    assert all(part.get("additionalProperties") is False for part in schema["$defs"].values() if "properties" in part)


def test_quantities_show_how_they_are_written() -> None:
    memory = job_schema()["$defs"]["ResourceNeeds"]["properties"]["memory"]
    assert memory["examples"] == ["512MiB", "4GiB"]
    assert "unit" not in memory


def test_every_reference_leads_somewhere_and_it_is_json() -> None:
    schema = job_schema()
    text = json.dumps(schema)
    for part in text.split('"$ref": "')[1:]:
        assert part.split('"')[0].removeprefix("#/$defs/") in schema["$defs"]


@pytest.mark.parametrize("path", EXAMPLES, ids=[path.name for path in EXAMPLES])
def test_every_example_resolves(path: Path) -> None:
    assert resolve_file(path).task.executor


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 4
