"""What each side prefers, as documents: a requester's `Preferences`, a provider's `ProviderPolicy`. Plain data, the same in JSON, YAML and the store.

A requester's document, complete::

    constraints:                                # CEL; each must be true, or the bid is left out with the expression as the reason
      - offer.country in ["DE", "FR"]
      - "!link.relayed"
    weights: {price: 50, reliability: 50}       # named terms (market.terms); those not listed count nothing
    rank: "offer.cpu >= 8.0 ? 1.0 : 0.0"        # CEL; one more term, from 0 (worst) to 1 (best), with the weight `rank`
    spread_percent: 3                           # bids within this of the best share the wins
    comparator: nearest-first                   # a plug-in that does all of it in its own way; left out: dms does

What the variables are is in `market.variables`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Annotated, Final

import msgspec

from dms_proto.capability import Capability, Gpu, JobClass, Price, Resources
from dms_proto.errors import UserError
from dms_proto.grants.access import Access, stricter
from dms_proto.ids import BidId, PeerId, RequestId
from dms_proto.market.arithmetic import fits_within
from dms_proto.market.candidates import Candidate
from dms_proto.market.comparison import compare, fits
from dms_proto.market.expressions import NUMBER, TRUTH, Expression, Schema, Unknown, Wanted, compile_expression
from dms_proto.market.gpus import assign_gpus
from dms_proto.market.terms import TERMS
from dms_proto.market.variables import (
    BID_SCHEMA,
    BID_VARIABLES,
    REQUEST_SCHEMA,
    REQUEST_VARIABLES,
    RequesterFacts,
    reader,
)
from dms_proto.market.verdicts import bad
from dms_proto.messages import BidRequest, Clause, Pricing
from dms_proto.units import CREDIT, GIB, GPU, HOUR, MINUTE

__all__ = [
    "PRESETS",
    "Preferences",
    "ProviderPolicy",
    "RequesterFacts",
    "balanced",
    "cheapest",
    "check_policy",
    "check_preferences",
    "compiled",
    "evenly",
    "fastest",
    "judge_request",
    "own_machines_first",
]

EVENLY: Final = "evenly"
MAX_WEIGHT: Final = 1_000_000
RANK: Final = "rank"
"""The name of the CEL term in the weights."""
DEFAULT_RANK_WEIGHT: Final = 100.0
"""When a `rank` is given without a weight: as much as the terms of a preset together."""

BALANCED: Final = {
    "price": 40.0,
    "speed": 20.0,
    "reliability": 20.0,
    "chance": 20.0,
    "proximity": 10.0,
    "fit": 10.0,
    "data": 40.0,
    "spare_gpu": 100.0,
}

Text = Annotated[str, msgspec.Meta(max_length=1_000)]


class Preferences(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """How a requester chooses among bids. Without arguments it is `balanced`.

    Attributes:
        constraints: CEL expressions that must all be true.
        weights: how much each named term counts; only the proportions matter.
        rank: a CEL expression that gives one more term, or empty.
        spread_percent: bids whose score is within this of the best are taken to be equal and share the wins, unless one of them is at least as
            good as the other in every respect; 0 for no such band: then only bids of equal score and price per work share.
        comparator: the plug-in that compares instead of dms (entry point group ``dms.comparators``), or empty.
    """

    constraints: Annotated[tuple[Text, ...], msgspec.Meta(max_length=32)] = ()
    weights: dict[str, Annotated[float, msgspec.Meta(ge=0, le=MAX_WEIGHT)]] = msgspec.field(
        default_factory=lambda: dict(BALANCED)
    )
    rank: Text = ""
    spread_percent: Annotated[int, msgspec.Meta(ge=0, le=50)] = 3
    comparator: Annotated[str, msgspec.Meta(max_length=128)] = ""


def balanced() -> Preferences:
    """A fair price, speed, and a provider that keeps its word; GPUs are left for those who need them."""
    return Preferences()


def cheapest() -> Preferences:
    """The lowest price per unit of work, whatever else."""
    return Preferences(weights={"price": 100.0})


def fastest() -> Preferences:
    """The fastest core, and the data that the work reads at hand; among equals, the nearest."""
    return Preferences(weights={"speed": 95.0, "data": 95.0, "proximity": 5.0})


def own_machines_first() -> Preferences:
    """Own machines before all others, and `balanced` among them and among the others."""
    return Preferences(weights={**BALANCED, "own_machines": 250.0})


def evenly() -> Preferences:
    """To each node the same share, whatever it asks for within the price: for nodes that one knows."""
    return Preferences(weights={"evenness": 100.0})


PRESETS: Final[dict[str, Callable[[], Preferences]]] = {
    "balanced": balanced,
    "cheapest": cheapest,
    "fastest": fastest,
    "own-machines-first": own_machines_first,
    EVENLY: evenly,
}
"""By the name a person types."""


def check_preferences(preferences: Preferences) -> None:
    """Refuses a document that could not be used, before it is stored or sent.

    Raises:
        UserError: `bad_argument`: a term that does not exist, or a weight out of range; `bad_expression`: where and why.
    """
    for name, weight in preferences.weights.items():
        if name not in TERMS and name != RANK:
            raise UserError(
                "bad_argument", f"there is no term {name!r} to weigh", hint=f"terms are {', '.join((*TERMS, RANK))}"
            )
        if not 0 <= weight <= MAX_WEIGHT:
            raise UserError("bad_argument", f"the weight of {name} is {weight}; it must be from 0 to {MAX_WEIGHT}")
    of_bid = {name: fields for name, fields in BID_VARIABLES.items() if name != "request"}
    sample = reader(of_bid, BID_SCHEMA)(SAMPLE_CANDIDATE) | _sample_request()
    for source in preferences.constraints:
        _check_expression(source, BID_SCHEMA, sample, TRUTH)
    if preferences.rank:
        _check_expression(preferences.rank, BID_SCHEMA, sample, NUMBER)


# --------------------------------------------------------------------------------------------------------------- provider


class ProviderPolicy(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Which requests a provider bids on, and at what price.

    Attributes:
        accepts_work: whether it bids at all.
        constraints: CEL expressions over ``request`` and ``requester`` that must all be true.
        tariff: what strangers pay.
        busy_percent: how much dearer a full machine is than an idle one; in between in proportion.
        class_percent: what a class of jobs pays, in percent of the tariff; of several classes the dearest, of one not listed 100.
        concession_percent: how far the hourly prices come down to meet a job's `max_price`. 0: they are as posted.
        own_tariff: what machines of the same owner pay, at any load; None for nothing.
        max_wall_ms: longest run accepted; 0 for any.
        job_classes: classes accepted; empty for all.
        comparator: a plug-in that is asked as well whether a request fits, or empty. It can refuse more, and never promise more.
        access: who is served.
        gpu_access: who is served with GPUs, where that is stricter.
        log_access: who may read what the jobs of others wrote.
        own_peers: machines of the same owner that need no grant.
        second_price: whether it also bids where the price is second.
        takes_calls: whether it has a pool, whose services are called under a grant alone.
        offline_gives_way: whether batch jobs have the CPU that others leave idle, and give it back to them; see `offer_lending`.
        evict_offline_after_ms: how long one may stand still then before it is evicted; 0: it is evicted at once.
        machines: sizes of the machines of a cluster that the work is placed on, largest first: an allocation has to fit into one.
            Empty: the work runs on the node's own machine.
        alone: executors whose jobs can have nothing beside their program on this machine, as its probe has found, with the reason.
    """

    accepts_work: bool = True
    constraints: Annotated[tuple[Text, ...], msgspec.Meta(max_length=32)] = ()
    tariff: Price = Price()
    busy_percent: Annotated[int, msgspec.Meta(ge=0, le=1_000)] = 0
    class_percent: dict[JobClass, Annotated[int, msgspec.Meta(ge=1, le=1_000)]] = {}
    concession_percent: Annotated[int, msgspec.Meta(ge=0, le=99)] = 0
    own_tariff: Price | None = None
    max_wall_ms: Annotated[int, msgspec.Meta(ge=0)] = 0
    job_classes: tuple[JobClass, ...] = ()
    comparator: Annotated[str, msgspec.Meta(max_length=128)] = ""
    access: Access = Access.PUBLIC
    gpu_access: Access = Access.PUBLIC
    log_access: Access = Access.OWN
    own_peers: tuple[PeerId, ...] = ()
    second_price: bool = True
    takes_calls: bool = False
    offline_gives_way: bool = False
    evict_offline_after_ms: Annotated[int, msgspec.Meta(ge=0)] = MINUTE
    machines: Annotated[tuple[Resources, ...], msgspec.Meta(max_length=64)] = ()
    alone: dict[str, Text] = {}

    @property
    def is_public(self) -> bool:
        """Whether no job ever needs a grant."""
        return self.access is self.gpu_access is Access.PUBLIC

    @property
    def asks_for_grants(self) -> bool:
        """Whether its owner wants to see grants for anything: by default nobody shows one."""
        return not self.is_public or self.log_access is Access.AUTHORISED or self.takes_calls

    def access_to(self, resources: Resources) -> Access:
        """Who is served with these resources."""
        return stricter(self.access, self.gpu_access) if resources.gpus else self.access

    def tariff_for(self, requester: RequesterFacts, classes: Collection[JobClass], load: int) -> Price:
        """The prices that apply to this requester, for a job of these classes, on a machine of which `load` thousandths are in use."""
        if requester.own:
            return self.own_tariff or Price()
        for_class = max((self.class_percent.get(kind, 100) for kind in classes), default=100)
        percent = for_class * (100_000 + self.busy_percent * load) // 100_000
        return self.tariff if percent == 100 else self.tariff.scaled(percent * 10)


def check_policy(policy: ProviderPolicy) -> None:
    """Refuses a policy that could not be used.

    Raises:
        UserError: `bad_expression`: where and why.
    """
    for source in policy.constraints:
        context = _policy_context(SAMPLE_REQUEST, RequesterFacts(PeerId("sample")))
        _check_expression(source, REQUEST_SCHEMA, context, TRUTH)


def judge_request(
    policy: ProviderPolicy, request: BidRequest, requester: RequesterFacts, load: int = 0
) -> Price | tuple[Clause, ...]:
    """The tariff at which the owner would have it done, or every reason why not. What the machine can do is not asked here: see `compare`.

    Args:
        policy: the owner's.
        request: what is asked.
        requester: who asks.
        load: how much of the machine is in use, in thousandths.
    """
    needs = request.needs
    posted = policy.tariff_for(requester, needs.job_classes, load)
    tariff = posted.down_to(request.max_price, needs.resources, needs.max_wall_ms, policy.concession_percent)
    asked = Capability(
        resources=needs.resources, relayed=True, job_classes=needs.job_classes, max_wall_ms=needs.max_wall_ms
    )
    offered = Capability(
        resources=_concrete(needs.resources),
        job_classes=policy.job_classes,
        max_wall_ms=policy.max_wall_ms,
        price=tariff,
    )
    agreed = fits(asked, offered, max_price=request.max_price)
    clauses = () if agreed else compare(asked, offered, max_price=request.max_price).clauses
    if not policy.accepts_work:
        clauses += (Clause("accepts_work", "a node that takes work", "its owner lets it take none"),)
    if request.pricing is Pricing.SECOND_PRICE and not policy.second_price:
        observed = "its owner wants to be paid what it bids"
        clauses += (Clause("pricing", str(request.pricing), observed, str(Pricing.FIRST_PRICE)),)
    clauses += _machine_clauses(policy, needs.resources)
    clauses += _policy_clauses(policy, request, requester)
    return clauses or tariff


def _concrete(needs: Resources) -> Resources:
    """Devices that serve exactly these needs, so that amounts are not in question."""
    return msgspec.structs.replace(
        needs,
        gpus=tuple(
            Gpu(f"#{i}", gpu.vendor, gpu.model, gpu.memory_bytes, max(1, gpu.milli)) for i, gpu in enumerate(needs.gpus)
        ),
    )


def _has_room(machine: Resources, asked: Resources) -> bool:
    fits = fits_within(msgspec.structs.replace(asked, gpus=()), machine)
    return fits and assign_gpus(asked.gpus, machine.gpus) is not None


def _machine_clauses(policy: ProviderPolicy, needs: Resources) -> tuple[Clause, ...]:
    """Why no machine of the cluster, be it idle, could take one allocation."""
    if not policy.machines:
        return ()
    if any(gpu.milli < GPU for gpu in needs.gpus):
        return (Clause("gpu_share", "a share of a GPU", "its cluster gives whole GPUs", "a whole GPU"),)
    asked = Resources(needs.cpu_millicores, needs.memory_bytes, gpus=needs.gpus)
    if any(_has_room(machine, asked) for machine in policy.machines):
        return ()
    largest = max(policy.machines, key=lambda machine: len(machine.gpus)) if needs.gpus else policy.machines[0]
    clauses = compare(Capability(resources=asked, relayed=True), Capability(resources=largest)).clauses
    return tuple(
        msgspec.structs.replace(clause, observed=f"{clause.observed} on the largest machine of the cluster")
        for clause in clauses
    )


def _policy_clauses(policy: ProviderPolicy, request: BidRequest, requester: RequesterFacts) -> tuple[Clause, ...]:
    if not policy.constraints:
        return ()
    context = _policy_context(request, requester)
    clauses = []
    for source in policy.constraints:
        failed = why_not(compiled(source, REQUEST_SCHEMA), context)
        if failed:
            clause = bad("policy", source, failed).clause
            assert clause is not None
            clauses.append(clause)
    return tuple(clauses)


def _policy_context(request: BidRequest, requester: RequesterFacts) -> dict[str, object]:
    context = reader({"request": REQUEST_VARIABLES["request"]}, REQUEST_SCHEMA)(request)
    return context | reader({"requester": REQUEST_VARIABLES["requester"]}, REQUEST_SCHEMA)(requester)


# ------------------------------------------------------------------------------------------------------------- expressions


def compiled(source: str, schema: Schema) -> Expression | Unknown:
    """The expression, or an unknown with the reason when it is not valid after all.

    Documents are checked when they are set; one from an older version must still not raise while bids are compared.
    """
    try:
        return compile_expression(source, schema)
    except UserError as error:
        return Unknown(error.message)


def why_not(constraint: Expression | Unknown, context: dict[str, object]) -> str:
    """Why a constraint is not met; empty when it is."""
    met = constraint if isinstance(constraint, Unknown) else constraint.is_true(context)
    if isinstance(met, Unknown):
        return f"unknown: {met.reason}"
    return "" if met else "false"


def _check_expression(source: str, schema: Schema, sample: dict[str, object], wanted: Wanted) -> None:
    misfit = compile_expression(source, schema).misfit(sample, wanted)
    if misfit:
        arithmetic = "quantities are doubles: write 2.0, not 2, in arithmetic"
        hint = wanted.hint if misfit.startswith("gives") else arithmetic
        raise UserError("bad_expression", f"{source!r} cannot be used: {misfit}", hint=hint)


def _sample_request() -> dict[str, object]:
    return reader({"request": BID_VARIABLES["request"]}, BID_SCHEMA)(SAMPLE_REQUEST)


SAMPLE_REQUEST: Final = BidRequest(
    request_id=RequestId("r-sample"),
    round=0,
    needs=Capability(
        Resources(2_000, 4 * GIB, 10 * GIB, (Gpu("", "nvidia", "A100", 40 * GIB, 1_000),)),
        architecture="x86_64",
        cpu_score=800,
        libraries=("numpy==2.0",),
        labels={"zone": "a"},
        country="DE",
        job_classes=(JobClass.BATCH,),
        max_wall_ms=HOUR,
    ),
    count=1,
    bids_wanted=3,
    reach=2**32,
    max_price=CREDIT,
    wait_ms=250,
)
"""Has a value in every field: expressions are tried on it for types that do not fit."""
SAMPLE_CANDIDATE: Final = Candidate(
    bid_id=BidId("b-sample"),
    provider=PeerId("sample"),
    offer=SAMPLE_REQUEST.needs,
    tariff=Price(),
    price=CREDIT // 2,
    rtt_us=5_000,
)
