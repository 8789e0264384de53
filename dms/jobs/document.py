"""The job document: what a person writes to have something done. The types are the reference; the JSON Schema is generated from them.

Quantities are written for people (``512MiB``, ``500m``, ``10m``) and kept as written until `resolve`. `Unit` names how each is read, so the
checker, the schema and the reference page agree. Adding a field: give it a default and a description here, and use it in `resolve`.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from dms_proto.abilities import Ability, able
from dms_proto.capability import Isolation, JobClass
from dms_proto.egress import MAX_EGRESS
from dms_proto.images import MAX_IMAGE, Pull
from dms_proto.messages import Pricing
from dms_proto.named_ports import PATTERN
from dms_proto.rules import MAX_PATH
from dms_proto.secrets import MAX_SECRETS
from dms_proto.verification.policy import HASH, MAX_COPIES, Apart, Policy
from dms_proto.work import MAX_PORTS, ExecBy

Unit = Literal["bytes", "duration", "cores", "credits", "share"]

EXAMPLES: Final[dict[Unit, list[str | int | float]]] = {
    "bytes": ["512MiB", "4GiB"],
    "duration": ["90s", "10m", "2h"],
    "cores": [1, "500m", 2.5],
    "credits": [0.02, "0.5"],
    "share": [1, 0.5],
}


def quantity(description: str, unit: Unit) -> Meta:
    """A quantity's description and how it is written."""
    return Meta(description=description, examples=list(EXAMPLES[unit]), extra={"unit": unit})


def about(description: str) -> Meta:
    """A field's description."""
    return Meta(description=description)


Text = Annotated[str, Meta(max_length=128)]
Number = str | int | float


class GpuNeed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One GPU, or a share of one."""

    vendor: Annotated[Text, about('"nvidia", "amd", "intel"; empty for any.')] = ""
    model: Annotated[Text, about("Part of the model's name, whatever its case; empty for any.")] = ""
    memory: Annotated[Number, quantity("Least memory of the device or share.", "bytes")] = 0
    share: Annotated[Number, quantity("Part of the device; 1 is the whole of it, exclusively.", "share")] = 1


class ResourceNeeds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What each allocation reserves, and is held to."""

    cpu: Annotated[Number, quantity("CPU cores.", "cores")] = 1
    memory: Annotated[Number, quantity("Memory; using more ends the job as out of memory.", "bytes")] = "256MiB"
    disk: Annotated[Number, quantity("Space below the job's directory, inputs included.", "bytes")] = "256MiB"
    gpus: Annotated[tuple[GpuNeed, ...], Meta(description="One entry per GPU needed.", max_length=64)] = ()


class InputFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"as_": "as"}):
    """A file or directory the job reads, or a dataset of the node: one of `path` and `dataset`. A plain string is short for `path` alone."""

    path: Annotated[str, Meta(description="Beside the job file or below it.", max_length=4096)] = ""
    as_: Annotated[
        str,
        Meta(
            description="Where the job sees it, relative to its directory; empty: as in `path`, or as the dataset is called.",
            max_length=1024,
        ),
    ] = ""
    dataset: Annotated[
        str,
        Meta(description="Name or id of a dataset that was added to your node: `dms data list`.", max_length=128),
    ] = ""


class SecretSource(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"as_": "as"}):
    """Where the value of a secret comes from when the job is submitted: one of `env` and `file`."""

    env: Annotated[
        str, Meta(description="Your environment variable; its name begins with DMS_SECRET_.", max_length=128)
    ] = ""
    file: Annotated[str, Meta(description="A file beside the job file or below it.", max_length=4096)] = ""
    as_: Annotated[
        Literal["file", "variable"],
        about("How the job gets it: a file below /run/secrets, or an environment variable, of the secret's name."),
    ] = "file"


class Timeouts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long each part may take."""

    queue: Annotated[Number, quantity("How long to wait for capacity that exists but is not free now.", "duration")] = (
        "10m"
    )
    run: Annotated[Number, quantity("Wall time of one run; then it is stopped.", "duration")] = "10m"
    idle: Annotated[
        Number,
        quantity("For python without a command: how long without a call until it ends; 0: until `run`.", "duration"),
    ] = "1m"
    grace: Annotated[Number, quantity("Between asking the job to stop and killing it.", "duration")] = "2s"


class RunLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Hard limits of one run beyond its resources."""

    log: Annotated[Number, quantity("Standard output and error together; past it the job ends.", "bytes")] = "16MiB"
    egress: Annotated[
        Number, quantity("With `egress`: what may flow there in one run, both ways together.", "bytes")
    ] = "1GiB"
    processes: Annotated[int, Meta(description="Processes and threads at once.", ge=1, le=65_536)] = 256
    fuel: Annotated[int, Meta(description="WebAssembly instructions; 0: no limit but time.", ge=0, le=2**53)] = 0


class Retry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When to try another node."""

    job_failures: Annotated[
        int,
        Meta(
            description="Distinct nodes on which the job's own failure (exit code, memory, time) is final.", ge=1, le=16
        ),
    ] = 2
    node_faults: Annotated[
        int,
        Meta(
            description="Faults of nodes or the network after which it is given up; "
            "an attempt that cannot get what it reads counts as half of them.",
            ge=0,
            le=100,
        ),
    ] = 5

    checkpoints: Annotated[
        int, Meta(description="Times that one allocation goes on from its `checkpoint`.", ge=0, le=10_000)
    ] = 100


class Verify(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whether results are checked, by running the same work on several nodes. The work has to give the same wherever it runs."""

    policy: Annotated[
        Policy,
        about(
            "none: results are taken as they come. replicate: every piece runs on `copies` nodes. adaptive: a node is checked "
            "until it was right some forty times in a row, then ever more rarely."
        ),
    ] = Policy.NONE
    copies: Annotated[
        int, Meta(description="For replicate: nodes that run each piece; most of them must agree.", ge=2, le=MAX_COPIES)
    ] = 2
    comparator: Annotated[
        str,
        Meta(
            description=(
                "What takes two results for the same. hash: equal byte for byte. json: equal values. lines: equal lines, in any order. "
                "numbers, or numbers:1e-6: equal text, whose numbers may differ by that share. Or a plug-in of the node."
            ),
            max_length=128,
        ),
    ] = HASH
    apart: Annotated[
        Apart,
        about(
            "Where two copies may run. sources: in different networks, as far as their addresses tell. nodes: on any two nodes, "
            "for a market whose members you know."
        ),
    ] = Apart.SOURCES


class JobDocument(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"class_": "class"}):
    """A program to run somewhere good, what it needs, and what it may cost."""

    name: Annotated[Text, about("For people; empty: the file's name.")] = ""
    executor: Annotated[
        Text,
        about(
            'How it runs: "sandbox" for a Linux command, "wasm" for a WebAssembly module, "python" for a Python program, "oci" for a container.'
        ),
    ] = "sandbox"
    command: Annotated[
        str | tuple[str, ...],
        Meta(
            description="Program and arguments as a list, each taken as written; a string is given to /bin/sh -c. For wasm: the arguments. "
            "For python: the interpreter's, such as `[main.py, --fast]`; without, it takes calls of functions. "
            "For oci: in place of what the image runs, which it does if this is empty."
        ),
    ] = ()
    module: Annotated[str, Meta(description="For wasm: the module's file, sent as an input.", max_length=4096)] = ""
    image: Annotated[
        str,
        Meta(
            description="For oci: the container image, by digest (`NAME@sha256:…`), or by tag where your node's own engine tells the digest.",
            max_length=MAX_IMAGE,
        ),
    ] = ""
    pull: Annotated[
        Pull,
        about("For oci: when the provider fetches the image: always, if-not-present, or never."),
    ] = Pull.IF_NOT_PRESENT
    resources: Annotated[ResourceNeeds, about("What each allocation reserves.")] = ResourceNeeds()
    inputs: Annotated[
        tuple[str | InputFile, ...], Meta(description="Files sent along, by content and verified.", max_length=1024)
    ] = ()
    outputs: Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=1024)], ...],
        Meta(
            description="Patterns such as `out/*.csv` of files to bring back, relative to the job's directory.",
            max_length=256,
        ),
    ] = ()
    checkpoint: Annotated[
        str,
        Meta(
            description="File or directory below the job's directory that the program writes before it exits with 85: then it is to go on, on any "
            "node, and finds it there again. Empty: 85 is an exit code like any other.",
            max_length=MAX_PATH,
        ),
    ] = ""
    ports: Annotated[
        tuple[Annotated[int, Meta(ge=1, le=65_535)] | Annotated[str, Meta(pattern=PATTERN)], ...],
        Meta(
            description="TCP ports on the job's own loopback that you can reach with `dms forward`; nothing else gets in. A number, or a name for "
            "one that is free, as `http`, whose number the program finds in DMS_PORT_HTTP. "
            f"For {able(Ability.PORTS)}.",
            max_length=MAX_PORTS,
        ),
    ] = ()
    names: Annotated[
        bool,
        about(
            "Its allocations reach each other's `ports` by name: `0.job.internal:8080` is port 8080 of the one with DMS_INDEX 0, wherever it runs. "
            f"For {able(Ability.NAMES)}."
        ),
    ] = False
    egress: Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=300)], ...],
        Meta(
            description=(
                "Where it has to connect to: `pypi.org:443`, or `*.pythonhosted.org:443` for all names below one. Only nodes whose owner allows all "
                "of it run it. By HTTP proxies alone, which HTTPS_PROXY and HTTP_PROXY name; nothing else gets out. "
                f"For {able(Ability.EGRESS)}."
            ),
            max_length=MAX_EGRESS,
        ),
    ] = ()
    exec: Annotated[
        ExecBy,
        about(
            "Who may run commands beside it with `dms alloc exec`, with all that it has, its secrets included: "
            "nobody, requester (you), granted (you, and who has a grant of the provider's with the right exec). "
            f"For {able(Ability.EXEC)}."
        ),
    ] = ExecBy.NOBODY
    env: Annotated[
        dict[str, str],
        Meta(
            description="Environment variables. DMS_INDEX and DMS_COUNT are added, and DMS_PORT_… for named `ports`; nothing else is there.",
            max_length=500,
        ),
    ] = {}
    secrets: Annotated[
        dict[str, str | SecretSource],
        Meta(
            description="Values that only the job sees, by name. They are sealed to the node that runs it, and stand in no document.",
            max_length=MAX_SECRETS,
        ),
    ] = {}
    count: Annotated[int, Meta(description="Independent allocations of the same task.", ge=1, le=10_000)] = 1
    together: Annotated[
        bool,
        about("All allocations get a place at once, or none does; and when one has failed, the others are stopped."),
    ] = False
    node: Annotated[
        Text,
        about(
            "The one node that may run it: its PeerID, a part of it, or its name, as `dms peers list` shows them; empty for any. It runs there, or "
            "the job ends with that node's reason."
        ),
    ] = ""
    constraints: Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=1000)], ...],
        Meta(description="CEL expressions that must hold for a bid, such as `link.rtt_ms < 50.0`.", max_length=32),
    ] = ()
    preferences: Annotated[
        str | dict[str, float],
        about(
            "A preset (cheapest, fastest, balanced, own-machines-first, evenly) or weights by term; empty: the node's own."
        ),
    ] = ""
    rank: Annotated[
        str,
        Meta(
            description="CEL expression from 0 (worst) to 1 (best): one more term, weighed as `rank`.", max_length=1000
        ),
    ] = ""
    comparator: Annotated[
        str, Meta(description="Plug-in of the node that compares bids in its own way; empty: dms does.", max_length=128)
    ] = ""
    max_price: Annotated[Number, quantity("Most to be paid for one allocation run to its time limit.", "credits")] = 1
    pricing: Annotated[
        Pricing,
        about(
            "What the winner is paid: its bid (first-price), or the most it could have bid and still won (second-price). The latter is for "
            "one allocation, and the lowest price per work decides alone."
        ),
    ] = Pricing.FIRST_PRICE
    budget: Annotated[
        Number, quantity("Most to be paid for the whole job, all its allocations and tries; 0: no limit.", "credits")
    ] = 0
    deadline: Annotated[Number, quantity("From now until all must be over; 0: none.", "duration")] = 0
    timeouts: Annotated[Timeouts, about("How long each part may take.")] = Timeouts()
    limits: Annotated[RunLimits, about("Hard limits of one run.")] = RunLimits()
    retry: Annotated[Retry, about("When to try another node.")] = Retry()
    verify: Annotated[Verify, about("How its results are checked.")] = Verify()
    cache: Annotated[
        bool,
        about(
            "Whether your own earlier result will do, of the very same work on the very same inputs, instead of running it again. Say so only of "
            "work that always gives the same."
        ),
    ] = False
    priority: Annotated[int, Meta(description="Order among this node's own jobs; higher first.", ge=0, le=1000)] = 0
    class_: Annotated[
        JobClass,
        about(
            "Kind of demand; a provider may accept only some. batch can wait: where its owner wishes so, it is frozen while an interactive job or "
            "a service needs the CPU."
        ),
    ] = JobClass.BATCH
    labels: Annotated[dict[Text, Text], Meta(description="Labels a node must have.", max_length=32)] = {}
    libraries: Annotated[
        tuple[Text, ...], Meta(description="`name` or `name==version` a node must have.", max_length=64)
    ] = ()
    architecture: Annotated[Text, about('"x86_64", "aarch64"; empty for any.')] = ""
    cpu_score: Annotated[
        int, Meta(description="Least measured speed of a core; 1000 is the reference core.", ge=0, le=1_000_000)
    ] = 0
    isolation: Annotated[Isolation, about("Weakest isolation the job accepts from the executor.")] = Isolation.NONE
    country: Annotated[
        str,
        Meta(
            description="ISO 3166-1 alpha-2 code of where it must run; empty for anywhere.",
            pattern="^([A-Z]{2})?$",
            max_length=2,
        ),
    ] = ""
    relayed: Annotated[bool, about("Whether a node reached only through a relay will do.")] = True
    bids_wanted: Annotated[
        int,
        Meta(
            description="Bids that make a choice; waiting ends when they are in. 0: as many as the node's `market.bids_wanted`.",
            ge=0,
            le=100,
        ),
    ] = 0
    wait_for_nodes: Annotated[
        Number,
        quantity(
            "How long to wait when no known node could ever run it; 0: end at once, with the reasons.", "duration"
        ),
    ] = 0
