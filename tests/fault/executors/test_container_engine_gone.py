"""The container engine goes away under a node."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from dms.executors import ExecutorSettings, OciExecutor, OciSettings
from dms.testing.executor_contract import ending_of
from dms.testing.oci_engine import running_engine
from dms_proto.work import EndReason, Task

pytestmark = pytest.mark.slow

TASK = Task("oci", ("true",), image="sha256:" + "0" * 64)


@pytest.fixture
def engine() -> Iterator[tuple[str, ExitStack]]:
    """Its socket, and what ends it when closed."""
    with ExitStack() as stack:
        yield stack.enter_context(running_engine("docker")), stack


async def test_a_node_whose_engine_is_gone_goes_on_and_says_so(engine: tuple[str, ExitStack], tmp_path: Path) -> None:
    (tmp_path / "job").mkdir(mode=0o700)
    socket, life = engine
    executor = OciExecutor(ExecutorSettings(tmp_path / "state", oci=OciSettings(socket=socket)))
    await executor.open()
    life.close()
    assert await executor.sweep([]) == 0
    assert await executor.adopt("a-1", TASK, tmp_path / "job", "") is None
    ending = await ending_of(await executor.run("a-1", TASK, tmp_path / "job"))
    assert ending.reason is EndReason.PROVIDER_FAULT
    assert "the engine failed" in ending.detail
    await executor.close()
