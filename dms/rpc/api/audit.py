"""audit.*: what was agreed, run and owed, for somebody else to check."""

from __future__ import annotations

from typing import Protocol

import msgspec

from dms.rpc.registry import method
from dms_proto.ids import PeerId, RequestId, TabId


class AuditExportParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose file.

    Attributes:
        job_id: a request id, allocation id or the name of a tab, or a unique beginning of one.
    """

    job_id: str


class AuditFile(msgspec.Struct, frozen=True):
    """What `dms audit verify` checks, on any machine.

    Attributes:
        job_id: whose events these are: a job, or a tab.
        exporter: this node, which has sealed them.
        events: how many they are.
        text: the file, in the form of docs/reference/audit-file.md.
    """

    job_id: RequestId | TabId
    exporter: PeerId
    events: int
    text: str


class AuditMethods(Protocol):
    """Proofs that other machines can check."""

    @method("audit.export")
    async def audit_export(self, params: AuditExportParams) -> AuditFile:
        """The events of a job, or of a tab, as they are stored, with the signed frames in them and the keys of the parties, sealed by this node.

        A file has at most 32 MiB.
        """
        ...
