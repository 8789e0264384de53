"""What happens to forwarded ports, told as it happens: in sentences for a person, or as lines of JSON."""

from __future__ import annotations

import sys
from collections.abc import Mapping

import click
import msgspec

from dms.cli.context import Io
from dms.cli.forwarding import Failed, Forwarded
from dms.cli.views.words import reason, short
from dms.rpc.api.jobs import JobSummary


class Over(msgspec.Struct, frozen=True, tag="ended"):
    """The job is over.

    Attributes:
        reason: how it ended.
        detail: in words.
    """

    reason: str
    detail: str


class Teller:
    """Tells one command's output."""

    def __init__(self, io: Io, names: Mapping[str, str], *, beside_a_job: bool = False) -> None:
        """`names` of nodes, by PeerID. `beside_a_job`: the output is the job's, and what is told goes to standard error."""
        self._io = io
        self._names = names
        self._say = io.remark if beside_a_job else io.line

    def tell(self, what: Forwarded | Failed) -> None:
        """See `forwarding.Tell`."""
        if self._io.as_json:
            _print(what)
            return
        match what:
            case Forwarded(address, port, provider):
                where = self._names.get(provider) or short(provider)
                self._say(f"{address} leads to port {port} of the job, on {where}")
                sys.stdout.flush()
            case Failed(port, _, message):
                self._io.remark(f"a connection to port {port}: {message}")

    def over(self, summary: JobSummary) -> None:
        """The job has ended."""
        if self._io.as_json:
            _print(Over(summary.reason.value if summary.reason else "", summary.detail))
            return
        detail = f": {summary.detail}" if summary.detail else ""
        self._io.remark(
            f"{short(summary.job_id)} is over, {reason(summary.reason)}{detail}; nothing is forwarded any more"
        )


def _print(what: msgspec.Struct) -> None:
    click.echo(msgspec.json.encode(what).decode())
    sys.stdout.flush()
