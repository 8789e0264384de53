"""A short run of the fuzzer of the local interface (`scripts/fuzz_rpc.py` throws a million frames): every frame is answered by the rules."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from dms import __version__
from dms.rpc.api import METHODS
from dms.rpc.openrpc import document
from dms.testing.rpc_frames import Frames
from dms.testing.rpc_fuzz import UnsoundError, fuzz_a_market, judge
from dms.testing.rpc_fuzz_process import fuzz_a_process

FRAMES = 4_000
GROWTH_MIB = 48
"""Far above what is measured (3 MiB), far below what a leak of each frame would be."""


def frames(seed: int) -> list[bytes]:
    made = Frames(Random(seed), document(METHODS, __version__), {})
    return [made.next() for _ in range(300)]


def test_a_fuzz_run_can_be_repeated() -> None:
    assert frames(7) == frames(7)
    assert frames(7) != frames(8)


@pytest.mark.slow
async def test_a_dispatcher_answers_every_frame_and_each_kind_of_answer_is_reached(tmp_path: Path) -> None:
    report = await fuzz_a_market(tmp_path, FRAMES, Random(1))
    assert set(report.outcomes) >= {
        "result", "silent", "bad_argument", "method_not_found", "not_found", "bad_expression", "bad_invite",
    }  # fmt: skip
    assert report.outcomes["result"] > FRAMES // 10, "a good part of the frames is valid"
    assert report.grown_mib < GROWTH_MIB


@pytest.mark.slow
@pytest.mark.libp2p
async def test_a_node_process_answers_over_its_socket_http_and_websocket_and_goes_on(tmp_path: Path) -> None:
    report = await fuzz_a_process(tmp_path, 1_500, Random(1))
    assert set(report.outcomes) >= {"result", "silent", "bad_argument", "not_found", "reading_token"}
    assert report.grown_mib < GROWTH_MIB


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (b'{"jsonrpc":"2.0","method":"x","id":1}', None),
        (b'{"jsonrpc":"2.0","method":"x","id":1}', b'{"jsonrpc":"2.0","id":2,"result":1}'),
        (b"[", b'{"jsonrpc":"2.0","id":1,"result":1}'),
        (None, b'{"id":1,"result":1}'),
        (None, b'{"jsonrpc":"2.0","id":1}'),
        (None, b"[]"),
        (
            None,
            b'{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"a defect","data":{"code":"internal"}}}',
        ),
    ],
)
def test_the_fuzzer_knows_an_answer_that_is_none(sent: bytes | None, answer: bytes | None) -> None:
    with pytest.raises(UnsoundError):
        judge(sent, answer)
