"""Events as rows: what is written down can be read back, whatever its fields hold."""

from __future__ import annotations

import pytest

from dms_actors.events import EVENT_KINDS, from_row, to_row
from dms_actors.ports import StoredEvent
from dms_proto.errors import MachineError
from dms_proto.ids import PeerId
from dms_proto.machine import Event
from dms_proto.market.auction_state import ProviderSuspected
from dms_proto.market.owner import Owner, PreferencesChanged, evolve
from dms_proto.market.preferences import fastest


@pytest.mark.parametrize(
    "event", [ProviderSuspected(PeerId("12D3KooWx"), {0: 17, 12: 99}), PreferencesChanged(fastest())], ids=str
)
def test_an_event_is_read_back_as_it_was_written(event: Event) -> None:
    row = to_row("r-1", event, "cause")
    assert from_row(StoredEvent(1, row.stream, 1, row.kind, 0, row.cause_id, row.body)) == event


def test_an_unknown_kind_is_refused_as_newer() -> None:
    with pytest.raises(MachineError) as refused:
        from_row(StoredEvent(1, "s", 1, "SomethingNew", 0, "", b""))
    assert refused.value.code == "store_newer"


def test_the_owners_word_is_the_last_one() -> None:
    owner = evolve(Owner(), PreferencesChanged(fastest()))
    assert owner.preferences == fastest()
    assert evolve(owner, EVENT_KINDS["WorkResumed"]()) == owner
