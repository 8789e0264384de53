from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dms.executors.cluster.cluster import Cluster, PlacedExecutor
from dms.executors.settings import ClusterSettings, ExecutorSettings, SlurmSettings
from dms.testing.cluster_engine import ProcessEngine


class OnProcesses:
    """A cluster of this machine, and the nodes on it, one after the other."""

    def __init__(self, tmp_path: Path, python: str = sys.executable) -> None:
        self.python = python
        self.shared = tmp_path / "shared"
        self.shared.mkdir()
        self.scratch = tmp_path / "scratch"
        self.scratch.mkdir()
        kinds = ("sandbox", "wasm")
        cluster = ClusterSettings(SlurmSettings(), kinds, self.shared, python, address=("127.0.0.1", 0))
        self.settings = ExecutorSettings(tmp_path / "state", cluster=cluster)
        self.engine = ProcessEngine()
        self.clusters: list[Cluster] = []

    @property
    def cluster(self) -> Cluster:
        """That of the last node."""
        return self.clusters[-1]

    def node(self) -> PlacedExecutor:
        """The next node's executor for the sandbox."""
        self.clusters.append(Cluster(self.settings, self.engine))
        return self.cluster.executors()[0]

    async def proven_node(self) -> PlacedExecutor:
        """The next node's, once it has asked what the cluster can do."""
        executor = self.node()
        await executor.probe()
        return executor

    def kept(self) -> list[Path]:
        """Directories of runners on their machine."""
        return list(self.scratch.glob("dms-*/runners/*"))

    async def close(self) -> None:
        """Ends all of it."""
        self.engine.is_away = False
        for cluster in self.clusters:
            await cluster.close()
        last = Cluster(self.settings, self.engine)
        for kind in ("sandbox", "wasm"):
            await last.sweep(kind, [])
        await last.close()
        self.engine.end()


@pytest.fixture
async def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[OnProcesses]:
    there = OnProcesses(tmp_path)
    monkeypatch.setenv("TMPDIR", str(there.scratch))
    yield there
    await there.close()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    directory = tmp_path / "jobs" / "one"
    directory.mkdir(mode=0o700, parents=True)
    return directory
