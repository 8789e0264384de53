from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dms.executors import ExecutorSettings, Sandbox
from dms.testing.executor_contract import sweep_all
from dms_proto.errors import MachineError


@pytest.fixture
def settings(tmp_path: Path) -> ExecutorSettings:
    return ExecutorSettings(tmp_path / "state")


@pytest.fixture
async def sandbox(settings: ExecutorSettings) -> AsyncIterator[Sandbox]:
    sandbox = Sandbox(settings)
    try:
        sandbox.start()
    except MachineError as error:
        pytest.skip(f"no sandbox on this machine: {error}")
    yield sandbox
    await sandbox.close()
    await sweep_all(settings)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    directory = tmp_path / "jobs" / "job"
    directory.mkdir(mode=0o700, parents=True)
    return directory
