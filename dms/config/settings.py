"""The settings of a node: sections and fields, each with unit, default and consequence.

The description of a field is data (`about`), so that the reference page and the template file say the same. A field's unit is
how a person writes it: "4GiB" or "90s" in the file is an integer of bytes or milliseconds here.

Adding a field: give it a default and a description here; file, environment, template and reference page follow.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from dms_proto.capability import Isolation, JobClass
from dms_proto.egress import MAX_ALLOWED, Destination
from dms_proto.grants.access import Access as Served
from dms_proto.ids import PeerId
from dms_proto.pool.replacement import Strategy
from dms_proto.rules import MAX_STANDING
from dms_proto.units import CREDIT, GIB, HOUR, MIB, MINUTE, SECOND
from dms_proto.wire.log_budget import PER_DAY_BYTES
from dms_proto.wire.scores import HALF_LIFE_MS
from dms_proto.wire.stamps import MAX_BITS

VERSION: Final = 1
"""Of the file format. Raised, with a step in `migrations`, whenever a field changes its name or meaning."""

UNITS: Final = ("", "cores", "bytes", "ms", "seconds", "credits", "credits per hour")


def about(description: str, *, unit: str = "") -> Meta:
    """What a person needs to know of a field. `unit` is one of `UNITS`."""
    assert unit in UNITS, unit
    return Meta(description=description, extra={"unit": unit})


Name = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Port = Annotated[int, Meta(ge=0, le=65535)]
Amount = Annotated[int, Meta(ge=0, le=2**53)]
PeerName = Annotated[PeerId, Meta(pattern=r"^12D3KooW[1-9A-HJ-NP-Za-km-z]{44}$")]
Registry = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9.-]*(:[0-9]{1,5})?$", max_length=255)]
Multiaddr = Annotated[str, Meta(pattern=r"^/[a-z0-9]+/.+", max_length=512)]


class Node(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who the node says it is."""

    name: Annotated[
        Name | None, about("How people see this node in lists. Unset: the last 8 characters of its PeerID.")
    ] = None
    labels: Annotated[
        dict[Name, Annotated[str, Meta(max_length=128)]],
        about(
            'Free words others can require, such as `room = "lab"`. Published with the capability; nothing checks them.'
        ),
    ] = {}
    country: Annotated[
        str,
        Meta(pattern=r"^([A-Z]{2})?$"),
        about(
            "ISO 3166-1 alpha-2 code of where the machine stands. Empty: not said, so requests that name a country pass by."
        ),
    ] = ""


class Identity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the passphrase of a protected key comes from when nobody is there to type it."""

    passphrase_file: Annotated[
        str,
        about(
            "File whose first line is the passphrase, readable by its owner alone; such as a credential that systemd hands to the service. "
            "Empty: the next source is tried."
        ),
    ] = ""
    passphrase_command: Annotated[
        tuple[str, ...],
        about(
            'Program and arguments that print the passphrase, such as `["pass", "dms"]`. Asked when `passphrase_file` is empty; after it '
            "the OS keyring, then a person at the terminal."
        ),
    ] = ()


class Network(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the node is reached and whom it reaches."""

    listen: Annotated[
        tuple[Multiaddr, ...],
        about(
            "Addresses to listen on, all of them. Port 0 lets the system choose, then invitations end when the node restarts."
        ),
    ] = ("/ip4/0.0.0.0/tcp/4600",)
    announce: Annotated[
        tuple[Multiaddr, ...],
        about(
            "Addresses told to others. Empty: those of the interfaces. Set it behind a port forwarding or a fixed NAT."
        ),
    ] = ()
    bootstrap: Annotated[
        tuple[Multiaddr, ...],
        about(
            "Peers dialled at start and whenever none is connected, each ending in /p2p/PEER. `dms join` adds to those it stores itself."
        ),
    ] = ()
    mdns: Annotated[
        bool,
        about("Finds nodes on the local network by multicast. Off: only `bootstrap` and `dms join` lead to others."),
    ] = True
    keepalive_s: Annotated[
        int,
        Meta(ge=1, le=3600),
        about(
            "Time between two probes on a silent connection; two misses and the peer is down. Lower finds dead peers sooner and costs traffic.",
            unit="seconds",
        ),
    ] = 15
    forgive_s: Annotated[
        int,
        Meta(ge=1, le=86_400),
        about(
            "Time in which the points of peers that misbehave halve, and for which one with too many is muted. "
            "Longer keeps offenders away for longer, and an honest peer with a fault too.",
            unit="seconds",
        ),
    ] = HALF_LIFE_MS // SECOND
    work_bits: Annotated[
        int,
        Meta(ge=0, le=MAX_BITS),
        about(
            "Proof of work that a stranger shows once a day before it is let in from a public address: each bit doubles it, 16 take it some 0.1 s. "
            "Raise it under attack by ever new identities. 0: none. The peers in `access.own`, those that this node dials, and "
            "those that it has let in by a grant, as anchors or by a credit limit of their own show none."
        ),
    ] = 16
    work_bits_private: Annotated[
        int,
        Meta(ge=0, le=MAX_BITS),
        about("The same from an address that is not public: of this machine, or of the local network."),
    ] = 0
    topic: Annotated[
        Name,
        about(
            "Name of the market. Only nodes with the same name hear each other's bid requests: choose your own for a private market. "
            "It is no secret and no protection; `access.market` is."
        ),
    ] = "public"


class Market(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How this node asks for bids and stands by its own."""

    bids_wanted: Annotated[
        int,
        Meta(ge=1, le=1000),
        about(
            "Bids that make a choice, for jobs that do not say. More give more choice and cost a message and a capability lock each."
        ),
    ] = 3
    window_ms: Annotated[
        int,
        Meta(ge=1, le=60_000),
        about(
            "Longest wait for bids. It ends early when enough are in or every known candidate has answered.",
            unit="ms",
        ),
    ] = 250
    ask_directly: Annotated[
        bool,
        about(
            "Asks connected peers by name, and everybody else by gossip when those are too few. Off: each round goes out by gossip alone, "
            "which takes longer and names nobody; a node that joins while a request waits is still asked by itself."
        ),
    ] = True
    bid_validity_ms: Annotated[
        int,
        Meta(ge=500, le=600_000),
        about(
            "How long a bid of this node binds it and its capability lock holds the capacity. Longer suits slow requesters and idles the machine.",
            unit="ms",
        ),
    ] = 10_000
    ack_timeout_ms: Annotated[
        int,
        Meta(ge=50, le=60_000),
        about(
            "The least that a silent winner is waited for before the next bid is taken; one whose answers are known to take longer is waited for "
            "up to eight times as long.",
            unit="ms",
        ),
    ] = 500
    seekers: Annotated[
        int,
        Meta(ge=1, le=MAX_STANDING),
        about(
            "Jobs of this node that look for a provider at a time; the others wait for their turn here. A provider remembers 256 requests that it is "
            "too busy for, those of other nodes among them, and forgets the rest: with more than that they are asked for again and again.",
        ),
    ] = MAX_STANDING * 4 // 5
    spot_check_price: Annotated[
        Amount,
        about(
            "The most that a spot check of a provider's benchmark may cost: a few seconds of one of its cores, and of one here to know the answer, "
            "at most every twenty minutes for each provider that gets work. 0: none is sent.",
            unit="credits",
        ),
    ] = 1_000


class Provider(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the machine offers, and at what price. Amounts not set are chosen from the machine, with room left for its owner."""

    enabled: Annotated[bool, about("Off: the node asks others for work and runs none itself.")] = True
    cpu: Annotated[
        Amount | None,
        about("CPU offered. Unset: all but one core, or three quarters of a machine with fewer than 4.", unit="cores"),
    ] = None
    memory: Annotated[
        Amount | None,
        about("Memory offered. Unset: three quarters, or less where other programs already use more.", unit="bytes"),
    ] = None
    disk: Annotated[
        Amount | None,
        about("Disk offered to jobs. Unset: half of what is free where the home lies, at most 100 GiB.", unit="bytes"),
    ] = None
    gpus: Annotated[
        tuple[str, ...],
        about('Devices offered, by the names `dms doctor` shows ("0", "MIG-…"); "all" or "none".'),
    ] = ("all",)
    simulate_gpus: Annotated[
        str,
        about(
            "Invented GPUs, such as `2xA100-40G,1xL4-24G`, for tests and demonstrations, offered instead of real ones; one that is divided into "
            "instances (MIG) is `1xA100-40G/3x1g.5gb+1x3g.20gb`. They are marked as "
            "simulated in the model and in a label; jobs that use them find no device."
        ),
    ] = ""
    job_classes: Annotated[
        tuple[JobClass, ...], about("Kinds of jobs taken: batch, interactive, service. Empty: all.")
    ] = ()
    constraints: Annotated[
        tuple[str, ...],
        about(
            'Conditions in CEL over `request` and `requester` that must all be true, such as `"requester.own || request.max_price >= 0.01"`. '
            "See docs/reference/expressions.md."
        ),
    ] = ()
    comparator: Annotated[
        str,
        about(
            "Plug-in that is asked as well whether a request fits; it can refuse more, never promise more. See docs/guides/comparators.md."
        ),
    ] = ""
    max_wall_ms: Annotated[
        Amount,
        about("Longest run accepted; requests for longer are declined. 0: no limit.", unit="ms"),
    ] = 24 * HOUR
    egress: Annotated[
        tuple[Destination, ...],
        Meta(max_length=MAX_ALLOWED),
        about(
            "Where jobs that ask for it may connect to, through a proxy of this node: `pypi.org:443`, `*.pythonhosted.org:443` for all names below "
            "one, `*:443` for every host. In lower case. Other nodes are told. Empty: nowhere. See docs/guides/egress.md."
        ),
    ] = ()
    egress_bytes: Annotated[
        Amount, about("The most that may flow there in one run, both ways together.", unit="bytes")
    ] = GIB
    egress_networks: Annotated[
        tuple[str, ...],
        about(
            "Networks such as `10.1.0.0/16` in which such a destination may lie, beside the public internet. What listens there at the ports in "
            "`egress` is open to strangers' jobs, services of this machine included."
        ),
    ] = ()
    price_start: Annotated[Amount, about("Fee for starting an allocation, whatever it uses.", unit="credits")] = 0
    price_cpu_core: Annotated[Amount, about("Price of one core.", unit="credits per hour")] = 10_000
    price_memory_gib: Annotated[Amount, about("Price of one GiB of memory.", unit="credits per hour")] = 2_000
    price_disk_gib: Annotated[Amount, about("Price of one GiB of disk.", unit="credits per hour")] = 20
    price_gpu: Annotated[
        Amount,
        about("Price of one whole GPU; a hardware instance (MIG) costs its part of it.", unit="credits per hour"),
    ] = 500_000
    price_busy_percent: Annotated[
        int,
        Meta(ge=0, le=1_000),
        about("How much dearer a full machine is than an idle one; in between in proportion. 50: half as much again."),
    ] = 0
    price_interactive_percent: Annotated[
        int, Meta(ge=1, le=1_000), about("What interactive jobs pay, in percent of the prices.")
    ] = 100
    price_service_percent: Annotated[
        int, Meta(ge=1, le=1_000), about("What services pay, in percent of the prices.")
    ] = 100
    offline_gives_way: Annotated[
        bool,
        about(
            "Whether batch jobs (offline) give way to interactive jobs and services (online): their CPU counts as free for those, and they are "
            "frozen while it is needed. Memory and devices they keep."
        ),
    ] = False
    evict_offline_after_s: Annotated[
        int,
        Meta(ge=0, le=3_600),
        about(
            "How long a batch job stands still then before it is evicted, and tried elsewhere; an hour at most, in all. 0: evicted at once.",
            unit="seconds",
        ),
    ] = 60
    price_concession_percent: Annotated[
        int,
        Meta(ge=0, le=99),
        about(
            "How far the hourly prices come down, in percent, to meet a job that would pay less (its `max_price`). Nobody is told of it before. "
            "0: the prices are as posted."
        ),
    ] = 0
    second_price: Annotated[
        bool,
        about(
            "Whether to bid where the winner is paid the most it could have bid and still won. Bids are sealed there, and never paid less "
            "than they ask."
        ),
    ] = True
    min_price: Annotated[
        Amount,
        about(
            "Least total for which this node bids. Requests that pay less are declined with this figure.",
            unit="credits",
        ),
    ] = 0
    monitor_s: Annotated[
        int,
        Meta(ge=0, le=300),
        about(
            "Time between two looks at what other programs use. Lower reacts sooner; each look costs about a millisecond. "
            "0: never looks, and bids whatever else the machine does; for several nodes on one machine.",
            unit="seconds",
        ),
    ] = 5


class OwnerFirst(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When work of others gives way to the owner of the machine. See docs/guides/owner-first.md."""

    enabled: Annotated[
        bool,
        about(
            "On: while the owner uses the machine, runs stand still and nothing new is taken. Programs that were not started by this node are the "
            "owner's."
        ),
    ] = False
    cpu: Annotated[
        Amount,
        about(
            "CPU used by other programs from which the machine is the owner's, for a second. 0: theirs is never a reason.",
            unit="cores",
        ),
    ] = 1_000
    battery: Annotated[bool, about("Whether a machine that runs on its battery is the owner's.")] = True
    typing: Annotated[
        bool,
        about("Whether one at which somebody types in a terminal is; what happens on a graphical screen is not seen."),
    ] = False
    resume_after_s: Annotated[
        int,
        Meta(ge=1, le=86_400),
        about("How long nothing is to be seen of the owner before runs go on.", unit="seconds"),
    ] = 60
    evict_after_s: Annotated[
        int,
        Meta(ge=0, le=3_600),
        about(
            "How long a run stands still before it is evicted, and tried elsewhere; an hour at most, in all. It keeps its memory until then. "
            "0: evicted at once.",
            unit="seconds",
        ),
    ] = 600
    grace_s: Annotated[
        int,
        Meta(ge=0, le=60),
        about("The most that is left to an evicted run to end by itself, such as at a checkpoint.", unit="seconds"),
    ] = 5


class Accounts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What peers may owe this node, and it them."""

    credit_limit: Annotated[
        Amount,
        about(
            "The most a peer may owe that has no limit of its own (`dms account limit`); past it, its requests are declined until it has paid. "
            "0: strangers prepay, or get what is free only. Every new identity starts with it: set it low where prices are real money.",
            unit="credits",
        ),
    ] = 100 * CREDIT
    debt_limit: Annotated[
        Amount,
        about(
            "The most this node may owe a peer that has no limit of its own (`dms account limit --ours`), over all its jobs, with what runs there "
            "counted at its agreed price; bids that would go past it are passed over. 0: only what is free or paid in advance.",
            unit="credits",
        ),
    ] = 100 * CREDIT
    call_rate: Annotated[
        Amount,
        about(
            "The most that an hour at work on calls of a service may cost, where the call says nothing else (`dms service call --max-rate`): no "
            "dearer price is agreed. 0: only what is free is called.",
            unit="credits per hour",
        ),
    ] = CREDIT


class Access(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who may ask this node for what. See docs/guides/private-market.md."""

    market: Annotated[
        Served,
        about(
            "public: everybody; authorised: who shows a grant of one of this node's anchors (`dms grant`, `dms invite`); own: who shows a grant "
            "made with --own, and the peers in `own`."
        ),
    ] = Served.PUBLIC
    gpus: Annotated[
        Served,
        about("The same for requests that want a GPU, where that is stricter than `market`."),
    ] = Served.PUBLIC
    logs: Annotated[
        Served,
        about(
            "Who may read what the jobs of others wrote, of those that ran here or were asked for here; the requester always may. public: everybody "
            "who knows an allocation's id; authorised: who shows a grant with the right `logs`; own: machines of the same owner."
        ),
    ] = Served.OWN
    own: Annotated[
        tuple[PeerName, ...],
        about("PeerIDs of machines of the same owner: they need no grant, and pay nothing."),
    ] = ()


class Executors(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which ways of running a job are offered."""

    enabled: Annotated[
        tuple[str, ...],
        about(
            "Executors to probe at start. What does not pass its probe on this machine is not offered, and `dms doctor` says why. With `slurm`, "
            "`dask`, `ray`, `htcondor` or `kubernetes` among them, `sandbox` and `wasm` run on the machines of a cluster, and nothing on this one."
        ),
    ] = ("sandbox", "wasm", "python")
    python: Annotated[
        str,
        about(
            "The Python of jobs in Python: path of an interpreter, best of a virtual environment of its own, such as /srv/jobs/bin/python. What is "
            "installed there is offered as libraries, and visible to strangers; packages installed in editable form are not. Empty: the one "
            "that runs the node, with cloudpickle alone."
        ),
    ] = ""
    oci_socket: Annotated[
        str,
        about(
            "Socket of the container engine, for `oci` among those enabled. Empty: the first that answers of $DOCKER_HOST, of those of this user's "
            "rootless podman or Docker, and of the machine's."
        ),
    ] = ""
    oci_runtime: Annotated[
        str,
        about(
            'The engine\'s name for the way containers are run, such as "runsc" or "kata", if it has one of that name. Empty: its default.'
        ),
    ] = ""
    oci_registries: Annotated[
        tuple[Registry, ...],
        about(
            "Registries from which images are pulled; jobs with others are refused. Pulling makes the engine connect to where the name leads, so "
            "a registry of your own network lets strangers ask there. None: only images that are here."
        ),
    ] = ("docker.io", "ghcr.io", "quay.io", "registry.k8s.io", "public.ecr.aws", "mcr.microsoft.com", "nvcr.io")
    oci_image_bytes: Annotated[
        Amount,
        about("The most that one image may have, to be pulled. Larger ones are refused.", unit="bytes"),
    ] = 8 * GIB
    oci_images_bytes: Annotated[
        Amount,
        about(
            "The most that the images pulled for jobs may have together; past it, those unused longest are removed. Your own are never.",
            unit="bytes",
        ),
    ] = 32 * GIB
    cluster_directory: Annotated[
        str,
        about(
            "For `slurm`, `dask`, `ray`, `htcondor` or `kubernetes` among those enabled: a directory that this machine and all of the cluster's see "
            "under the same path. The files of jobs are there while they run, and what the node and its runners say to each other. This user has to "
            "be able to write there."
        ),
    ] = ""
    cluster_python: Annotated[
        str,
        about(
            "Path, on the machines of the cluster, of a Python that has dms installed. Empty: the path of the one that runs the node."
        ),
    ] = ""
    cluster_address: Annotated[
        str,
        about(
            "An address of this machine at which those of the cluster reach it, such as 10.0.0.5:7400; without a port, any that is free. Runners "
            "connect there, so that jobs on the cluster can have ports, names, commands beside them and ways to elsewhere. Nobody else is let in; "
            "what flows is not encrypted. Empty: jobs there have nothing beside their program."
        ),
    ] = ""
    slurm_conf: Annotated[
        str, about("Path of Slurm's slurm.conf on this machine. Empty: where Slurm's own commands look for it.")
    ] = ""
    slurm_partition: Annotated[
        str,
        about(
            "The partition that jobs are placed in, and whose machines are offered. Empty: the default one, and all machines."
        ),
    ] = ""
    slurm_account: Annotated[str, about("The account of Slurm on which jobs are booked. Empty: this user's.")] = ""
    dask_address: Annotated[
        str,
        about(
            "For `dask` among those enabled: the address of its scheduler, such as tls://10.0.0.1:8786. How the node shows who it is there stands in "
            "Dask's own configuration."
        ),
    ] = ""
    ray_address: Annotated[
        str,
        about("For `ray` among those enabled: where the HTTP of its head answers, such as https://10.0.0.1:8265."),
    ] = ""
    ray_token_file: Annotated[
        str,
        about(
            "Path of a file with the token that Ray asks for: its head's is in ~/.ray/auth_token. Empty: it asks for none."
        ),
    ] = ""
    htcondor_conf: Annotated[
        str,
        about("Path of HTCondor's condor_config on this machine. Empty: where HTCondor's own commands look for it."),
    ] = ""
    htcondor_requirements: Annotated[
        str,
        about(
            "The machines of the HTCondor pool that jobs are placed on, and that are offered: a ClassAd expression on their attributes, such as "
            '`Machine != "a.example.org"`. Empty: all that HTCondor gives to jobs from this machine.'
        ),
    ] = ""
    htcondor_accounting_group: Annotated[
        str, about("The accounting group of HTCondor on which jobs are booked. Empty: this user's.")
    ] = ""
    kubernetes_pod: Annotated[
        str,
        about(
            "For `kubernetes` among those enabled: path of a file with the Pod, in YAML, that each job's runner is placed in: its namespace, its "
            "image, a volume at cluster_directory, and the nodes it may be placed on. Its command and what it takes of a node are filled in."
        ),
    ] = ""
    kubernetes_config: Annotated[
        str,
        about(
            "Path of a kubeconfig, whose current context says which Kubernetes is asked and by whom. Empty: the one that kubectl would take, or else "
            "the service account of the Pod that the node itself runs in."
        ),
    ] = ""
    minimum_isolation: Annotated[
        Isolation,
        about(
            "Weakest isolation in which strangers' jobs run: none, landlock, container, namespaces, wasm, microvm. Executors proven weaker are "
            "not offered; lowering it trusts everyone who can reach this node."
        ),
    ] = Isolation.CONTAINER


class Pool(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is kept warm for calls of this node's services. See docs/concepts/pools.md."""

    cpu: Annotated[
        Amount,
        about(
            "CPU of the machine for containers; the market gets the less. 0, here or for memory: no calls are taken.",
            unit="cores",
        ),
    ] = 0
    memory: Annotated[Amount, about("Memory for containers.", unit="bytes")] = 0
    disk: Annotated[Amount, about("Disk for containers.", unit="bytes")] = 0
    gpus: Annotated[
        tuple[str, ...],
        about(
            "GPUs for containers, as `dms node capability` names them, and whole: services may share one, for they are all of this owner."
        ),
    ] = ()
    virtual: Annotated[
        int,
        Meta(ge=1, le=1_000),
        about("Users' services that may share a container. More need less memory, and wait longer for each other."),
    ] = 10
    calls: Annotated[
        int,
        Meta(ge=1, le=1_000),
        about("Calls that a container may have, the one at work and those that wait. Past it another one is started."),
    ] = 32
    ttl_ms: Annotated[Amount, about("How long what nobody uses is kept.", unit="ms")] = 10 * MINUTE
    hot_ms: Annotated[
        Amount,
        about(
            "How long after its last use a container does not go for another one, unless that is for an own machine.",
            unit="ms",
        ),
    ] = 30 * SECOND
    strategy: Annotated[Strategy, about("Which container goes first: lru, fifo, lfu or clock.")] = Strategy.LRU
    own_percent: Annotated[
        int,
        Meta(ge=0, le=100),
        about("Part of the pool that is kept for the owner's own machines, and idle while they do not call."),
    ] = 0
    start_ms: Annotated[Amount, about("How long a container may take until it lets calls in.", unit="ms")] = 5 * MINUTE
    longest_call_ms: Annotated[
        Amount,
        about("How long one call may take; then it is cut. The next one in its container waits as long.", unit="ms"),
    ] = 10 * MINUTE
    count_ms: Annotated[
        Amount,
        about(
            "How long what calls add to the counters may be unwritten. 0: it is written before the calls are delivered, and a node that is killed "
            "loses none.",
            unit="ms",
        ),
    ] = 0


class Store(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is kept on disk."""

    blobs_max: Annotated[
        Amount,
        about(
            "Size of the store of job inputs and outputs. Past it, what no open job or allocation needs is removed, the longest unused first.",
            unit="bytes",
        ),
    ] = 10 * GIB
    keep_jobs_ms: Annotated[
        Amount,
        about(
            "How long results and logs of ended jobs can be fetched again, if `blobs_max` leaves room; 10 minutes at least. "
            "Events are kept regardless.",
            unit="ms",
        ),
    ] = 7 * 24 * HOUR
    strangers_daily: Annotated[
        int,
        Meta(ge=MIB, le=2**53),
        about(
            "What strangers may make this node write into its event store in a day, all of them together; those of one source a quarter of it, one "
            "of them an eighth. Past it their requests are declined as `log_budget`. Peers that the owner names or that show a grant do not count.",
            unit="bytes",
        ),
    ] = PER_DAY_BYTES
    events_max: Annotated[
        Amount,
        about(
            "Size of the event store from which on strangers are declined altogether, so that they make it no longer. 0: no limit.",
            unit="bytes",
        ),
    ] = 16 * GIB


class Rpc(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """JSON-RPC beyond the Unix socket, which is always there and open to the owner alone."""

    http: Annotated[
        bool, about("Also answers on HTTP and WebSocket, to whoever shows a bearer token, which `dms token` prints.")
    ] = False
    host: Annotated[
        str,
        Meta(min_length=1),
        about(
            "Address to bind. Anything but loopback needs `tls_certificate` and `tls_key`, or the node refuses to start."
        ),
    ] = "127.0.0.1"
    port: Annotated[Port, about("TCP port of HTTP; 0 lets the system choose.")] = 4680
    names: Annotated[
        tuple[Name, ...],
        about("Host names by which this node is addressed, beside `host` and those of loopback. Any other is refused."),
    ] = ()
    tls_certificate: Annotated[str, about("PEM file of the certificate chain. Empty: plain HTTP, loopback only.")] = ""
    tls_key: Annotated[str, about("PEM file of the certificate's key.")] = ""


class Log(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the node writes down for its operator."""

    level: Annotated[
        str,
        Meta(pattern="^(debug|info|warning|error)$"),
        about(
            "debug: every message; info: what a person would want to know later; warning: needs attention soon; error: something was lost."
        ),
    ] = "info"
    json: Annotated[bool, about("One JSON object per line instead of text.")] = False
    max_bytes: Annotated[Amount, about("Size at which a new log file is begun. 0: never.", unit="bytes")] = 10 * MIB
    backups: Annotated[int, Meta(ge=1, le=100), about("Older log files kept beside the current one.")] = 3


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything a node was told. `Config()` is the default in every field."""

    version: Annotated[int, about("Format of the file; older ones are migrated when read.")] = VERSION
    node: Node = Node()
    identity: Identity = Identity()
    network: Network = Network()
    market: Market = Market()
    provider: Provider = Provider()
    owner_first: OwnerFirst = OwnerFirst()
    accounts: Accounts = Accounts()
    access: Access = Access()
    executors: Executors = Executors()
    pool: Pool = Pool()
    store: Store = Store()
    rpc: Rpc = Rpc()
    log: Log = Log()
