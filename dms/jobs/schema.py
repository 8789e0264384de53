"""The JSON Schema of job documents, generated from the types: for editors, and for `dms job schema`."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from dms.jobs.document import JobDocument

IDENTIFIER: Final = "https://dms.example/schemas/job.json"


def job_schema() -> dict[str, Any]:
    """A JSON Schema (2020-12) document. Quantities say how they are written; the unit parser decides in the end."""
    schema = schema_of(JobDocument, "dms job")
    return {"$schema": schema.pop("$schema"), "$id": IDENTIFIER, **schema}


def schema_of(kind: type[msgspec.Struct], title: str) -> dict[str, Any]:
    """The JSON Schema of any struct that people write."""
    (reference,), components = msgspec.json.schema_components([kind], ref_template="#/$defs/{name}")
    definitions = {name: _without_extras(schema) for name, schema in components.items()}
    root = definitions.pop(str(reference["$ref"]).rpartition("/")[2])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **root,
        "title": title,
        "$defs": definitions,
    }


def _without_extras(schema: Any) -> Any:
    match schema:
        case dict():
            return {
                key: _without_extras(value)
                for key, value in schema.items()
                if not (key == "unit" and isinstance(value, str))
            }
        case list():
            return [_without_extras(item) for item in schema]
        case _:
            return schema
