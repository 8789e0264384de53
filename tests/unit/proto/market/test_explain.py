"""Explanations: one verdict per node, counts that add up, suggestions that keep their word."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dms_proto.capability import Capability, ExecutorOffer, Gpu, Isolation, JobClass, Price, Resources
from dms_proto.egress import Egress
from dms_proto.ids import PeerId
from dms_proto.market.changes import QUANTITIES, Change, apply_change, floor_bytes
from dms_proto.market.comparison import compare
from dms_proto.market.explain import Explanation, NodeVerdict, Outcome, explain
from dms_proto.messages import BidRequest, Clause
from dms_proto.units import CREDIT, GIB, HOUR, MIB
from tests.unit.proto.market.market_strategies import a_request, near_devices, needs, variants


def verdict_on(request: BidRequest, peer: str, machine: Capability) -> NodeVerdict:
    """What a node with this machine would answer."""
    comparison = compare(request.needs, machine, total=machine.resources, max_price=request.max_price)
    if comparison.fits:
        return NodeVerdict(PeerId(peer), Outcome.BID, price=1)
    return NodeVerdict(PeerId(peer), Outcome.DECLINED, comparison.clauses)


def does_fit(request: BidRequest, machine: Capability) -> bool:
    return compare(request.needs, machine, max_price=request.max_price).fits


near_misses = needs.flatmap(
    lambda required: st.tuples(st.just(required), st.lists(variants(required, 2), min_size=1, max_size=5))
)


@settings(max_examples=200)
@given(near_misses, st.integers(0, 4 * CREDIT))
def test_applying_a_suggestion_makes_the_job_fit_on_every_node_it_names(near_misses, max_price) -> None:
    required, machines = near_misses
    request = a_request(required, max_price=max_price)
    explanation = explain(request, [verdict_on(request, str(i), machine) for i, machine in enumerate(machines)])
    for suggestion in explanation.suggestions:
        changed = suggestion.apply(request)
        assert suggestion.gains
        for peer in suggestion.gains:
            assert not does_fit(request, machines[int(peer)])
            assert does_fit(changed, machines[int(peer)]), (str(suggestion), machines[int(peer)])


TO_ANYWHERE = Capability(egress=Egress(("*:1",), 3))
LESS = Capability(egress=Egress(("x.b:1",), 1))
"""Allows neither the place nor the amount: without the place, there is no amount."""


@given(near_misses)
@example((TO_ANYWHERE, [Capability(), LESS]))
def test_a_suggestion_names_every_node_its_change_gains_and_no_node_is_lost(near_misses) -> None:
    required, machines = near_misses
    # For nothing, so that asking for less does not lower the price as well.
    free = [msgspec.structs.replace(machine, price=Price()) for machine in machines]
    request = a_request(required, max_price=0)
    explanation = explain(request, [verdict_on(request, str(i), machine) for i, machine in enumerate(free)])
    for suggestion in explanation.suggestions:
        if suggestion.dimension == "job_class" or suggestion.dimension.startswith("gpu"):
            continue  # a class is exchanged; one change of GPU needs may stand in for another
        changed = suggestion.apply(request)
        fitting_before = {str(i) for i, machine in enumerate(free) if does_fit(request, machine)}
        fitting_after = {str(i) for i, machine in enumerate(free) if does_fit(changed, machine)}
        assert fitting_before <= fitting_after
        assert fitting_after - fitting_before == set(suggestion.gains)


NVIDIA = Gpu("", "nvidia", "A100", 40 * GIB)


@pytest.mark.parametrize(
    ("asks", "machine", "says"),
    [
        ({"resources": Resources(2000)}, {"resources": Resources(1500)}, "lower cpu 2 -> 1.5: +1 node"),
        ({"resources": Resources(0, GIB)}, {"resources": Resources(0, MIB)}, "lower memory 1 GiB -> 1 MiB: +1 node"),
        ({"resources": Resources(0, 0, GIB)}, {"resources": Resources(0, 0, 9)}, "lower disk 1 GiB -> 9 B: +1 node"),
        ({"cpu_score": 1000}, {"cpu_score": 999}, "lower cpu score 1 -> 0.999: +1 node"),
        ({"max_wall_ms": 2 * HOUR}, {"max_wall_ms": HOUR}, "lower wall time 2h -> 1h: +1 node"),
        ({}, {"price": Price(start=6 * CREDIT)}, "raise max price 5 -> 6: +1 node"),
        ({"architecture": "x86_64"}, {"architecture": "aarch64"}, "architecture any: +1 node"),
        ({"country": "DE"}, {"country": "FR"}, "country any: +1 node"),
        ({"relayed": False}, {"relayed": True}, "relay accepted: +1 node"),
        ({"job_classes": (JobClass.SERVICE,)}, {"job_classes": (JobClass.BATCH,)}, "class batch: +1 node"),
        ({"labels": {"zone": "a"}}, {}, "label zone any: +1 node"),
        ({"libraries": ("a==1",)}, {"libraries": ("a==2",)}, "library a any version: +1 node"),
        ({"libraries": ("a==1",)}, {}, "library a none: +1 node"),
        (
            {"executors": (ExecutorOffer("s", "", Isolation.NAMESPACES, ("cpu", "wall")),)},
            {"executors": (ExecutorOffer("s", "", Isolation.LANDLOCK, ("wall",)),)},
            "executor s isolation landlock limits wall: +1 node",
        ),
        (
            {"executors": (ExecutorOffer("s", "1"),)},
            {"executors": (ExecutorOffer("s", "2"),)},
            "executor s isolation none limits none any version: +1 node",
        ),
        (
            {"resources": Resources(gpus=(NVIDIA, NVIDIA))},
            {"resources": Resources(gpus=(Gpu("0", "nvidia", "A100", 40 * GIB),))},
            "lower gpus 2 -> 1: +1 node",
        ),
        (
            {"resources": Resources(gpus=(NVIDIA,))},
            {"resources": Resources(gpus=(Gpu("0", "nvidia", "A100", 40 * GIB, 400),))},
            "lower gpu share 1 -> 0.4: +1 node",
        ),
        (
            {"resources": Resources(gpus=(NVIDIA,))},
            {"resources": Resources(gpus=(Gpu("0", "nvidia", "A100", 24 * GIB),))},
            "lower gpu memory 40 GiB -> 24 GiB: +1 node",
        ),
        (
            {"resources": Resources(gpus=(NVIDIA,))},
            {"resources": Resources(gpus=(Gpu("0", "nvidia", "H100", 80 * GIB),))},
            "gpu model any: +1 node",
        ),
        (
            {"resources": Resources(gpus=(NVIDIA,))},
            {"resources": Resources(gpus=(Gpu("0", "other", "A100", 80 * GIB),))},
            "gpu vendor any: +1 node",
        ),
    ],
)
def test_every_dimension_has_a_suggestion_that_keeps_its_word(asks: dict, machine: dict, says: str) -> None:
    request = a_request(Capability(**({"relayed": True} | asks)), max_price=5 * CREDIT)
    offered = Capability(**machine)
    (suggestion,) = explain(request, [verdict_on(request, "a", offered)]).suggestions
    assert str(suggestion) == says
    assert does_fit(suggestion.apply(request), offered)


@given(near_devices())
def test_suggestions_about_gpus_keep_their_word(needs_and_devices) -> None:
    needs, devices = needs_and_devices
    request = a_request(Capability(Resources(gpus=needs), relayed=True))
    offered = Capability(Resources(gpus=devices))
    explanation = explain(request, [verdict_on(request, "a", offered)])
    for suggestion in explanation.suggestions:
        assert does_fit(suggestion.apply(request), offered), str(suggestion)


amounts = st.integers(1, 64 * GIB)


@given(st.sampled_from(["cpu", "memory", "disk", "cpu_score", "wall_time", "price"]), amounts, amounts)
def test_the_nearest_change_is_the_smallest(dimension: str, asked: int, there: int) -> None:
    """Against an oracle: at what the machine has, it fits; one step nearer to what was asked, it does not."""
    quantity = QUANTITIES[dimension]
    request = quantity.put(a_request(Capability(relayed=True, max_wall_ms=HOUR), max_price=CREDIT), asked)
    machine = {
        "cpu": Capability(Resources(cpu_millicores=there)),
        "memory": Capability(Resources(memory_bytes=there)),
        "disk": Capability(Resources(disk_bytes=there)),
        "cpu_score": Capability(cpu_score=there),
        "wall_time": Capability(max_wall_ms=there),
        "price": Capability(price=Price(start=there)),
    }[dimension]
    explanation = explain(request, [verdict_on(request, "a", machine)])
    if does_fit(request, machine):
        assert explanation.suggestions == ()
        return
    (suggestion,) = explanation.suggestions
    value = quantity.get(suggestion.apply(request))
    # Bytes are rounded to what people write; in that unit the next step up is too much.
    step = (
        1
        if dimension not in ("memory", "disk") or floor_bytes(there) == there
        else 1 << (20 if there >= 1 << 26 else 10)
    )
    nearer = value - step if quantity.upwards else value + step
    assert does_fit(apply_change(request, Change(dimension, value)), machine)
    assert not does_fit(quantity.put(request, nearer), machine)


@given(st.lists(st.sampled_from(Outcome), max_size=30))
def test_the_counts_list_every_outcome_and_add_up_to_the_nodes_known(outcomes: list[Outcome]) -> None:
    clause = (Clause("memory", "1 GiB", "0 B"),)
    verdicts = [
        NodeVerdict(PeerId(str(i)), outcome, clause if outcome is Outcome.DECLINED else ())
        for i, outcome in enumerate(outcomes)
    ]
    explanation = explain(a_request(), verdicts)
    assert set(explanation.counts) == set(Outcome)
    assert sum(explanation.counts.values()) == len(outcomes) == len(explanation.verdicts)


def test_two_verdicts_on_one_node_are_refused() -> None:
    with pytest.raises(ValueError, match="one verdict"):
        explain(a_request(), [NodeVerdict(PeerId("a"), Outcome.BID), NodeVerdict(PeerId("a"), Outcome.SILENT)])


def test_suggestions_read_as_a_person_would_say_them_and_gain_more_the_further_they_go() -> None:
    request = a_request(Capability(Resources(1000, 12 * GIB), relayed=True, max_wall_ms=HOUR), max_price=5 * CREDIT)
    machines = [
        Capability(Resources(1000, 8 * GIB)),
        Capability(Resources(1000, 8 * GIB)),
        Capability(Resources(1000, 4 * GIB)),
        Capability(Resources(1000, 16 * GIB), price=Price(start=6 * CREDIT)),
    ]
    explanation = explain(request, [verdict_on(request, str(i), machine) for i, machine in enumerate(machines)])
    assert [str(suggestion) for suggestion in explanation.suggestions] == [
        "lower memory 12 GiB -> 4 GiB: +3 nodes",
        "lower memory 12 GiB -> 8 GiB: +2 nodes",
        "raise max price 5 -> 6: +1 node",
    ]


def test_a_node_that_lacks_two_things_is_gained_by_no_single_change() -> None:
    request = a_request(Capability(Resources(4000, 12 * GIB), relayed=True))
    verdict = verdict_on(request, "a", Capability(Resources(1000, 8 * GIB)))
    assert explain(request, [verdict]).suggestions == ()


def test_a_suggestion_says_where_waiting_would_help_too() -> None:
    request = a_request(Capability(Resources(1000, 12 * GIB), relayed=True))
    offered, total = Capability(Resources(1000, 8 * GIB)), Resources(1000, 16 * GIB)
    clauses = compare(request.needs, offered, total=total).clauses
    (suggestion,) = explain(request, [NodeVerdict(PeerId("a"), Outcome.DECLINED, clauses)]).suggestions
    assert suggestion.waits == 1


def test_what_a_stranger_wrote_as_nearest_change_does_no_harm() -> None:
    clause = Clause("memory", "12 GiB", "8 GiB", "please send your key")
    explanation = explain(a_request(), [NodeVerdict(PeerId("a"), Outcome.DECLINED, (clause,))])
    assert explanation.suggestions == ()
    assert explanation.verdicts[0].clauses == (clause,)


def test_a_request_is_impossible_when_every_node_declines_for_good() -> None:
    lasting, passing = Clause("memory", "1", "0"), Clause("cpu", "1", "0", passing=True)
    declined = NodeVerdict(PeerId("a"), Outcome.DECLINED, (lasting,))
    assert explain(a_request(), [declined]).impossible
    assert not explain(a_request(), []).impossible
    assert not explain(a_request(), [declined, NodeVerdict(PeerId("b"), Outcome.SILENT)]).impossible
    assert not explain(a_request(), [declined, NodeVerdict(PeerId("b"), Outcome.DECLINED, (passing,))]).impossible


def test_an_explanation_survives_being_stored() -> None:
    request = a_request(Capability(Resources(1000, 12 * GIB), relayed=True))
    explanation = explain(request, [verdict_on(request, "a", Capability(Resources(1000, 8 * GIB)))])
    assert msgspec.json.decode(msgspec.json.encode(explanation), type=Explanation) == explanation
