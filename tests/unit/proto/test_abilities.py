from __future__ import annotations

import pytest

from dms_proto.abilities import ABILITIES, Ability, has, lack, of


def test_what_a_job_cannot_have_is_refused_with_where_it_could() -> None:
    assert lack("wasm", Ability.PORTS) == "only jobs of sandbox and oci have ports; the executor is 'wasm'"
    assert lack("elsewhere", Ability.EXEC).startswith("only jobs of sandbox, oci and python let commands be run")


@pytest.mark.parametrize("executor", ABILITIES)
def test_one_table_says_all_of_it(executor: str) -> None:
    can = [ability for ability in Ability if not lack(executor, ability)]
    assert can == [ability for ability in Ability if has(executor, ability)]
    assert of(executor) == (", ".join(can) or "nothing")
