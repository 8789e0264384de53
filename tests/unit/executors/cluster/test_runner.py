from __future__ import annotations

import pytest

from dms.executors.cluster.runner import shortfall
from dms_proto.capability import ExecutorOffer, Isolation, Meter

PROMISED = ExecutorOffer("sandbox", "1", Isolation.NAMESPACES, ("cpu", "memory"), Meter.LOWER_BOUND)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (ExecutorOffer("sandbox", "2", Isolation.NAMESPACES, ("memory", "cpu", "disk"), Meter.EXACT), ""),
        (ExecutorOffer("sandbox", "1", Isolation.NAMESPACES, ("cpu",), Meter.EXACT), "no hard limit of memory"),
        (ExecutorOffer("sandbox", "1", Isolation.LANDLOCK, ("cpu", "memory"), Meter.EXACT), "isolation landlock"),
        (ExecutorOffer("sandbox", "1", Isolation.NAMESPACES, ("cpu", "memory"), Meter.WALL), "its meter is wall"),
    ],
)
def test_a_machine_has_to_hold_all_that_was_promised(found: ExecutorOffer, words: str) -> None:
    said = shortfall(PROMISED, found)
    assert said == "" if not words else said.startswith(words)
