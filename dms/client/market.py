"""The market as a program sees it: through the node of this machine's user."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle
import msgspec

from dms.client.asking import wish_of
from dms.client.calls import CODECS, Codec
from dms.client.executor import MarketExecutor
from dms.config.paths import resolve_home
from dms.jobs.check import job_of
from dms.jobs.resolve import resolve
from dms.rpc.api.jobs import JobEnded, JobLog, JobParams, JobView, SubmitParams, Submitted, WatchJobParams, read_update
from dms.rpc.client import Client
from dms_proto.errors import UserError
from dms_proto.work import EndReason


class Ran(msgspec.Struct, frozen=True):
    """A job that is over.

    Attributes:
        job: all that is known of it.
        stdout: what its allocations wrote, one after the other.
        stderr: likewise.
    """

    job: JobView
    stdout: bytes
    stderr: bytes

    @property
    def is_well(self) -> bool:
        """Whether everything ended with exit code 0."""
        return self.job.summary.reason is EndReason.COMPLETED


def _joined(pieces: dict[int, bytes]) -> bytes:
    return b"".join(pieces[slot] for slot in sorted(pieces))


class Market:
    """The market, by the node whose files lie in `home`; where None, in $DMS_HOME or the platform's place."""

    def __init__(self, home: str | os.PathLike[str] | None = None) -> None:
        self._home = resolve_home(home)

    @property
    def socket(self) -> Path:
        """Where the node answers."""
        return self._home.socket

    def executor(
        self,
        workers: int = 2,
        *,
        cpu: float | str = 1,
        memory: int | str = "256MiB",
        disk: int | str = "256MiB",
        max_price: float | str = 1,
        preferences: str | dict[str, float] = "",
        packages: Sequence[str] = (),
        modules: Iterable[ModuleType] = (),
        lease: float | str = "1h",
        idle: float | str = "1m",
        retries: int = 0,
        codec: Codec = "pickle",
        **more: Any,
    ) -> MarketExecutor:
        """An executor of `concurrent.futures` whose workers run on machines of the market, on Python of this minor version.

        The market is asked when the first call is made. Quantities are written as in job documents.

        Args:
            workers: how many, each doing one call at a time.
            cpu: cores of each.
            memory: of each.
            disk: of each.
            max_price: the most to be paid for a worker held to the end of its lease, in credits.
            preferences: how bids are compared.
            packages: what a worker must find, as "name" or "name==version".
            modules: of this program, whose functions and classes are sent along, since no worker has them.
            lease: the longest that a worker is held; seconds, or such as "90m". Then others are asked for.
            idle: after so long without a call the workers are let go; the next call asks for others.
            retries: how often a call is made again whose worker was lost. The function may then run more than once.
            codec: "pickle" brings results back as they are, and lets whoever runs the worker run what he likes in this process. "json" brings back
                what JSON has, and exceptions in words; nothing is unpickled here.
            more: further fields of the job document, such as `country`, `constraints`, `labels`, `env`.

        Raises:
            UserError: `node_not_running`, `not_onboarded`; `bad_argument`, `bad_job`: an option breaks a rule.
        """
        if codec not in CODECS:
            raise UserError("bad_argument", f"there is no codec {codec!r}; there are {', '.join(CODECS)}")
        if retries < 0:
            raise UserError("bad_argument", f"retries is {retries}, less than none")
        wish = wish_of(
            workers=workers,
            cpu=cpu,
            memory=memory,
            disk=disk,
            max_price=max_price,
            preferences=preferences,
            packages=packages,
            lease=lease,
            idle=idle,
            more=more,
        )
        self._node().close()
        for module in modules:
            cloudpickle.register_pickle_by_value(module)
        return MarketExecutor(self.socket, wish, codec, retries)

    def run(self, command: str | Sequence[str], **more: Any) -> Ran:
        """Runs a job to its end. Who interrupts it (ctrl-C) cancels it.

        Args:
            command: program and arguments, or a line for the shell.
            more: further fields of the job document. Files are relative to the working directory.

        Raises:
            UserError: `node_not_running`, `not_onboarded`; `bad_job`, …: as the node refuses it.
            ConnectionLost: the node went away; the job goes on.
        """
        document = job_of({"command": command if isinstance(command, str) else list(command), **more}, "run()")
        spec = resolve(document, Path.cwd(), origin="run()")
        written: dict[str, dict[int, bytes]] = {"stdout": {}, "stderr": {}}
        with self._node() as node:
            job = node.call("job.submit", SubmitParams(spec), Submitted).job_id
            try:
                for item in node.follow("job", WatchJobParams(job)):
                    match read_update(item):
                        case JobLog(slot=slot, stream=stream, offset=offset, data=data):
                            written[stream][slot] = written[stream].get(slot, b"")[:offset] + data
                        case JobEnded(job=view):
                            return Ran(view, *(_joined(pieces) for pieces in written.values()))
            except KeyboardInterrupt:
                node.call("job.cancel", JobParams(job))
                raise
        raise AssertionError("a feed ends with the end, or raises")

    def _node(self) -> Client:
        try:
            return Client(self.socket)
        except UserError:
            if self._home.exists():
                raise
            raise UserError(
                "not_onboarded", f"{self._home.root} holds no node yet", hint="dms onboard makes one"
            ) from None
