"""The owner's conditions and prices, as the configuration says them."""

from __future__ import annotations

import pytest

from dms.config import Config
from dms.config.settings import Provider
from dms.node.pricing import policy_of
from dms_proto.capability import JobClass
from dms_proto.errors import UserError


def test_every_condition_and_price_comes_from_the_configuration() -> None:
    provider = Provider(
        price_cpu_core=7,
        price_busy_percent=40,
        price_concession_percent=15,
        price_interactive_percent=150,
        price_service_percent=200,
        constraints=("request.max_price >= 0.01",),
    )

    policy = policy_of(Config(provider=provider))

    assert (policy.tariff.cpu_core_hour, policy.busy_percent, policy.concession_percent) == (7, 40, 15)
    assert policy.class_percent == {JobClass.INTERACTIVE: 150, JobClass.SERVICE: 200}
    assert policy.constraints == ("request.max_price >= 0.01",)


def test_the_least_price_is_a_fee_for_the_start() -> None:
    assert policy_of(Config(provider=Provider(price_start=5, min_price=9))).tariff.start == 9


def test_a_condition_that_cannot_be_used_is_refused_before_anything_starts() -> None:
    with pytest.raises(UserError, match="offer") as refused:
        policy_of(Config(provider=Provider(constraints=("offer.cpu > 2.0",))))

    assert refused.value.code == "bad_expression"
