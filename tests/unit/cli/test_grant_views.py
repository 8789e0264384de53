"""Grants in words: what is well does not read as a failure."""

from __future__ import annotations

import msgspec
import pytest

from dms.cli.blocks import Line
from dms.cli.views import grants
from dms.rpc.api.grants import GrantList, GrantView
from dms.testing.samples import PROVIDER
from dms_proto.grants.rights import Rights
from dms_proto.ids import grant_id

VIEW = GrantView(grant_id(b"0" * 64), PROVIDER.peer_id, Rights(), ())


def last(view: GrantView) -> Line:
    *_, line = grants.one(view)
    assert isinstance(line, Line)
    return line


@pytest.mark.parametrize(
    ("changed", "says", "tone"),
    [
        ({}, "counts here", "good"),
        ({"held": True, "flaw": "not accepted here"}, "to be shown to others", "dim"),
        ({"flaw": "not accepted here"}, "does not count here", "warn"),
        ({"held": True, "revoked": True}, "revoked: it counts nowhere", "warn"),
    ],
)
def test_whether_a_grant_counts(changed: dict[str, object], says: str, tone: str) -> None:
    line = last(msgspec.structs.replace(VIEW, **changed))
    assert line.text.startswith(says)
    assert line.tone == tone


def test_a_forgotten_grant_is_not_kept() -> None:
    (line,) = grants.forgotten(VIEW)
    assert isinstance(line, Line)
    assert "is forgotten here" in line.text


def test_a_held_grant_that_is_revoked_is_listed_as_that() -> None:
    (table,) = grants.all_(GrantList((), (msgspec.structs.replace(VIEW, held=True, revoked=True),), ()))
    assert "revoked" in str(table)
