from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from dms.executors.oci.executor import OciExecutor
from dms.executors.settings import ExecutorSettings, OciSettings
from dms.testing.oci_engine import add_image, running_engine, with_python


class Ground(NamedTuple):
    """An engine of the tests' own, with an image in it."""

    name: str
    socket: str
    image: str


@pytest.fixture(scope="session", params=["docker", "podman"])
def ground(request: pytest.FixtureRequest) -> Iterator[Ground]:
    with running_engine(request.param) as socket:
        yield Ground(request.param, socket, add_image(socket))


@pytest.fixture(scope="session")
def python_image(ground: Ground) -> str:
    """With the machine's Python in it as well."""
    return add_image(ground.socket, "localhost/dms-python", with_python())


@pytest.fixture
def settings(tmp_path: Path, ground: Ground) -> ExecutorSettings:
    return ExecutorSettings(tmp_path / "state", oci=OciSettings(socket=ground.socket))


@pytest.fixture
async def executor(settings: ExecutorSettings) -> AsyncIterator[OciExecutor]:
    executor = OciExecutor(settings)
    yield executor
    await executor.sweep([])
    await executor.close()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    directory = tmp_path / "jobs" / "job"
    directory.mkdir(mode=0o700, parents=True)
    return directory
