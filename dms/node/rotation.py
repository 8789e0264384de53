"""A new key for the node of a home: only while it does not run, and only when nothing is under way that was agreed under the old one."""

from __future__ import annotations

from dms.config import Home
from dms.config.identity import read_names, rotate
from dms.node.app import unix_ms
from dms.node.stopped import open_stopped
from dms.node.survey import survey
from dms_proto.errors import UserError
from dms_proto.lineage import PublicIdentity
from dms_proto.units import format_count


async def rotate_key(home: Home) -> PublicIdentity:
    """Gives the node of `home` a new key and gives what anyone may know of it then. Peers are told at its next start.

    Raises:
        UserError: `not_onboarded`, `bad_config`, `key_locked`; `bad_argument`: something is under way, or there were too many keys.
        MachineError: `home_in_use`: the node runs; `disk_full`, `store_failed`.
    """
    read_names(home)
    async with await open_stopped(home) as store:
        found = await survey(store)
        if found.requests or found.allocations:
            jobs, runs = len(found.requests), len(found.allocations)
            raise UserError(
                "bad_argument",
                f"{format_count(jobs, 'job')} and {format_count(runs, 'allocation')} are under way, agreed under the present key",
                hint="start the node, let them end (`dms job list`, `dms alloc list`; `dms node pause` takes no new ones), and stop it again",
            )
        return rotate(home, unix_ms()).public()
