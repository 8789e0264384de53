"""Hypothesis strategies for everything that crosses the wire, read from the types themselves.

A new field or kind is covered as soon as it exists. Only rules that span fields (`__post_init__`) and patterns need a word here; a test fails when
one is missing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec
from hypothesis import strategies as st
from msgspec import inspect

from dms_proto import egress, ids, images, rules
from dms_proto.messages import KINDS, AllocationStatus, Commit, Message, Phase
from dms_proto.work import Ending, EndReason

_RAW_ID: Final = st.binary(min_size=ids.ID_BYTES, max_size=ids.ID_BYTES)


def request_ids() -> st.SearchStrategy[ids.RequestId]:
    """Request ids."""
    return _RAW_ID.map(ids.request_id)


def peer_ids() -> st.SearchStrategy[ids.PeerId]:
    """Peer ids of keys that need not be points of the curve."""
    return st.binary(min_size=ids.PUBLIC_KEY_BYTES, max_size=ids.PUBLIC_KEY_BYTES).map(ids.peer_id_of)


def bid_ids() -> st.SearchStrategy[ids.BidId]:
    """Bid ids, as they are derived."""
    return st.builds(ids.bid_id, request_ids(), peer_ids(), st.integers(0, 9))


def allocation_ids() -> st.SearchStrategy[ids.AllocationId]:
    """Allocation ids, as they are derived."""
    return st.builds(ids.allocation_id, bid_ids(), st.integers(0, rules.MAX_COUNT - 1))


def tab_ids() -> st.SearchStrategy[ids.TabId]:
    """Well-formed tab ids."""
    return st.binary(min_size=16, max_size=16).map(ids.tab_id)


def digests() -> st.SearchStrategy[ids.Digest]:
    """Digests of short contents."""
    return st.binary(max_size=8).map(ids.digest_of)


def relative_paths() -> st.SearchStrategy[str]:
    """Paths below a directory."""
    part = st.text(st.characters(exclude_characters="\0/", codec="utf-8"), min_size=1, max_size=12)
    return st.lists(part.filter(lambda name: name not in {".", ".."}), min_size=1, max_size=4).map("/".join)


def _pattern(alias: Any) -> str:
    found = inspect.type_info(alias)
    assert isinstance(found, inspect.StrType)
    assert found.pattern is not None
    return found.pattern


_BY_PATTERN: Final[dict[str, Callable[[], st.SearchStrategy[str]]]] = {
    _pattern(rules.GoodRequestId): request_ids,
    _pattern(rules.GoodBidId): bid_ids,
    _pattern(rules.BidIdOrNone): lambda: st.one_of(st.just(""), bid_ids()),
    _pattern(rules.GoodAllocationId): allocation_ids,
    _pattern(rules.GoodTabId): tab_ids,
    _pattern(rules.TabIdOrNone): lambda: st.one_of(st.just(""), tab_ids()),
    _pattern(rules.GoodGrantId): lambda: st.binary(max_size=8).map(ids.grant_id),
    _pattern(rules.GoodPeerId): peer_ids,
    _pattern(rules.Uuid): lambda: st.uuids().map(str),
    _pattern(rules.GoodDigest): digests,
    _pattern(rules.DigestOrNone): lambda: st.one_of(st.just(""), digests()),
    _pattern(egress.Destination): lambda: st.builds(
        "{}{}:{}".format,
        st.sampled_from(["", "*."]),
        st.sampled_from(["pypi.org", "a", "10.0.0.1"]),
        st.integers(1, 65_535),
    ),
    _pattern(rules.RelativePath): relative_paths,
    _pattern(rules.PathOrNone): lambda: st.one_of(st.just(""), relative_paths()),
    _pattern(rules.Argument): lambda: st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=40),
    _pattern(rules.VariableName): lambda: st.text(
        st.characters(exclude_characters="\0=", codec="utf-8"), min_size=1, max_size=20
    ),
    _pattern(images.PinnedImage): lambda: st.one_of(
        st.just(""), digests(), digests().map(lambda digest: f"registry.example:5000/lab/tool@{digest}")
    ),
    _pattern(rules.SecretName): lambda: st.from_regex(rules.IDENTIFIER, fullmatch=True),
}


def messages(kind: type[Message] | None = None) -> st.SearchStrategy[Any]:
    """Valid messages of `kind`, or of all kinds."""
    return structs(kind) if kind is not None else st.one_of([structs(each) for each in KINDS.values()])


def structs(kind: type[msgspec.Struct]) -> st.SearchStrategy[Any]:
    """Valid values of a struct type, each field within its bounds; fields with defaults are sometimes left out."""
    found = inspect.type_info(kind)
    assert isinstance(found, inspect.StructType)
    required = {field.name: of_type(field.type) for field in found.fields if field.required}
    optional = {field.name: of_type(field.type) for field in found.fields if not field.required}
    fields = st.fixed_dictionaries(required, optional=optional)
    return fields.map(_FIXES.get(kind, dict)).map(lambda values: kind(**values))


def of_type(found: inspect.Type) -> st.SearchStrategy[Any]:
    """Values of a type as msgspec describes it."""
    plain = _plain(found)
    return _composed(found) if plain is None else plain


def _plain(found: inspect.Type) -> st.SearchStrategy[Any] | None:
    match found:
        case inspect.IntType():
            low, high = _bounds(found)
            plain: st.SearchStrategy[Any] = st.one_of(st.integers(low, high), st.sampled_from((low, high)))
        case inspect.FloatType():
            plain = st.floats(found.ge, found.le, allow_nan=False, allow_infinity=False)
        case inspect.BoolType():
            plain = st.booleans()
        case inspect.BytesType():
            plain = st.binary(min_size=found.min_length or 0, max_size=min(found.max_length or 64, 64))
        case inspect.StrType(pattern=str() as pattern):
            plain = _BY_PATTERN[pattern]()
        case inspect.StrType():
            plain = st.text(min_size=found.min_length or 0, max_size=min(found.max_length or 40, 40))
        case inspect.EnumType():
            plain = st.sampled_from(found.cls)
        case inspect.NoneType():
            plain = st.none()
        case _:
            return None
    return plain


def _composed(found: inspect.Type) -> st.SearchStrategy[Any]:
    match found:
        case inspect.StructType():
            return structs(found.cls)
        case inspect.UnionType():
            return st.one_of([of_type(each) for each in found.types])
        case inspect.VarTupleType():
            most = min(found.max_length or 4, 4)
            return st.lists(of_type(found.item_type), min_size=found.min_length or 0, max_size=most).map(tuple)
        case inspect.FrozenSetType():
            return st.frozensets(of_type(found.item_type), max_size=4)
        case inspect.TupleType():
            return st.tuples(*[of_type(each) for each in found.item_types])
        case inspect.DictType():
            return st.dictionaries(of_type(found.key_type), of_type(found.value_type), max_size=4)
        case _:
            raise TypeError(f"no strategy for {found}; add one here")


def _bounds(found: inspect.IntType) -> tuple[int, int]:
    low = found.ge if found.ge is not None else (found.gt + 1 if found.gt is not None else -(2**31))
    high = found.le if found.le is not None else (found.lt - 1 if found.lt is not None else 2**31)
    return int(low), int(high)


def _fix_commit(values: dict[str, Any]) -> dict[str, Any]:
    slots = tuple(dict.fromkeys(values["slots"]))
    invocations = values.get("invocations", ())
    if invocations:
        invocations = (invocations * len(slots))[: len(slots)]
    return {**values, "slots": slots, "invocations": invocations}


def _fix_status(values: dict[str, Any]) -> dict[str, Any]:
    if values["phase"] is not Phase.ENDED:
        return {**values, "ending": None}
    return {**values, "ending": values.get("ending") or Ending(EndReason.COMPLETED, 0)}


_FIXES: Final[dict[type[msgspec.Struct], Callable[[dict[str, Any]], dict[str, Any]]]] = {
    Commit: _fix_commit,
    AllocationStatus: _fix_status,
}
"""Rules that span fields: how to make values keep them."""
