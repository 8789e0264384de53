"""Ports by name: each gets a number that the job has no other use for, and the variable that says it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms_proto.named_ports import FIRST, number_of, numbered, variables

PORTS = st.lists(st.one_of(st.integers(FIRST - 3, FIRST + 3), st.sampled_from(["http", "admin", "a_1"])), max_size=8)


@given(PORTS)
def test_every_port_has_one_number_of_its_own_and_what_is_a_number_stays_it(ports: list[int | str]) -> None:
    numbers = numbered(ports)
    assert list(numbers) == list(dict.fromkeys(ports))
    assert len(set(numbers.values())) == len(numbers)
    assert all(numbers[port] == port for port in ports if isinstance(port, int))


@given(PORTS)
def test_the_environment_says_the_number_of_each_name_and_of_no_other(ports: list[int | str]) -> None:
    numbers = numbered(ports)
    environment = dict(variables(numbers))
    for name in ("http", "admin", "a_1"):
        assert number_of(name, environment) == numbers.get(name)


@pytest.mark.parametrize("said", ["eighty", "", "9" * 5_000])
def test_what_is_no_number_there_names_no_port(said: str) -> None:
    assert number_of("http", {"DMS_PORT_HTTP": said}) is None
