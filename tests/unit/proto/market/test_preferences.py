"""Preference documents of both sides: presets, checks, and a provider's decision whether to bid and at what price."""

from __future__ import annotations

import msgspec
import pytest
import yaml
from hypothesis import given

from dms_proto.capability import Capability, Gpu, JobClass, Price, Resources
from dms_proto.errors import UserError
from dms_proto.ids import PeerId
from dms_proto.market.preferences import (
    PRESETS,
    Preferences,
    ProviderPolicy,
    RequesterFacts,
    balanced,
    check_policy,
    check_preferences,
    judge_request,
)
from dms_proto.units import CREDIT, GIB, HOUR
from tests.unit.proto.market.market_strategies import a_request, needs

STRANGER = RequesterFacts(PeerId("12D3KooWstranger"))


# -------------------------------------------------------------------------------------------------------------- requester


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_documents_that_pass_the_check_and_survive_json_and_yaml(name: str) -> None:
    preset = PRESETS[name]()
    check_preferences(preset)
    assert msgspec.json.decode(msgspec.json.encode(preset), type=Preferences) == preset
    assert msgspec.yaml.decode(msgspec.yaml.encode(preset), type=Preferences) == preset


def test_no_preferences_are_the_balanced_ones() -> None:
    assert Preferences() == balanced()
    assert msgspec.json.decode(b"{}", type=Preferences) == balanced()


def test_two_documents_never_share_their_weights() -> None:
    one, other = Preferences(), Preferences()
    assert one.weights is not other.weights


def test_the_document_in_the_module_text_can_be_used() -> None:
    text = """
    constraints:
      - offer.country in ["DE", "FR"]
      - "!link.relayed"
    weights: {price: 50, reliability: 50}
    rank: "offer.cpu >= 8.0 ? 1.0 : 0.0"
    spread_percent: 3
    """
    check_preferences(msgspec.convert(yaml.safe_load(text), Preferences))


@pytest.mark.parametrize(
    ("preferences", "code", "says"),
    [
        (Preferences(weights={"cheapness": 1.0}), "bad_argument", "cheapness"),
        (Preferences(weights={"price": -1.0}), "bad_argument", "-1.0"),
        (Preferences(weights={"price": float("nan")}), "bad_argument", "nan"),
        (Preferences(constraints=("price <",)), "bad_expression", "column"),
        (Preferences(constraints=("offer.ram > 1.0",)), "bad_expression", "ram"),
        (Preferences(rank="price * 2"), "bad_expression", "price * 2"),
        (Preferences(constraints=("offer.cpu + request.count > 2.0",)), "bad_expression", "offer.cpu"),
        (Preferences(constraints=("requester.own",)), "bad_expression", "requester"),
        (Preferences(constraints=("1",)), "bad_expression", "gives a number, not true or false"),
        (Preferences(constraints=("offer.memory_gib",)), "bad_expression", "gives a number, not true or false"),
        (Preferences(constraints=("offer.labels",)), "bad_expression", "gives a map, not true or false"),
        (Preferences(rank="offer.country"), "bad_expression", "gives a text, not a number"),
    ],
)
def test_a_document_that_could_not_be_used_is_refused(preferences: Preferences, code: str, says: str) -> None:
    with pytest.raises(UserError) as caught:
        check_preferences(preferences)
    assert caught.value.code == code
    assert says in caught.value.message


def test_arithmetic_that_mixes_numbers_is_refused_with_the_way_to_write_it() -> None:
    with pytest.raises(UserError, match=r"write 2\.0"):
        check_preferences(Preferences(rank="price * 2"))


@pytest.mark.parametrize("text", ['{"weight": {}}', '{"weights": {"price": -1}}', '{"spread_percent": 51}'])
def test_a_document_with_a_misspelt_field_or_a_number_out_of_range_does_not_decode(text: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(text, type=Preferences)


def test_a_label_the_sample_lacks_is_no_reason_to_refuse() -> None:
    check_preferences(Preferences(constraints=("offer.labels.gpu_tier == 'gold'", "offer.gpus[3].memory_gib > 1.0")))


# --------------------------------------------------------------------------------------------------------------- provider


def test_a_provider_without_conditions_bids_at_its_tariff() -> None:
    tariff = Price(cpu_core_hour=10_000)
    assert judge_request(ProviderPolicy(tariff=tariff), a_request(), STRANGER) == tariff


def test_own_machines_pay_nothing_unless_the_owner_says_what() -> None:
    own = RequesterFacts(PeerId("me"), own=True)
    policy = ProviderPolicy(tariff=Price(start=5), own_tariff=None)
    assert judge_request(policy, a_request(), own) == Price()
    assert judge_request(msgspec.structs.replace(policy, own_tariff=Price(start=2)), a_request(), own) == Price(start=2)
    assert judge_request(policy, a_request(), STRANGER) == Price(start=5)


def test_every_reason_is_given_at_once() -> None:
    policy = ProviderPolicy(
        accepts_work=False,
        constraints=("requester.completed >= 10", "request.cpu <= 64.0"),
        tariff=Price(start=2 * CREDIT),
        max_wall_ms=HOUR // 2,
        job_classes=(JobClass.SERVICE,),
    )
    request = a_request(Capability(job_classes=(JobClass.BATCH,), max_wall_ms=HOUR), max_price=CREDIT)
    clauses = judge_request(policy, request, STRANGER)
    assert isinstance(clauses, tuple)
    assert {clause.dimension for clause in clauses} == {"job_class", "wall_time", "price", "accepts_work", "policy"}


def test_the_price_that_would_do_is_the_nearest_change() -> None:
    clauses = judge_request(ProviderPolicy(tariff=Price(start=CREDIT + 1)), a_request(max_price=CREDIT), STRANGER)
    assert isinstance(clauses, tuple)
    assert [clause.nearest for clause in clauses] == ["max price 1.000001"]


def test_a_price_of_exactly_the_maximum_is_bid() -> None:
    tariff = Price(start=CREDIT)
    assert judge_request(ProviderPolicy(tariff=tariff), a_request(max_price=CREDIT), STRANGER) == tariff


def test_a_condition_that_is_not_met_or_not_known_is_a_clause_with_the_expression() -> None:
    request = a_request(Capability(labels={"team": "a"}))
    for source, observed in (
        ("requester.own", "false"),
        ("request.labels.project == 'x'", "unknown: project is not there"),
        ("request.cpu", "unknown: gives a number, not true or false"),
        ("no such thing", "unknown: "),
    ):
        clauses = judge_request(ProviderPolicy(constraints=(source,)), request, STRANGER)
        assert isinstance(clauses, tuple)
        assert [(clause.dimension, clause.wanted) for clause in clauses] == [("policy", source)]
        assert clauses[0].observed.startswith(observed)


def test_conditions_see_the_requester() -> None:
    policy = ProviderPolicy(constraints=("requester.failed * 4 <= requester.completed", "requester.id != 'bad'"))
    assert judge_request(policy, a_request(), RequesterFacts(PeerId("good"), completed=8, failed=2)) == Price()
    assert judge_request(policy, a_request(), RequesterFacts(PeerId("good"), completed=8, failed=3)) != Price()
    assert judge_request(policy, a_request(), RequesterFacts(PeerId("bad"))) != Price()


@given(needs)
def test_what_the_machine_can_do_is_not_the_policys_question(required: Capability) -> None:
    assert judge_request(ProviderPolicy(), a_request(required), STRANGER) == Price()


def test_gpus_are_paid_for_by_the_share_asked() -> None:
    request = a_request(
        Capability(Resources(gpus=(Gpu(milli=500, memory_bytes=GIB),)), max_wall_ms=HOUR), max_price=CREDIT // 2
    )
    assert judge_request(ProviderPolicy(tariff=Price(gpu_hour=CREDIT)), request, STRANGER) == Price(gpu_hour=CREDIT)
    assert isinstance(judge_request(ProviderPolicy(tariff=Price(gpu_hour=CREDIT + 2)), request, STRANGER), tuple)


@pytest.mark.parametrize(("load", "core"), [(0, 100), (500, 125), (1_000, 150)])
def test_a_busy_machine_is_dearer_in_proportion(load: int, core: int) -> None:
    policy = ProviderPolicy(tariff=Price(start=7, cpu_core_hour=100), busy_percent=50)

    tariff = judge_request(policy, a_request(Capability()), STRANGER, load)

    assert isinstance(tariff, Price)
    assert (tariff.cpu_core_hour, tariff.start) == (core, -(-7 * core // 100))


@pytest.mark.parametrize(
    ("classes", "core"),
    [((), 100), ((JobClass.BATCH,), 100), ((JobClass.SERVICE,), 300), ((JobClass.SERVICE, JobClass.INTERACTIVE), 300)],
)
def test_classes_of_jobs_have_their_prices(classes: tuple[JobClass, ...], core: int) -> None:
    percent = {JobClass.INTERACTIVE: 50, JobClass.SERVICE: 300}
    policy = ProviderPolicy(tariff=Price(cpu_core_hour=100), class_percent=percent)

    assert judge_request(policy, a_request(Capability(job_classes=classes)), STRANGER) == Price(cpu_core_hour=core)


@pytest.mark.parametrize(
    ("most", "core"),
    [(200, 100), (100, 100), (99, 99), (80, 80), (79, None)],
    ids=["more", "as posted", "less", "least", "too little"],
)
def test_an_owner_who_lets_prices_be_negotiated_comes_down_to_what_a_job_pays(most: int, core: int | None) -> None:
    policy = ProviderPolicy(tariff=Price(cpu_core_hour=100), concession_percent=20)
    request = a_request(Capability(Resources(cpu_millicores=1000), max_wall_ms=HOUR), max_price=most)

    tariff = judge_request(policy, request, STRANGER)

    if core is not None:
        assert tariff == Price(cpu_core_hour=core)
    else:
        assert isinstance(tariff, tuple)
        (clause,) = tariff
        assert clause.nearest == "max price 0.0001", "how far it would have come down stays its own"


def test_own_machines_pay_the_same_at_any_load() -> None:
    policy = ProviderPolicy(tariff=Price(cpu_core_hour=100), busy_percent=50, own_tariff=Price(cpu_core_hour=3))
    own = RequesterFacts(PeerId("me"), own=True)

    assert judge_request(policy, a_request(Capability()), own, 1_000) == Price(cpu_core_hour=3)


def test_a_policy_is_checked_before_it_holds() -> None:
    check_policy(ProviderPolicy(constraints=("requester.own || request.max_price >= 0.01",)))
    for source in ("offer.cpu > 1.0", "request.cpu * 2 > 3.0", "requester.owner"):
        with pytest.raises(UserError):
            check_policy(ProviderPolicy(constraints=(source,)))


# ----------------------------------------------------------------------------------------------------------------- clusters


def test_an_allocation_has_to_fit_into_one_machine_of_a_cluster() -> None:
    policy = ProviderPolicy(machines=(Resources(4000, 2 * GIB), Resources(2000, 8 * GIB)))

    def judged(cpu: int, memory: int) -> object:
        return judge_request(policy, a_request(Capability(resources=Resources(cpu, memory))), STRANGER)

    assert judged(4000, GIB) == judged(2000, 8 * GIB) == judged(0, 0) == Price()
    (clause,) = judged(6000, GIB)  # type: ignore[misc]
    assert (clause.dimension, clause.nearest, clause.passing) == ("cpu", "cpu 4", False)
    assert clause.observed == "4 cores on the largest machine of the cluster"
    assert [each.dimension for each in judged(3000, 8 * GIB)] == ["memory"]  # type: ignore[attr-defined]


def test_the_gpus_of_an_allocation_are_those_of_one_machine_and_whole() -> None:
    a100 = [Gpu(str(number), "nvidia", "A100", 40 * GIB) for number in range(2)]
    policy = ProviderPolicy(machines=(Resources(8000, 8 * GIB), Resources(4000, 8 * GIB, gpus=tuple(a100))))

    def judged(cpu: int, *gpus: Gpu) -> object:
        return judge_request(policy, a_request(Capability(resources=Resources(cpu, GIB, gpus=gpus))), STRANGER)

    one = Gpu(model="a100")
    assert judged(4000, one, one) == judged(8000) == Price()
    assert [each.dimension for each in judged(8000, one)] == ["cpu"]  # type: ignore[attr-defined]
    (clause,) = judged(1000, one, one, one)  # type: ignore[misc]
    assert clause.observed.endswith("on the largest machine of the cluster")
    (share,) = judged(1000, Gpu(model="a100", milli=500, memory_bytes=GIB))  # type: ignore[misc]
    assert (share.dimension, share.observed) == ("gpu_share", "its cluster gives whole GPUs")
