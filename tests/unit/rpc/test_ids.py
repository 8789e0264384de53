"""Short ids work when they are unique, and say what they could mean when they are not."""

from __future__ import annotations

import pytest

from dms.rpc.ids import match_id, match_peer
from dms_proto.errors import UserError

JOBS = ["r-aaaabbbb", "r-aaaacccc", "r-dddd"]
PEERS = {"12D3KooWaaaaXYZ1": "alpha", "12D3KooWbbbbXYZ2": "beta", "12D3KooWccccXYZ3": "beta"}


@pytest.mark.parametrize(
    ("given", "means"), [("r-aaaabbbb", "r-aaaabbbb"), ("r-aaaab", "r-aaaabbbb"), ("r-d", "r-dddd")]
)
def test_a_unique_beginning_is_enough(given: str, means: str) -> None:
    assert match_id(given, JOBS, "job") == means


@pytest.mark.parametrize(
    ("given", "code"),
    [("r-aaaa", "ambiguous_id"), ("r-", "ambiguous_id"), ("r-x", "not_found"), ("", "not_found"), ("r", "not_found")],
)
def test_anything_else_is_refused(given: str, code: str) -> None:
    with pytest.raises(UserError) as caught:
        match_id(given, JOBS, "job")
    assert caught.value.code == code
    assert caught.value.hint


def test_an_ambiguous_id_lists_the_candidates() -> None:
    with pytest.raises(UserError, match="r-aaaabbbb, r-aaaacccc"):
        match_id("r-aaaa", JOBS, "job")


def test_an_exact_id_wins_over_a_longer_one() -> None:
    assert match_id("ab", ["ab", "abc"], "job") == "ab"


@pytest.mark.parametrize("given", ["alpha", "…aaaaXYZ1", "XYZ1", "...XYZ1", "12D3KooWa", "12D3KooWaaaaXYZ1"])
def test_a_peer_is_known_by_name_beginning_or_end(given: str) -> None:
    assert match_peer(given, PEERS) == "12D3KooWaaaaXYZ1"


@pytest.mark.parametrize(
    ("given", "code"), [("beta", "ambiguous_id"), ("12D3", "ambiguous_id"), ("gamma", "not_found"), ("…", "not_found")]
)
def test_a_peer_that_is_not_one_is_refused(given: str, code: str) -> None:
    with pytest.raises(UserError) as caught:
        match_peer(given, PEERS)
    assert caught.value.code == code
