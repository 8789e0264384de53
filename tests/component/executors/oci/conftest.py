from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from dms.executors.oci.engine import Facts
from dms.executors.oci.executor import OciExecutor
from dms.executors.settings import ExecutorSettings, OciSettings
from dms.testing.oci_engine import ENGINES, add_image, facts_at, running_engine, with_python


class Ground(NamedTuple):
    """An engine of the tests' own, with an image in it."""

    facts: Facts
    image: str

    @property
    def name(self) -> str:
        return self.facts.name

    @property
    def socket(self) -> str:
        return self.facts.socket


@pytest.fixture(scope="session", params=ENGINES)
def ground(request: pytest.FixtureRequest) -> Iterator[Ground]:
    with running_engine(request.param) as socket:
        yield Ground(facts_at(socket), add_image(socket))


@pytest.fixture
def cgroups(ground: Ground) -> None:
    """For a test of what an engine limits, measures or freezes. Skips where its containers have no control groups for that."""
    if not ground.facts.has_cgroups:
        pytest.skip("the containers of a rootless engine have no control groups on cgroup v1")


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
