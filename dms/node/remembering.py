"""After a start: who brought what is here, and who has the data of this node's jobs, read off the latest allocations."""

from __future__ import annotations

from typing import Final

from dms.node.projecting.tables import ALLOCATIONS, JOBS, number, text, unpack
from dms.node.services import Services
from dms.store.projections import ProjectionRunner
from dms_proto.ids import PeerId
from dms_proto.market.auction_terms import Terms
from dms_proto.work import Task

MOST: Final = 128
"""Allocations that are looked at: the newest. A task can be long, and who waits for the node waits for this."""


async def remember_data(services: Services, runner: ProjectionRunner) -> None:
    """What would be known if the node had not been restarted. A run that has not begun has brought nothing yet."""
    newest = (await runner.query(ALLOCATIONS.name, order=("-opened_at",), limit=MOST))[::-1]
    asked = tuple({text(row, "request_id") for row in newest if number(row, "requested")})
    jobs = await runner.query(JOBS.name, {"request_id": asked}) if asked else []
    tasks: dict[str, Task] = {text(job, "request_id"): unpack(job["terms"], Terms).task for job in jobs}
    for row in newest:
        if row["task"] is not None and number(row, "started_at"):
            services.workbench.brought(PeerId(text(row, "requester")), unpack(row["task"], Task))
        if (task := tasks.get(text(row, "request_id"))) is not None:
            services.collector.had(PeerId(text(row, "provider")), task)
