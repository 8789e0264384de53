"""A plan: one world and everything that will happen to it, as data. The same plan and seed always give the same history.

Nodes and jobs are named by their index. Times are milliseconds of the world's clock; a node's own clock differs by its skew.
A plan can be shrunk: taking parts away leaves a plan.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from dms_proto.capability import Gpu, JobClass, Price
from dms_proto.messages import Pricing
from dms_proto.units import GIB, MINUTE, SECOND
from dms_proto.verification.policy import Verification


class Lie(StrEnum):
    """How a lying node lies."""

    BREAKS_PROMISES = "breaks promises"
    """Bids, and refuses every commit."""
    SILENT_WINNER = "silent winner"
    """Bids, and does not answer commits."""
    SILENT_AFTER_ACK = "silent after ack"
    """Accepts the commit and says nothing of the work again."""
    FORGES_BIDS = "forges bids"
    """Bids under ids that are not its own."""
    WRONG_OFFERS = "wrong offers"
    """Bids without having what is needed, for nothing, with room for everything."""
    STATUS_CHAOS = "status chaos"
    """Statuses out of order, repeated, contradictory, of allocations of others."""
    OVERCHARGES = "overcharges"
    """Claims a thousand times the agreed price."""
    GARBAGE_REQUESTS = "garbage requests"
    """Asks for the absurd, commits what others were promised, cancels and confirms what is not its own."""
    WRONG_RESULTS = "wrong results"
    """Does no work and says that it ended otherwise, or gives files far from those of others, or none that can be compared; of every other request
    all such liars say the same."""
    OPENS_WRONGLY = "opens wrongly"
    """Opens another bid than it sealed, or none, or somebody else's, or before it is asked."""
    SETS_PRICES = "sets prices"
    """Asks for sealed bids, and takes them at prices that it makes up."""
    LOCK_HOG = "lock hog"
    """Asks for bids all the time and never commits."""


class NodeSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """One node.

    Attributes:
        cores, memory, gpus: what it offers.
        tariff: what it asks for.
        accepts_work: whether it bids.
        seekers: requests of its own that seek at a time.
        own: whose machines are its owner's as well.
        skew_ms: its clock less the world's.
        joins_at: when it starts.
        lie: how it lies; None for an honest node.
        bootstrap: whom it dials first.
    """

    cores: int = 4
    memory: int = 8 * GIB
    gpus: tuple[Gpu, ...] = ()
    tariff: Price = Price()
    accepts_work: bool = True
    offline_gives_way: bool = False
    seekers: int = 204
    own: tuple[int, ...] = ()
    skew_ms: int = 0
    joins_at: int = 0
    lie: Lie | None = None
    bootstrap: tuple[int, ...] = (0,)


class Outcome(StrEnum):
    """What a job's program does."""

    OK = "ok"
    FAILS = "fails"
    """Exits with 1 wherever it runs."""
    MEMORY = "memory"
    """Uses more memory than it may."""
    OVERRUNS = "overruns"
    """Does not end before its wall limit."""
    BREAKS_NODE = "breaks node"
    """The executor cannot set it up: a fault of the node."""
    FAILS_ONCE = "fails once"
    """Exits with 1 on the first node, and with 0 on any other."""
    HALFWAY = "halfway"
    """Exits with 85 twice, and when it is asked to stop, with what it has done as its checkpoint; then with 0."""
    VARIES = "varies"
    """Leaves a file that is a little different on each node."""


class JobSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """One request.

    Attributes:
        node: who asks.
        at: when.
        count, together: allocations; whether all get a place at once or none does.
        work_ms: how long each runs.
        cancel_after: the owner cancels it this much later; 0: never.
        inputs, outputs: whether files go there and come back.
        kind: its class.
        verify: how its results are checked.
        deadline_ms: after `at`; 0 for none.
        pricing: what the winner is paid.
    """

    node: int
    at: int = 0
    count: int = 1
    together: bool = False
    work_ms: int = 2 * SECOND
    outcome: Outcome = Outcome.OK
    cores: int = 1
    memory: int = GIB
    gpus: tuple[Gpu, ...] = ()
    architecture: str = "x86_64"
    wall_ms: int = 10 * MINUTE
    max_price: int = 1_000_000
    bids_wanted: int = 3
    queue_ms: int = 10 * MINUTE
    patience_ms: int = 0
    deadline_ms: int = 0
    cancel_after: int = 0
    priority: int = 0
    kind: JobClass | None = None
    inputs: bool = False
    outputs: bool = False
    verify: Verification = Verification()
    pricing: Pricing = Pricing.FIRST_PRICE


class Weather(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the network does to messages.

    Attributes:
        delay_ms: shortest and longest way between two nodes; fixed per pair.
        jitter_ms: added to each message, up to this.
        loss, duplication, reordering: chance of each message, 0 to 1. Hellos are not lost: without one there is no connection.
        until: when the weather clears, so that what is under way can end.
    """

    delay_ms: tuple[int, int] = (1, 20)
    jitter_ms: int = 2
    loss: float = 0.0
    duplication: float = 0.0
    reordering: float = 0.0
    until: int = 60 * SECOND


class Fault(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    """Something bad that happens."""


class Crash(Fault, frozen=True):
    """A node dies and starts again. Its runs survive it, or not; it `forgets` the events after the last promise, or not."""

    node: int
    at: int
    down_ms: int
    runs_survive: bool = True
    forgets: bool = False


class CrashPoint(Fault, frozen=True):
    """A node dies right after its `append`-th append (from 1), having performed only the first `effects` of its effects."""

    node: int
    append: int
    effects: int
    down_ms: int
    runs_survive: bool = True
    forgets: bool = False


class Partition(Fault, frozen=True):
    """The nodes of `side` and all others cannot reach each other."""

    side: tuple[int, ...]
    at: int
    until: int


class Outage(Fault, frozen=True):
    """A node's own network is down."""

    node: int
    at: int
    until: int


class Freeze(Fault, frozen=True):
    """A node stands still; what arrives meanwhile it meets afterwards."""

    node: int
    at: int
    until: int


class Pressure(Fault, frozen=True):
    """Other programs use a node's cores and memory."""

    node: int
    at: int
    until: int
    cores: int
    memory: int = 0


class Pause(Fault, frozen=True):
    """A node's owner wants it to take no work; `stopping`: the node is about to end, and starts again at `until`."""

    node: int
    at: int
    until: int
    stopping: bool = False


class Stop(Fault, frozen=True):
    """A node's owner stops all allocations running there."""

    node: int
    at: int


class OwnerComes(Fault, frozen=True):
    """A node's owner uses the machine, which comes first there.

    Attributes:
        cores: what the owner's programs use.
        unplugged: whether it runs on its battery meanwhile.
        evict_after_ms: for how long work stands still before it is evicted.
    """

    node: int
    at: int
    until: int
    cores: int = 0
    unplugged: bool = False
    evict_after_ms: int = 10 * SECOND


AnyFault = Crash | CrashPoint | Partition | Outage | Freeze | Pressure | Pause | Stop | OwnerComes


class Plan(msgspec.Struct, frozen=True, omit_defaults=True):
    """A world.

    Attributes:
        nodes: node 0 is whom the others find first.
        jobs: requests.
        faults: what goes wrong.
        weather: of the network.
        horizon_ms: by when everything must be over.
        wire: whether each message is encoded and decoded on its way, so that what machines build is known to be valid.
    """

    nodes: tuple[NodeSpec, ...]
    jobs: tuple[JobSpec, ...] = ()
    faults: tuple[AnyFault, ...] = ()
    weather: Weather = Weather()
    horizon_ms: int = 2 * 60 * MINUTE
    wire: bool = True
