"""Has the answers of copies compared: finds what each has left, and asks the comparator about pair after pair. Lives on the loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final
from weakref import WeakValueDictionary

from dms.comparing.installed import Installed, chosen
from dms.comparing.process import ask
from dms.comparing.question import Side
from dms.node.logs import STREAMS, LogStore
from dms.store.blobs import BlobStore
from dms_proto.errors import UserError
from dms_proto.ids import RequestId
from dms_proto.market.auction_effects import Compare
from dms_proto.market.auction_stimuli import Compared
from dms_proto.market.auction_terms import Given
from dms_proto.verification.comparing import Grouping, grouping
from dms_proto.verification.policy import HASH, Verification

AT_ONCE: Final = 2
"""Comparisons of all jobs together; of one job one at a time, so that its answers, slow ones perhaps, never take all turns."""


async def check_result_comparator(verify: Verification) -> None:
    """Refuses a comparator that is not there, or does not take the parameter that a job declares for it.

    Raises:
        UserError: `bad_job`.
    """
    if verify.comparator == HASH:
        return
    said = await ask(await asyncio.to_thread(chosen, verify.comparator))
    if isinstance(said, str):
        raise UserError("bad_job", f"verify.comparator: {verify.comparator} cannot be used: {said}")


class Comparing:
    """One per node."""

    def __init__(self, blobs: BlobStore, logs: LogStore) -> None:
        self._blobs = blobs
        self._logs = logs
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._turn_of: WeakValueDictionary[RequestId, asyncio.Lock] = WeakValueDictionary()
        """By job, as long as one of its comparisons has its turn or waits for it."""

    def is_here(self, given: Given) -> bool:
        """Whether all that an answer left is still kept. From any thread."""
        has_log = self._logs.length(given.allocation_id, STREAMS[0]) >= given.printed_bytes
        return has_log and all(self._blobs.path(output.digest) is not None for output in given.outputs)

    async def compare(self, request_id: RequestId, wanted: Compare, is_wanted: Callable[[], bool]) -> Compared | None:
        """What the comparator says; None once `is_wanted` no longer holds."""
        asked = {given.index: given for given in (*wanted.founders, *wanted.fresh)}
        made_by = wanted.comparator
        try:
            comparator = await asyncio.to_thread(chosen, wanted.comparator)
            made_by += f" {comparator.version}"
            sides = {index: self._side(given) for index, given in asked.items()}
            turn = self._turn_of.setdefault(request_id, asyncio.Lock())
            found = await self._group(wanted, comparator, sides, turn, is_wanted)
        except UserError as error:
            found = Grouping(failed=error.message)
        except OSError as error:
            found = Grouping(failed=f"it cannot be started: {error}")
        return Compared(wanted.piece, tuple(asked), found, made_by) if found is not None else None

    async def _group(
        self,
        wanted: Compare,
        comparator: Installed,
        sides: Mapping[int, Side],
        turn: asyncio.Lock,
        is_wanted: Callable[[], bool],
    ) -> Grouping | None:
        asking = grouping([given.index for given in wanted.founders], [given.index for given in wanted.fresh])
        try:
            pair = next(asking)
            while is_wanted():
                async with turn, self._turns:
                    said = await ask(comparator, sides[pair.left], sides[pair.right])
                pair = asking.send(said)
        except StopIteration as end:
            found: Grouping = end.value
            return found
        return None

    def _side(self, given: Given) -> Side:
        """Where an answer lies.

        Raises:
            UserError: `not_found`: a part of it is not kept any more.
        """
        if not self.is_here(given):
            raise UserError("not_found", "an answer is not kept here any more")
        files = {output.path: str(self._blobs.use(output.digest)) for output in given.outputs}
        return Side(files, str(self._logs.path(given.allocation_id, STREAMS[0])), given.printed_bytes)
