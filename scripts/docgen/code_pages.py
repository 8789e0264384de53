"""Reference pages read from tables in the code: configuration, events, errors, endings, expressions, job document, messages."""

from __future__ import annotations

import json
import typing
from typing import Any

import msgspec

from dms.config.reference import sections, settings
from dms.jobs.schema import job_schema
from dms.node.assembly import RELAXED
from dms_actors.events import EVENT_KINDS, MACHINES
from dms_proto import errors as error_module
from dms_proto.errors import CODES
from dms_proto.machine import Event, Transient
from dms_proto.market import terms
from dms_proto.market.variables import BID_VARIABLES, REQUEST_VARIABLES, Variable
from dms_proto.messages import CommitRefusal
from dms_proto.promises import PROMISES
from dms_proto.wire.reference import kinds_reference, refusals_reference
from dms_proto.work import DETERMINISTIC, NODE_FAULTS, OWNERS, EndReason

from .text import code, doc, markdown, page, summary, table, type_words
from .words import COMMIT_REFUSALS, END_REASONS, UNREAD_SETTINGS

MACHINE_TITLES = {
    "dms_proto.market.auction_events": ("The request", "stream: the request's id", "../concepts/market-round.md"),
    "dms_proto.market.offer_state": ("The offer book", "stream `market`", "../concepts/capacity.md"),
    "dms_proto.allocation.events": ("The allocation", "stream: the allocation's id", "../concepts/allocation.md"),
    "dms_proto.allocation.freezing": ("Giving way", "stream: the allocation's id", "../concepts/allocation.md"),
    "dms_proto.allocation.resizing": ("Another size", "stream: the allocation's id", "../guides/resize.md"),
    "dms_proto.allocation.tunnels": ("Commands beside a job", "stream: the allocation's id", "../guides/exec.md"),
    "dms_proto.membership.machine": ("The membership", "stream `peers`", "../concepts/membership.md"),
    "dms_proto.accounts.machine": ("The accounts", "stream `accounts`", "../concepts/accounts.md"),
    "dms_proto.grants.trust": ("Trust", "stream `trust`", "../concepts/grants.md"),
    "dms_proto.market.owner": ("The owner", "stream `owner`", "../concepts/capability.md"),
    "dms_proto.market.answers": ("Answers by earlier jobs", "stream `answers`", "../guides/job-document.md"),
    "dms_proto.pool.state": ("The pool", "stream `pool`", "../concepts/pools.md"),
    "dms_proto.pool.routes": ("Calls", "stream `calls`", "../concepts/pools.md"),
    "dms_proto.tabs.kept": ("Tabs of others", "stream `tabs_kept`", "../concepts/tabs.md"),
    "dms_proto.tabs.used": ("Tabs elsewhere", "stream `tabs_used`", "../concepts/tabs.md"),
    "dms_proto.pool.services": ("Services", "stream `services`", "../concepts/pools.md"),
    "dms_proto.market.proofs": ("Proofs", "stream: the request's id", "../guides/audit.md"),
}


def configuration() -> str:
    """Settings by section."""
    about = """
Settings stand in `HOME/config.toml`, a section per table. Each can also be given as an environment variable, which wins over the file. Lists are
comma-separated there, tables are `key=value,key=value`. Quantities are written with their unit (`4GiB`, `90s`, `2` cores, `0.02` credits); a bare
number of bytes, milliseconds or seconds is taken as it is. An unknown section, key or `DMS_…` variable of a section is an error with the nearest
name. A change takes effect when the node starts again.
"""
    parts = []
    for section, meaning in sections().items():
        rows = [
            (code(setting.name), code(setting.env), code(setting.default) or "unset", _kind(setting), _about(setting))
            for setting in settings()
            if setting.section == section
        ]
        parts.append(
            f"## {section}\n\n{meaning}\n\n" + table(("setting", "variable", "default", "type", "meaning"), rows)
        )
    return page("Configuration", about, *parts)


def _about(setting: Any) -> str:
    return ("**Not obeyed yet.** " if setting.key in UNREAD_SETTINGS else "") + setting.description


def _kind(setting: Any) -> str:
    if setting.choices:
        return setting.kind + " of " + ", ".join(code(choice) for choice in setting.choices)
    return f"{setting.kind}, {setting.unit}" if setting.unit else setting.kind


def events() -> str:
    """Events by machine."""
    about = """
Every event a node writes down, by the machine it belongs to. `dms events query` and `dms trace` show them; the kind in the store is the name below.

A **promise** is synced to the disk before anybody is told of it. An *observation* is written in the same order, at most one group commit later;
were it lost with the machine, the worst is that something is asked or told twice. A *transient* fact is folded into the state and never stored.
"""
    parts = []
    for module in MACHINES:
        title, stream, link = MACHINE_TITLES[module.__name__]
        kinds = [kind for kind in EVENT_KINDS.values() if kind.__module__ == module.__name__]
        rows = [(code(kind.__name__), summary(kind), _fields(kind), _durability(kind)) for kind in kinds]
        parts.append(
            f"## {title}\n\n{stream}; see [concepts]({link}).\n\n"
            + table(("event", "meaning", "fields", "written as"), rows)
        )
    return page("Events", about, *parts)


def _durability(kind: type[Event]) -> str:
    if issubclass(kind, Transient):
        return "transient"
    return "**promise**" if kind.__name__ in PROMISES else "observation"


def _fields(kind: type[Event]) -> str:
    hints = typing.get_type_hints(kind, include_extras=True)
    return ", ".join(f"`{field.encode_name}` {type_words(hints[field.name])}" for field in msgspec.structs.fields(kind))


def errors() -> str:
    """Error codes, refusals of commits, refusals of frames."""
    about = """
Codes are stable: one never changes its meaning. An error also has a message, a hint (the next step) and whether the same call may succeed later
without a change. Expected outcomes, such as a request without bids, are not errors: they are [end reasons](end-reasons.md).
"""
    owners = [
        (code(kind.__name__), summary(kind), "yes" if kind.retryable_by_default else "no")
        for kind in (
            error_module.UserError,
            error_module.PeerError,
            error_module.MachineError,
            error_module.InternalError,
        )
    ]
    headings = "\n\n".join(f"### {name}\n\n{markdown(meaning)}" for name, meaning in CODES.items())
    refusals = [(code(refusal.value), COMMIT_REFUSALS[refusal]) for refusal in CommitRefusal]
    return page(
        "Error codes",
        about,
        "## Whose doing it was\n\n" + table(("class", "meaning", "retryable unless said otherwise"), owners),
        "## Codes\n\n" + headings,
        "## Why a commit is refused\n\nA `CommitRefused` carries one of these. None of them is capacity: that is what the capability lock is for.\n\n"
        + table(("code", "meaning"), refusals),
        "## Why a frame is refused\n\nIn the order in which frames are checked. `dms status` counts them.\n\n"
        + refusals_reference(),
    )


def end_reasons() -> str:
    """How requests and allocations end."""
    about = """
An allocation, and a request, ends with exactly one reason. Its owner says whose doing it was. What follows depends on the reason's class:

- the **job's own** failure is tried on one more, different node (`retry.job_failures`, default 2 nodes), then believed. It never counts against a
  node.
- a **node's fault** moves on to the next node (`retry.node_faults`, default 5) and counts against the faulty one.
- anything else ends the attempt or the request as it says.
"""
    rows = [(code(reason.value), OWNERS[reason].value, _class(reason), END_REASONS[reason]) for reason in EndReason]
    return page("End reasons", about, table(("reason", "owner", "class", "meaning"), rows))


def _class(reason: EndReason) -> str:
    return "job's own" if reason in DETERMINISTIC else "node's fault" if reason in NODE_FAULTS else ""


def messages() -> str:
    """Message kinds."""
    about = """
What nodes say to each other: the fields of each kind, then of the parts they are made of. How they become bytes, and which bytes are refused, is in
the [protocol specification](../protocol/specification.md). Times are Unix milliseconds, prices micro-credits, CPU millicores.
"""
    return page("Messages", about, kinds_reference())


def expressions() -> str:
    """Variables and terms."""
    about = """
Constraints and ranks are written in [CEL](https://cel.dev), the Common Expression Language. Quantities are doubles in the unit people use, counts
are integers; comparing the two is fine, arithmetic needs `2.0` instead of `2`. A field without a value (a round trip not yet measured) is not
there: an expression that needs it is unknown, which is never taken for yes; `has(link.rtt_ms)` asks. Long or deeply nested expressions, `map` and
nested comprehensions are refused.
"""
    named = [(code(name), _term(name)) for name in terms.TERMS]
    return page(
        "Expressions and terms",
        about,
        "## For a requester: constraints and rank\n\n" + _variables(BID_VARIABLES),
        "## For a provider: conditions\n\n" + _variables(REQUEST_VARIABLES),
        "## Terms of a preference\n\nNamed in `weights`. Each is from 0 (worst) to 1 (best); `spare_gpu` is a penalty, from -1 to 0.\n\n"
        + table(("term", "meaning"), [*named, ("`rank`", "the value of the CEL expression in `rank`, from 0 to 1")]),
    )


def _term(name: str) -> str:
    text = doc(__import__(f"dms_proto.market.terms.{name}", fromlist=["_"]))
    return " ".join(text.removeprefix(f"{name}: ").split())


def _variables(variables: Any) -> str:
    rows = []
    for name, fields in variables.items():
        if isinstance(fields, Variable):
            rows.append((code(name), fields.meaning))
        else:
            rows += [(code(f"{name}.{field}"), variable.meaning) for field, variable in fields.items()]
    return table(("variable", "meaning"), rows)


def job_document() -> str:
    """Fields of the job document."""
    schema = job_schema()
    about = """
A job document is YAML or JSON. `dms job submit FILE` sends it; a document that breaks a rule is refused with field, line and rule, and nothing is
sent. Every field has a default but `command` (or `module`). The same as a JSON Schema: `dms job schema`, or [job.schema.json](job.schema.json) for
your editor. The [guide](../guides/job-document.md) shows documents by task.
"""
    parts = [_object("The document", schema)]
    parts += [_object(name, definition) for name, definition in schema["$defs"].items() if "properties" in definition]
    return page("Job document", about, *parts)


def job_schema_file() -> str:
    """The JSON Schema itself."""
    return json.dumps(job_schema(), indent=2) + "\n"


def _object(name: str, schema: dict[str, Any]) -> str:
    rows = [
        (code(key), _schema_words(value), code(_default(value)), value.get("description", "") + _examples(value))
        for key, value in schema["properties"].items()
    ]
    return f"## {name}\n\n{schema.get('description', '')}\n\n" + table(("field", "type", "default", "meaning"), rows)


def _schema_words(schema: dict[str, Any]) -> str:  # noqa: PLR0911 - one line per form of schema
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return (
            f"[{name}](#{name.lower()})"
            if name[0].isupper()
            and name not in ("Apart", "ExecBy", "Isolation", "JobClass", "Policy", "Pricing", "Pull")
            else name
        )
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_schema_words(each) for each in schema["anyOf"]))
    if "enum" in schema:
        return ", ".join(code(str(value)) for value in schema["enum"])
    match schema.get("type"):
        case "array":
            return f"list of {_schema_words(schema.get('items') or {})}"
        case "object":
            return f"map to {_schema_words(schema.get('additionalProperties') or {})}"
        case str() as plain:
            return {"string": "text"}.get(plain, plain)
        case _:
            return "anything"


def _default(schema: dict[str, Any]) -> str:
    default = schema.get("default")
    return "" if default in (None, {}, []) else json.dumps(default)


def _examples(schema: dict[str, Any]) -> str:
    examples = schema.get("examples")
    return f" Such as {', '.join(code(json.dumps(each)) for each in examples)}." if examples else ""


def undocumented() -> list[str]:
    """Settings, events, errors, endings, job fields without a word about them."""
    wrong = [f"setting {s.key} has no description" for s in settings() if not s.description]
    wrong += [f"section {name} has no description" for name, meaning in sections().items() if not meaning]
    wrong += [
        f"event {name} has no docstring of its own"
        for name, kind in EVENT_KINDS.items()
        if "__doc__" not in vars(kind) or not kind.__doc__
    ]
    wrong += [f"promise {name} is not an event" for name in PROMISES if name not in EVENT_KINDS]
    wrong += [f"error {name} has no meaning" for name, meaning in CODES.items() if not meaning.strip()]
    wrong += [
        f"end reason {reason} has no words in docgen/words.py" for reason in EndReason if reason not in END_REASONS
    ]
    wrong += [
        f"commit refusal {refusal} has no words in docgen/words.py"
        for refusal in CommitRefusal
        if refusal not in COMMIT_REFUSALS
    ]
    wrong += [f"{name} is stored durably and observed only" for name in RELAXED & PROMISES]
    schema = job_schema()
    for name, part in {"job": schema, **schema["$defs"]}.items():
        wrong += [
            f"{name}.{key} has no description"
            for key, value in part.get("properties", {}).items()
            if not value.get("description")
        ]
    return wrong
