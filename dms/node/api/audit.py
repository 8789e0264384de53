"""audit.*: what was agreed, run and owed, for somebody else to check."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from dms.audit.export import export
from dms.node.api.base import Base
from dms.node.tab_events import gather_tab, tab_named
from dms.node.trace import gather
from dms.rpc.api.audit import AuditExportParams, AuditFile
from dms_actors.ports import StoredEvent
from dms_proto.ids import RequestId, TabId, is_tab
from dms_proto.wire import Signer


class AuditGroup(Base):
    """The methods of `dms.rpc.api.audit.AuditMethods`."""

    async def audit_export(self, params: AuditExportParams) -> AuditFile:
        """See `AuditMethods`."""
        services = self._services
        job, rows = await self._about(params.job_id)
        links = await services.store.links([row.seq for row in rows])
        signer = Signer(services.identity.seed())
        data = await asyncio.to_thread(export, job, links, signer, self._now())
        return AuditFile(job, signer.peer_id, len(links), data.decode())

    async def _about(self, given: str) -> tuple[RequestId | TabId, Sequence[StoredEvent]]:
        """The job or tab that a person means, and its events."""
        store = self._services.store
        if is_tab(given):
            tab_id = await tab_named(store, given)
            await self._services.written()
            return tab_id, await gather_tab(store, tab_id)
        job = await self._traced(given)
        await self._services.written()
        return job, await gather(store, self._runner, job)
