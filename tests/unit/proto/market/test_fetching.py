from __future__ import annotations

import pytest

from dms_proto.data.transfer import SLOWEST_BYTES_PER_MS
from dms_proto.ids import digest_of
from dms_proto.images import PULL_MS, Pull
from dms_proto.market.auction_pace import fetching_ms
from dms_proto.work import Input, Task

IMAGE = "sha256:" + "0" * 64


@pytest.mark.parametrize(("pull", "wanted"), [(Pull.ALWAYS, PULL_MS), (Pull.IF_NOT_PRESENT, PULL_MS), (Pull.NEVER, 0)])
def test_a_provider_may_take_its_time_to_bring_an_image(pull: Pull, wanted: int) -> None:
    assert fetching_ms(Task("oci", image=IMAGE, pull=pull)) == wanted


def test_inputs_come_on_top() -> None:
    file = Input("x", digest_of(b""), 5_000 * SLOWEST_BYTES_PER_MS)
    assert fetching_ms(Task("oci", image=IMAGE, inputs=(file,))) == PULL_MS + 5_000
    assert fetching_ms(Task("sandbox", ("x",), inputs=(file,))) == 5_000
