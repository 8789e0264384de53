"""Options that describe a task, shared by `dms run` and `dms ask`: a job document written as flags."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

import click

from dms.cli.gathering import gathered
from dms.cli.port_pairs import read_wish

if TYPE_CHECKING:
    from dms.jobs.document import JobDocument
    from dms.jobs.spec import JobSpec

P = ParamSpec("P")
R = TypeVar("R")

JOB_SUFFIXES: Final = (".yaml", ".yml", ".json")

_PROGRAM: Final = (
    click.option("--executor", metavar="NAME", help='"sandbox" (default), "wasm", "python" or "oci".'),
    click.option("--module", metavar="FILE", help="For wasm: the module; the command is then its arguments."),
    click.option(
        "--image",
        metavar="IMAGE",
        help="Container image: NAME@DIGEST, or NAME:TAG if this node has an engine to ask. The command is run in it, in place of its own.",
    ),
    click.option(
        "--pull",
        metavar="WHEN",
        type=click.Choice(["always", "if-not-present", "never"]),
        help="When the provider fetches the image. Default if-not-present.",
    ),
    click.option(
        "-i", "--input", "inputs", metavar="PATH[=AS]", multiple=True, help="File or directory to send along."
    ),
    click.option("-o", "--output", "outputs", metavar="GLOB", multiple=True, help="Files to bring back."),
    click.option(
        "--checkpoint", metavar="PATH", help="File or directory from which it goes on elsewhere after it exits with 85."
    ),
    click.option("-e", "--env", metavar="NAME=VALUE", multiple=True, help="Environment variable."),
    click.option(
        "--port",
        "ports",
        metavar="[LOCAL:]PORT",
        multiple=True,
        help="TCP port on which it listens, or a name for one that it finds in DMS_PORT_NAME. While it runs, 127.0.0.1:LOCAL (default: the same "
        "port, for a name any that is free) leads to the first allocation's.",
    ),
    click.option(
        "--names", is_flag=True, default=None, help="Its allocations reach each other's ports at N.job.internal."
    ),
)
"""What is run, with which files."""
_MARKET: Final = (
    click.option(
        "--dataset", "datasets", metavar="ID[:DIR]", multiple=True, help="Dataset of your node, placed in DIR."
    ),
    click.option("--cpu", metavar="CORES", help="CPU cores, such as 2 or 500m. Default 1."),
    click.option("--memory", metavar="SIZE", help="Memory, such as 512MiB. Default 256MiB."),
    click.option("--disk", metavar="SIZE", help="Disk, inputs included. Default 256MiB."),
    click.option(
        "--gpus", metavar="N", type=click.IntRange(0, 64), help="GPUs, whole unless --gpu-share says otherwise."
    ),
    click.option("--gpu-model", metavar="TEXT", help="Part of the model's name of each GPU, such as 'MIG 1g'."),
    click.option("--gpu-memory", metavar="SIZE", help="Least memory of each GPU, or of the share."),
    click.option(
        "--gpu-share", metavar="PART", help="Part of each GPU, such as 0.5, with --gpu-memory. For own machines."
    ),
    click.option(
        "--secret",
        "secrets",
        metavar="NAME=env:VARIABLE|file:PATH",
        multiple=True,
        help="Sealed; in /run/secrets/NAME.",
    ),
    click.option(
        "--secret-variable", metavar="NAME=env:VARIABLE|file:PATH", multiple=True, help="Sealed; in the variable NAME."
    ),
    click.option(
        "--exec",
        "exec_",
        metavar="WHO",
        type=click.Choice(["requester", "granted"]),
        help="Who may run commands beside it with dms alloc exec: requester (you), or granted (also who has the right exec). Default nobody.",
    ),
    click.option(
        "--egress",
        metavar="HOST:PORT",
        multiple=True,
        help="Where it has to connect to, such as pypi.org:443, by the proxy that HTTPS_PROXY names there. Repeat for more.",
    ),
    click.option("--count", metavar="N", type=click.IntRange(1, 10_000), help="Independent allocations. Default 1."),
    click.option("--together", is_flag=True, default=None, help="All of them get a place at once, or none does."),
    click.option("--time", "run_time", metavar="SPAN", help="Longest run, such as 90s or 2h. Default 10m."),
    click.option("--queue", metavar="SPAN", help="How long to wait for free capacity. Default 10m."),
    click.option(
        "--wait", "wait_for_nodes", metavar="SPAN", help="How long to wait for a node that could run it. Default 0."
    ),
    click.option("--deadline", metavar="SPAN", help="From now until all must be over."),
    click.option("--max-price", metavar="CREDITS", help="Most to be paid per allocation. Default 1 credit."),
    click.option(
        "--budget", metavar="CREDITS", help="Most to be paid for the whole job, all its tries. Default no limit."
    ),
    click.option(
        "--pricing",
        metavar="RULE",
        help="first-price: the winner is paid its bid. second-price: the most at which it still wins. Default first-price.",
    ),
    click.option("--prefer", metavar="PRESET", help="cheapest, fastest, balanced, own-machines-first or evenly."),
    click.option(
        "--require", "constraints", metavar="CEL", multiple=True, help='Must hold, such as "link.rtt_ms < 50.0".'
    ),
    click.option("-l", "--label", "labels", metavar="KEY=VALUE", multiple=True, help="Label a node must have."),
    click.option(
        "--verify",
        metavar="POLICY",
        type=click.Choice(["none", "replicate", "adaptive"]),
        help="Check results by running the same on several nodes: replicate (on --copies nodes) or adaptive.",
    ),
    click.option("--copies", metavar="N", type=click.IntRange(2, 10), help="For --verify replicate. Default 2."),
    click.option(
        "--apart",
        metavar="WHAT",
        type=click.Choice(["sources", "nodes"]),
        help="Copies run in different networks (sources, default) or just on different nodes.",
    ),
    click.option(
        "--result-comparator",
        "comparator",
        metavar="NAME[:PARAMETER]",
        help="What takes two results for the same: hash (default), json, lines, numbers:1e-6, or a plug-in of the node.",
    ),
    click.option("--node", metavar="NODE", help="Run it on this node alone: its name or PeerID, as in dms peers list."),
    click.option("--cache", is_flag=True, default=None, help="Your own earlier result of the very same work will do."),
    click.option("--priority", metavar="N", type=click.IntRange(0, 1000), help="Order among your own jobs."),
    click.option("--name", metavar="TEXT", help="For people."),
)
"""Where, with what, at what price: of any task."""


def task_options(function: Callable[P, R]) -> Callable[P, R]:
    """Adds the options; the command gets what was given as one dict, `task`."""
    return gathered((*_PROGRAM, *_MARKET), function, "task")


def market_options(function: Callable[P, R]) -> Callable[P, R]:
    """Adds those options that say nothing of the program; the command gets what was given as one dict, `task`."""
    return gathered(_MARKET, function, "task")


def spec_of(task: dict[str, Any], argv: Sequence[str]) -> JobSpec:
    """The job that flags and a command line describe, its inputs read and digested.

    Raises:
        BadJob: a flag breaks a rule of the job document; an input is missing.
    """
    from dms.jobs.resolve import resolve  # noqa: PLC0415 - `dms run --help` must not pay for it

    fields, roots = _fields(task, argv)
    return resolve(_document(fields), Path.cwd(), origin="command line", roots=roots, variables=variables_in(fields))


def variables_in(fields: dict[str, Any]) -> list[str]:
    """The environment variables from which the secrets of a job's fields come: they were named on the command line."""
    return [source["env"] for source in fields.get("secrets", {}).values() if "env" in source]


def spec_of_kind(kind: str, params: Sequence[str], task: dict[str, Any]) -> JobSpec:
    """The job that a kind of task makes of parameters, with what the options say of the market; its inputs read and digested.

    Raises:
        UserError: `not_found`: there is no such kind; `bad_argument`: a parameter cannot be read, or the kind itself fails.
        BadJob: a parameter is wrong, or the job breaks a rule.
    """
    from dms.kinds.documents import Wishes, job_for  # noqa: PLC0415
    from dms.kinds.given import parameters_of  # noqa: PLC0415
    from dms.kinds.installed import kind_called  # noqa: PLC0415

    found = kind_called(kind)
    given = parameters_of(kind, found, params)
    fields, roots = market_fields(task)
    is_own = not any(text.startswith("@") for text in params)
    datasets = tuple(map(_dataset, task["datasets"]))
    return job_for(kind, found, given, Wishes(fields, roots, variables_in(fields), is_own, datasets), Path.cwd())


def spec_of_file(path: Path) -> JobSpec:
    """The job in a file, its inputs read and digested.

    Raises:
        BadJob: with every problem, its field and its line.
    """
    from dms.jobs.resolve import resolve_file  # noqa: PLC0415

    return resolve_file(path)


def job_file(task: dict[str, Any], argv: Sequence[str]) -> Path | None:
    """The job file that arguments not introduced by ``--`` name; None when they are a command.

    Raises:
        click.UsageError: something stands beside the file that it alone can say.
    """
    if not argv[0].endswith(JOB_SUFFIXES):
        return None
    given = next((name for name, value in task.items() if value not in (None, ())), None)
    if len(argv) > 1:
        raise click.UsageError(f"{argv[0]} is taken for a job file, and nothing follows one; a command comes after --")
    if given is not None:
        option = next(parameter.opts[-1] for parameter in _parameters() if parameter.name == given)
        raise click.UsageError(f"{option} describes a command after --; {argv[0]} is a job file and says this itself")
    return Path(argv[0])


def _parameters() -> list[click.Parameter]:
    return click.get_current_context().command.params


def _document(fields: dict[str, Any]) -> JobDocument:
    from dms.jobs.check import job_of  # noqa: PLC0415

    return job_of(fields)


def _fields(task: dict[str, Any], argv: Sequence[str]) -> tuple[dict[str, Any], list[Path]]:
    inputs = [_input(text) for text in task["inputs"]]
    module = task["module"]
    market, secret_files = market_fields(task)
    roots = [Path(path).resolve() for path in (*(item["path"] for item in inputs), module) if path]
    fields: dict[str, Any] = {
        "name": Path(argv[0]).name[:128] if argv else "",
        "executor": task["executor"] or ("wasm" if module else "oci" if task["image"] else None),
        "command": list(argv),
        "module": module,
        "image": task["image"],
        "pull": task["pull"],
        "inputs": [*inputs, *map(_dataset, task["datasets"])],
        "outputs": list(task["outputs"]),
        "checkpoint": task["checkpoint"],
        "env": dict(_pair(text, "--env") for text in task["env"]),
        "ports": list(dict.fromkeys(read_wish(text).port for text in task["ports"])),
        "names": task["names"],
    }
    return {**_given(**fields), **market}, [*roots, *secret_files]


def market_fields(task: dict[str, Any]) -> tuple[dict[str, Any], list[Path]]:
    """The fields of a job document that `market_options` give, and the files from which its secrets come."""
    secrets = {
        name: {**source, "as": kind}
        for kind, option, given in (
            ("file", "--secret", task["secrets"]),
            ("variable", "--secret-variable", task["secret_variable"]),
        )
        for name, source in (_secret(text, option) for text in given)
    }
    gpu = _given(model=task["gpu_model"], memory=task["gpu_memory"], share=task["gpu_share"])
    fields: dict[str, Any] = {
        "name": task["name"],
        "resources": _given(
            cpu=task["cpu"], memory=task["memory"], disk=task["disk"], gpus=[gpu] * (task["gpus"] or bool(gpu))
        ),
        "secrets": secrets,
        "egress": list(task["egress"]),
        "exec": task["exec_"],
        "count": task["count"],
        "together": task["together"],
        "timeouts": _given(run=task["run_time"], queue=task["queue"]),
        "wait_for_nodes": task["wait_for_nodes"],
        "deadline": task["deadline"],
        "max_price": task["max_price"],
        "budget": task["budget"],
        "pricing": task["pricing"],
        "preferences": task["prefer"],
        "constraints": list(task["constraints"]),
        "labels": dict(_pair(text, "--label") for text in task["labels"]),
        "node": task["node"],
        "cache": task["cache"],
        "priority": task["priority"],
        "verify": _given(
            policy=task["verify"], copies=task["copies"], comparator=task["comparator"], apart=task["apart"]
        ),
        "retry": {"job_failures": 1},  # a command that fails has answered, as it would have here
    }
    return _given(**fields), [Path(each["file"]).resolve() for each in secrets.values() if "file" in each]


def _given(**fields: Any) -> dict[str, Any]:  # values of a job document
    return {name: value for name, value in fields.items() if value not in (None, "", [], {})}


def _input(text: str) -> dict[str, str]:
    path, separator, place = text.rpartition("=")
    if not separator or Path(text).exists():
        return {"path": text}
    return {"path": path, "as": place}


def _dataset(text: str) -> dict[str, str]:
    rest = text.removeprefix("sha256:")
    name, _, place = rest.partition(":")
    return _given(dataset=text[: len(text) - len(rest)] + name, **{"as": place})


def _secret(text: str, option: str) -> tuple[str, dict[str, str]]:
    name, source = _pair(text, option)
    kind, separator, place = source.partition(":")
    if not separator or kind not in ("env", "file"):
        # The text is not repeated: it may be the value itself.
        raise click.BadParameter(
            f"{name} must come from env:VARIABLE or file:PATH; its value does not stand on the command line",
            param_hint=option,
        )
    return name, {kind: place}


def _pair(text: str, option: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise click.BadParameter(f"{text!r} is not of the form NAME=VALUE", param_hint=option)
    return name, value
