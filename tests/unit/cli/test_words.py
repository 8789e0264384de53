"""Words that all views share."""

from __future__ import annotations

from dms.cli.views import words
from dms.testing.samples import PROVIDER, REQUESTER
from dms_proto.ids import short

NAMES = {PROVIDER.peer_id: "attic", REQUESTER.peer_id: ""}


def test_a_text_of_the_node_gets_the_names_of_those_who_have_one() -> None:
    attic, other = short(PROVIDER.peer_id), short(REQUESTER.peer_id)
    assert words.named(f"{attic} wins over {other}", NAMES) == f"attic ({attic}) wins over {other}"


def test_a_node_without_a_name_is_called_by_the_end_of_its_peer_id() -> None:
    assert words.called(PROVIDER.peer_id, NAMES) == f"attic ({short(PROVIDER.peer_id)})"
    assert words.called(REQUESTER.peer_id, NAMES) == words.called(REQUESTER.peer_id, {}) == short(REQUESTER.peer_id)
