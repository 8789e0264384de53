"""The result cache: a job that says that its work always gives the same is answered by an earlier job of this node.

The earlier one had the very same task, inputs by digest and all, ended well, was checked in the same way, and all that it gave is still here. It is
no new job: whoever asked is given the id of the earlier one, and told when that ended. Nothing is kept for it but what `store.keep_jobs_ms` keeps.
"""

from __future__ import annotations

from typing import Final

from dms.node.projecting.tables import JOBS, unpack
from dms.node.services import Services
from dms.node.story import JobStory, SlotStory
from dms.rpc.api.jobs import Submitted
from dms.store.projections import ProjectionRunner
from dms.store.tables import Condition
from dms_proto.errors import UserError
from dms_proto.ids import RequestId
from dms_proto.market.auction_terms import Terms
from dms_proto.work import EndReason

MOST: Final = 1_000
"""Jobs looked through, the newest first: a few hundredths of a second."""


def check_cacheable(terms: Terms) -> None:
    """Refuses what no earlier work is known to be the same as.

    Raises:
        UserError: `bad_job`: it has secrets.
    """
    if terms.task.secrets:
        raise UserError("bad_job", "cache: does not go with secrets", hint="leave `cache` out")


async def earlier(terms: Terms, services: Services, runner: ProjectionRunner) -> Submitted | None:
    """The newest job whose result is what this one would give; None: it has to be run."""
    wanted: dict[str, Condition] = {"open": 0, "reason": EndReason.COMPLETED.value}
    rows = await runner.query(JOBS.name, wanted, order=("-submitted_at",), limit=MOST)
    for row in rows:
        if not _is_same(unpack(row["terms"], Terms), terms):
            continue
        request_id = RequestId(str(row["request_id"]))
        story = JobStory.of(request_id, await services.store.read_stream(request_id))
        if story.ended is not None and _is_here(story, services):
            return Submitted(request_id, story.ended.at)
    return None


def _is_same(one: Terms, other: Terms) -> bool:
    """Whether two jobs are the same work, checked alike. What it may cost, how long it may wait and how bids are compared makes no other result."""
    is_own_work = one.canary is None and one.spot_check is None
    return is_own_work and all(
        getattr(one, name) == getattr(other, name) for name in ("task", "needs", "count", "verify", "only")
    )


def _is_here(story: JobStory, services: Services) -> bool:
    """Whether all that a job gave is still kept: its files, and what it wrote."""
    outcomes = [slot for _, slot in story.outcomes]
    return all(slot is not None and _is_whole(slot, services) for slot in outcomes)


def _is_whole(slot: SlotStory, services: Services) -> bool:
    attempt, logs = slot.attempts[-1], services.collector.logs
    are_here = all(services.blobs.path(output.digest) is not None for output in slot.outputs)
    return are_here and logs.lengths(attempt.allocation_id) == attempt.log_bytes
