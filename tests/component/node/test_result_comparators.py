"""Results that differ and are compared by whole nodes: what the owner sees, what a plug-in may do, and what is left of it after a restart."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dms import __version__
from dms.audit.verify import verify
from dms.cli.views.audit import report as audit_blocks
from dms.cli.views.jobs import job as job_blocks
from dms.comparing.installed import GROUP
from dms.config.settings import Provider
from dms.executors.scripted import ScriptedExecutor
from dms.jobs.spec import JobSpec
from dms.node.api import LocalApi
from dms.rpc.api.audit import AuditExportParams
from dms.rpc.api.jobs import JobParams, JobView, SubmitParams, WaitParams
from dms.rpc.api.market import AskParams
from dms.testing.market import CAPABILITY, CONFIG, Market, auction_of, peer_of, until
from dms.testing.packages import install_package
from dms_actors.ports import Run
from dms_proto.errors import UserError
from dms_proto.ids import RequestId
from dms_proto.secrets import OpenSecret
from dms_proto.verification.policy import Apart, Policy, Verification
from dms_proto.work import EndReason, Task

from .conftest import Local, spec

pytestmark = pytest.mark.slow
JOB = ("print", "pi is VALUE\n", "write", "out", "VALUE")


class Machine(ScriptedExecutor):
    """A machine that computes a value a little differently."""

    def __init__(self, value: str) -> None:
        super().__init__()
        self._value = value

    async def run(
        self,
        allocation_id: str,
        task: Task,
        directory: Path,
        secrets: Sequence[OpenSecret] = (),
        *,
        gives_way: bool = False,
    ) -> Run:
        """Has the script say its own value."""
        said = tuple(word.replace("VALUE", self._value) for word in task.command)
        task = msgspec.structs.replace(task, command=said)
        return await super().run(allocation_id, task, directory, secrets, gives_way=gives_way)


@asynccontextmanager
async def market_of(root: Path, *values: str) -> AsyncIterator[Local]:
    """A node that only asks, and one for each value, which computes it."""
    (offer,) = CAPABILITY.executors

    def build(index: int) -> dict[str, Any]:
        if index == 0:
            return {"config": msgspec.structs.replace(CONFIG, provider=Provider(enabled=False))}
        return {"executors": {"scripted": (Machine(values[index - 1]), offer)}}

    async with Market(root, len(values) + 1, build=build) as market:
        local = Local(market)
        local.apis = [await LocalApi.start(market.nodes[0].services)]
        try:
            yield local
        finally:
            await local.api.close()


@pytest.fixture
async def local(tmp_path: Path) -> AsyncIterator[Local]:
    async with market_of(tmp_path, "3.14159261", "3.14159262") as local:
        yield local


@pytest.fixture
def site(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of packages that this environment has."""
    where = tmp_path_factory.mktemp("site")
    monkeypatch.syspath_prepend(where)
    return where


def install(site: Path, body: str) -> None:
    """A package whose comparator `own` says `body`."""
    source = (
        "import time\nfrom pathlib import Path\n"
        f"class Own:\n    def __init__(self, parameter): pass\n    def same(self, left, right): {body}\n"
    )
    install_package(site, "own-results", "3.1", GROUP, {"own": "own_results:Own"}, "own_results", source)


def checked(comparator: str, copies: int = 2) -> JobSpec:
    verify = Verification(Policy.REPLICATE, copies, comparator, Apart.NODES)
    return spec(*JOB, outputs=("out",), verify=verify, queue_ms=0)


def shown(view: JobView) -> str:
    return str(list(job_blocks(view, {}, 0)))


async def test_results_that_differ_a_little_are_one_answer_and_the_record_names_what_said_so(local: Local) -> None:
    view = await local.run(checked("numbers:1e-6"))

    assert view.summary.reason is EndReason.COMPLETED
    (verdict,) = view.verdicts
    assert len(verdict.right) == 2
    assert verdict.comparator == f"numbers:1e-6 {__version__}"
    assert f"compared by numbers:1e-6 {__version__}" in shown(view)
    file = await local.api.audit_export(AuditExportParams(view.summary.job_id))
    report = verify(file.text.encode())
    assert (report.faults, report.compared_by) == ((), (f"numbers:1e-6 {__version__}",))
    assert f"results were compared by numbers:1e-6 {__version__}" in str(list(audit_blocks(report)))


async def test_by_hash_they_are_two_and_the_job_stays_undecided(local: Local) -> None:
    view = await local.run(checked("hash"))

    assert view.summary.reason is EndReason.UNDECIDED
    assert view.verdicts[0].comparator == ""


async def test_a_plug_in_of_the_requester_s_environment_compares(local: Local, site: Path) -> None:
    install(site, "return left.files['out'].read_text()[:6] == right.files['out'].read_text()[:6]")

    view = await local.run(checked("own"))

    assert view.summary.reason is EndReason.COMPLETED
    assert view.verdicts[0].comparator == "own 3.1"


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("raise KeyError('pi')", "own 3.1 cannot compare them: KeyError: 'pi'"),
        ("__import__('os')._exit(1)", "own 3.1 cannot compare them: its process ended with 1 and without an answer"),
    ],
)
async def test_a_plug_in_that_fails_leaves_the_job_undecided_with_its_reason_and_everybody_paid(
    local: Local, site: Path, body: str, why: str
) -> None:
    install(site, body)

    view = await local.run(checked("own"))

    assert view.summary.reason is EndReason.UNDECIDED
    assert view.summary.detail == f"2 answers; {why}"
    assert why in shown(view)
    explained = await local.api.job_explain(JobParams(view.summary.job_id))
    told = [verdict.detail for verdict in explained.verdicts]
    assert sum(why.replace("compare them", "compare its answer") in detail for detail in told) == 2
    assert not view.verdicts[0].wrong
    assert all(attempt.price and not attempt.disputed for slot in view.slots for attempt in slot.attempts)
    assert (await local.run(checked("numbers"))).summary.reason is EndReason.COMPLETED  # the node goes on


async def test_a_file_that_no_parser_survives_hinders_nothing_and_is_another_answer(tmp_path: Path) -> None:
    values = ('{"a": 1, "b": [2]}', '{"b":[2.0],"a":1}', '{"a":1,"b":[2]}', "[" * 100_000)
    wanted = checked("json", copies=4)
    task = msgspec.structs.replace(wanted.task, command=("write", "out", "VALUE"))
    async with market_of(tmp_path, *values) as local:
        view = await local.run(msgspec.structs.replace(wanted, task=task))

        assert view.summary.reason is EndReason.COMPLETED
        (verdict,) = view.verdicts
        assert (len(verdict.right), verdict.unjudged) == (3, ())
        assert verdict.wrong == (peer_of(local.market.nodes[4]),)


@pytest.mark.parametrize(
    ("comparator", "message", "hint"),
    [
        ("nearly", "no comparator 'nearly' for results is installed", "there are hash, json, lines, numbers, own; "),
        ("numbers:lots", "numbers:lots cannot be used: numbers takes a tolerance such as 1e-6", ""),
        ("hash:1", "hash takes no parameter", "write hash alone"),
        ("json:x", "json:x cannot be used: json takes no parameter", ""),
    ],
)
async def test_one_that_is_not_there_or_cannot_be_used_is_refused_before_anything_runs(
    local: Local, site: Path, comparator: str, message: str, hint: str
) -> None:
    install(site, "return True")
    for asking in (
        local.api.job_submit(SubmitParams(checked(comparator))),
        local.api.market_ask(AskParams(checked(comparator))),
    ):
        with pytest.raises(UserError, match=message) as refused:
            await asking
        assert (refused.value.code, refused.value.message[:17]) == ("bad_job", "verify.comparator")
        assert hint in refused.value.hint


async def test_a_comparison_that_a_restart_cut_off_is_made_anew(local: Local, site: Path, tmp_path: Path) -> None:
    go = tmp_path / "go"
    body = f"\n        while not Path({str(go)!r}).exists(): time.sleep(0.01)\n        return True"
    install(site, body)
    job = await local.submit(checked("own"))
    await _until_comparing(local, job)

    await local.api.close()
    await local.market.crash(0)
    await local.market.rejoin(0)
    local.apis = [await LocalApi.start(local.market.nodes[0].services)]
    await _until_comparing(local, job)
    go.touch()
    view = await local.api.job_wait(WaitParams(job, 20_000))

    assert view.summary.reason is EndReason.COMPLETED
    assert len(view.verdicts) == 1


async def test_a_job_that_is_cancelled_while_its_results_are_compared_ends_at_once(local: Local, site: Path) -> None:
    install(site, "time.sleep(1000)")
    job = await local.submit(checked("own"))
    await _until_comparing(local, job)

    await local.api.job_cancel(JobParams(job))
    view = await local.api.job_wait(WaitParams(job, 20_000))

    assert view.summary.reason is EndReason.CANCELLED


async def _until_comparing(local: Local, job: RequestId) -> None:
    services = local.market.nodes[0].services
    await until(lambda: auction_of(services, job), lambda state: state is not None and bool(state.comparing))
