"""audit.*: what was agreed, run and owed, for somebody else to check."""

from __future__ import annotations

import asyncio

from dms.audit.export import export
from dms.node.api.base import Base
from dms.node.trace import gather
from dms.rpc.api.audit import AuditExportParams, AuditFile
from dms_proto.wire import Signer


class AuditGroup(Base):
    """The methods of `dms.rpc.api.audit.AuditMethods`."""

    async def audit_export(self, params: AuditExportParams) -> AuditFile:
        """See `AuditMethods`."""
        job = await self._traced(params.job_id)
        services = self._services
        await services.written()
        rows = await gather(services.store, self._runner, job)
        links = await services.store.links([row.seq for row in rows])
        signer = Signer(services.identity.seed())
        data = await asyncio.to_thread(export, job, links, signer, self._now())
        return AuditFile(job, signer.peer_id, len(links), data.decode())
