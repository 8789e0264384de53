"""Of the doctor: whether all grants that others gave to this node can be read. One that cannot counts for nothing, and stops no start."""

from __future__ import annotations

from dms.config import Home
from dms.config.identity import read_names
from dms.rpc.api.events import Check, Finding
from dms.trust.wallet import Wallet
from dms_proto.errors import DmsError
from dms_proto.units import format_count


def look_at_grants(home: Home) -> list[Check]:
    """What is found in HOME/grants. Reads files: not for the loop."""
    if not home.is_complete():
        return [Check("grants", Finding.SKIP, "there is no node yet", "dms onboard")]
    try:
        wallet = Wallet(home, read_names(home).peer_id)
    except DmsError as error:
        return [Check("grants", Finding.FAIL, error.message, error.hint)]
    fix = f"put it right in {home.grants}, or take it out there, while the node is down"
    aside = [
        Check("grants", Finding.WARN, f"line {one.number} of {home.grants} is set aside: {one.why}", fix)
        for one in wallet.set_aside
    ]
    return aside or [Check("grants", Finding.PASS, f"{format_count(len(wallet.held), 'grant')} held, each can be read")]
