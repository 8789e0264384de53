"""What the owner of a node has told it once and for all: so far, how its own requests compare bids. Stream "owner"."""

from __future__ import annotations

from typing import Final

import msgspec

from dms_proto.machine import Event
from dms_proto.market.preferences import Preferences

OWNER_STREAM: Final = "owner"


class PreferencesChanged(Event, frozen=True):
    """This is how the node's requests compare bids from now on, when a job does not say."""

    preferences: Preferences


class Owner(msgspec.Struct, frozen=True):
    """The owner's standing word."""

    preferences: Preferences = Preferences()


def evolve(owner: Owner, event: Event) -> Owner:
    """The state after `event`."""
    match event:
        case PreferencesChanged(preferences=preferences):
            return Owner(preferences)
        case _:
            return owner
