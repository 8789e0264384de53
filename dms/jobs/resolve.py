"""A job document and its directory to a `JobSpec`: quantities become integers, files become digests."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Final

import msgspec

from dms.jobs.check import amount, line_of, load, verification_of
from dms.jobs.document import GpuNeed, InputFile, JobDocument
from dms.jobs.inputs import MAX_INPUT_FILES, Found, checked_place, collect, look_at
from dms.jobs.problems import BadJob, Problem, nearest
from dms.jobs.secrets import SecretReader
from dms.jobs.source import Located
from dms.jobs.spec import DatasetWish, JobSpec
from dms_proto.capability import Capability, ExecutorOffer, Gpu, Resources
from dms_proto.checkpoints import task_flaw
from dms_proto.data.places import BLOCK, disk_bytes, flaw_of
from dms_proto.egress import NO_EGRESS, Egress, read_destination
from dms_proto.errors import UserError
from dms_proto.images import pinned
from dms_proto.market.preferences import EVENLY, PRESETS, Preferences, check_preferences
from dms_proto.market.second_price import check_usable
from dms_proto.messages import Pricing
from dms_proto.named_ports import numbered
from dms_proto.named_ports import variables as variables_of
from dms_proto.secrets import OpenSecret
from dms_proto.siblings import NO_NAMES, Names
from dms_proto.units import format_bytes, format_count
from dms_proto.work import PYTHON, Limits, Task, agent_bytes

BIDS_TO_SHARE: Final = 16
"""Bids of a job that is to be shared out evenly: who is slow to answer has a share as well."""
SHELL: Final = ("/bin/sh", "-c")


def resolve(
    job: JobDocument,
    base: Path,
    *,
    origin: str = "job",
    roots: Sequence[Path] = (),
    variables: Collection[str] = (),
    places: Located | None = None,
) -> JobSpec:
    """The job as the node takes it. Reads and digests every input file, and reads the secrets.

    Args:
        job: checked.
        base: the directory its paths are relative to.
        origin: named in errors.
        roots: further directories inputs may come from, beside `base`.
        variables: environment variables that secrets may come from, whatever they are called.
        places: the document as read, for the lines in errors.

    Raises:
        BadJob: an input or secret is missing, lies outside, or is no regular file; two inputs have one place; the task is too large.
    """
    allowed = (base.resolve(), *(root.resolve() for root in roots))
    problems = _Problems(places)
    found = _inputs(job, base, allowed, problems)
    preferences = _preferences(job, problems)
    secrets = _secrets(job, SecretReader(base, allowed, variables), problems)
    if job.checkpoint:
        with problems.of("checkpoint"):
            checked_place(job.checkpoint)
    problems.refuse(origin)
    ports = numbered(job.ports)
    task = Task(
        executor=job.executor,
        command=(*SHELL, job.command) if isinstance(job.command, str) and job.command else tuple(job.command),
        module=_place_of_module(job.module),
        environment=dict(sorted({**job.env, **dict(variables_of(ports))}.items())),
        inputs=tuple(item.entry for item in found),
        outputs=job.outputs,
        checkpoint=job.checkpoint,
        resources=_resources(job),
        limits=_limits(job),
        ports=tuple(ports.values()),
        image=pinned(job.image),
        pull=job.pull,
        exec=job.exec,
        egress=_egress(job),
        names=_names(job),
    )
    if flaw := task_flaw(task, is_checked=verification_of(job).is_on):
        problems.add("checkpoint", flaw)
        problems.refuse(origin)
    spec = JobSpec(
        task=task,
        needs=_needs(job),
        name=job.name,
        count=job.count,
        together=job.together,
        max_price=amount(job.max_price, "credits"),
        budget=amount(job.budget, "credits"),
        pricing=job.pricing,
        deadline_ms=amount(job.deadline, "duration"),
        queue_ms=amount(job.timeouts.queue, "duration"),
        patience_ms=amount(job.wait_for_nodes, "duration"),
        bids_wanted=job.bids_wanted or (BIDS_TO_SHARE if job.preferences == EVENLY else 0),
        preferences=preferences,
        constraints=job.constraints,
        retry_job_failures=job.retry.job_failures,
        retry_node_faults=job.retry.node_faults,
        retry_checkpoints=job.retry.checkpoints,
        priority=job.priority,
        verify=verification_of(job),
        sources={item.entry.digest: str(item.source) for item in found},
        secrets=secrets,
        image="" if task.image else job.image,
        node=job.node,
        cache=job.cache,
        datasets=tuple(
            DatasetWish(item.dataset, item.as_) for item in job.inputs if isinstance(item, InputFile) and item.dataset
        ),
    )
    return _within_bounds(spec, origin)


def resolve_file(path: Path) -> JobSpec:
    """The job in a file, its inputs read and digested.

    Raises:
        BadJob: with every problem, of its text and of what it names.
    """
    loaded = load(path)
    if not loaded.problems:
        return resolve(loaded.document, path.parent, origin=str(path), places=loaded.places)
    problems = _Problems(loaded.places, loaded.problems)
    allowed = (path.parent.resolve(),)
    for field, item in _wanted(loaded.document):
        with problems.of(field):
            look_at(item.path, path.parent, allowed)
    _preferences(loaded.document, problems)
    _secrets(loaded.document, SecretReader(path.parent, allowed, ()), problems)
    raise BadJob(str(path), problems.found)


class _Problems:
    """Collects what is wrong, each with its line."""

    def __init__(self, places: Located | None, found: Iterable[Problem] = ()) -> None:
        self._places = places
        self.found = list(found)

    def add(self, field: str, rule: str) -> None:
        line = line_of(self._places, field) if self._places is not None else 0
        self.found.append(Problem(line, field, rule))

    @contextmanager
    def of(self, field: str) -> Iterator[None]:
        """A ValueError in here is a problem of `field`."""
        try:
            yield
        except ValueError as error:
            self.add(field, str(error))

    def refuse(self, origin: str) -> None:
        if self.found:
            raise BadJob(origin, self.found)


def _preferences(job: JobDocument, problems: _Problems) -> Preferences | None:
    """The job's own word on how bids are compared, or None; constraints and expressions are tried before anything is sent."""
    chosen: Preferences | None = None
    if isinstance(job.preferences, dict):
        chosen = Preferences(weights=job.preferences)
    elif job.preferences in PRESETS:
        chosen = PRESETS[job.preferences]()
    elif job.preferences:
        problems.add("preferences", f"no preset {job.preferences!r}; {nearest(job.preferences, PRESETS)}")
    if job.rank:
        chosen = msgspec.structs.replace(chosen or Preferences(), rank=job.rank)
    if job.comparator:
        chosen = msgspec.structs.replace(chosen or Preferences(), comparator=job.comparator)
    for field, document in (
        *((f"constraints[{index}]", Preferences(constraints=(rule,))) for index, rule in enumerate(job.constraints)),
        *((("rank" if job.rank else "preferences", chosen),) if chosen else ()),
    ):
        try:
            check_preferences(document)
        except UserError as error:
            problems.add(field, f"{error.message}; {error.hint}" if error.hint else error.message)
    _check_pricing(job, problems)
    return chosen


def _check_pricing(job: JobDocument, problems: _Problems) -> None:
    """What does not go with a second price: it would be ignored, or could not be decided."""
    if job.pricing is not Pricing.SECOND_PRICE:
        return
    for name in ("preferences", "rank", "comparator"):
        if getattr(job, name) not in ("", "cheapest"):
            problems.add(
                name, "does not go with pricing second-price, where the lowest price per work decides; constraints do"
            )
    is_checked = verification_of(job).is_on
    try:
        check_usable(Preferences(constraints=job.constraints), job.count, is_checked=is_checked)
    except UserError as error:
        field = "verify" if is_checked else "count" if job.count != 1 else "constraints"
        problems.add(field, f"{error.message}; {error.hint}")


def _wanted(job: JobDocument) -> list[tuple[str, InputFile]]:
    """Every file that is sent along, with the field that names it."""
    wanted = [
        (f"inputs[{index}]", item if isinstance(item, InputFile) else InputFile(item))
        for index, item in enumerate(job.inputs)
        if not (isinstance(item, InputFile) and item.dataset)
    ]
    return [*wanted, ("module", InputFile(job.module, _place_of_module(job.module)))] if job.module else wanted


def _inputs(job: JobDocument, base: Path, roots: Sequence[Path], problems: _Problems) -> list[Found]:
    by_place: dict[str, Found] = {}
    for field, item in _wanted(job):
        with problems.of(field):
            for found in collect(item.path, item.as_, base, roots):
                other = by_place.setdefault(found.entry.path, found)
                if other.entry.digest != found.entry.digest:
                    problems.add(field, f"{found.entry.path} is already another input")
    if len(by_place) > MAX_INPUT_FILES:
        problems.add("inputs", f"{format_count(len(by_place), 'file')}; at most {MAX_INPUT_FILES}, pack them")
    if flaw := flaw_of(by_place):
        problems.add("inputs", flaw)
    disk = amount(job.resources.disk, "bytes")
    total = disk_bytes(found.entry for found in by_place.values())
    if total > disk:
        least = f"with {format_bytes(BLOCK)} at least for each file and directory"
        rule = f"{format_count(disk, 'byte is', 'bytes are')} less than the inputs take, {format_count(total, 'byte')} {least}"
        problems.add("resources.disk", rule)
    return list(by_place.values())


def _secrets(job: JobDocument, reader: SecretReader, problems: _Problems) -> tuple[OpenSecret, ...]:
    secrets = []
    for name, source in job.secrets.items():
        if isinstance(source, str):
            continue  # a value, which `check` refuses
        with problems.of(f"secrets.{name}"):
            secrets.append(OpenSecret(name, reader.read(source), source.as_ == "variable"))
    return tuple(secrets)


def _place_of_module(module: str) -> str:
    return PurePosixPath(module).name if module else ""


def _resources(job: JobDocument) -> Resources:
    wanted = job.resources
    return Resources(
        cpu_millicores=amount(wanted.cpu, "cores"),
        memory_bytes=amount(wanted.memory, "bytes"),
        disk_bytes=amount(wanted.disk, "bytes"),
        gpus=tuple(_gpu(gpu) for gpu in wanted.gpus),
    )


def _gpu(gpu: GpuNeed) -> Gpu:
    return Gpu(
        vendor=gpu.vendor, model=gpu.model, memory_bytes=amount(gpu.memory, "bytes"), milli=amount(gpu.share, "share")
    )


def _limits(job: JobDocument) -> Limits:
    return Limits(
        wall_ms=amount(job.timeouts.run, "duration"),
        grace_ms=amount(job.timeouts.grace, "duration"),
        log_bytes=amount(job.limits.log, "bytes"),
        processes=job.limits.processes,
        fuel=job.limits.fuel,
        idle_ms=amount(job.timeouts.idle, "duration") if job.executor == PYTHON and not job.command else 0,
    )


def _egress(job: JobDocument) -> Egress:
    if not job.egress:
        return NO_EGRESS
    destinations = dict.fromkeys(map(read_destination, job.egress))
    return Egress(tuple(destinations), amount(job.limits.egress, "bytes"))


def _names(job: JobDocument) -> Names:
    return Names(0, job.count) if job.names else NO_NAMES


def _needs(job: JobDocument) -> Capability:
    own = _resources(job)
    egress = _egress(job)
    agents = agent_bytes(job.executor, tuple(numbered(job.ports).values()), job.exec, egress, _names(job))
    return Capability(
        resources=msgspec.structs.replace(own, memory_bytes=own.memory_bytes + agents),
        architecture=job.architecture,
        cpu_score=job.cpu_score,
        executors=(ExecutorOffer(name=job.executor, isolation=job.isolation),),
        libraries=job.libraries,
        labels=job.labels,
        country=job.country,
        relayed=job.relayed,
        job_classes=(job.class_,),
        max_wall_ms=amount(job.timeouts.run, "duration"),
        egress=egress,
    )


def _within_bounds(spec: JobSpec, origin: str) -> JobSpec:
    """Passes the spec through the bounds every node checks, so that what is refused is refused here, with its field."""
    try:
        return msgspec.convert(msgspec.to_builtins(spec), JobSpec)
    except msgspec.ValidationError as error:
        raise BadJob(origin, [Problem(0, "", str(error))]) from error
