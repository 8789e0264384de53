"""The engines there are."""

from __future__ import annotations

from dms.executors.cluster.dask import Dask
from dms.executors.cluster.engine import Engine
from dms.executors.cluster.htcondor import Htcondor
from dms.executors.cluster.kubernetes import Kubernetes
from dms.executors.cluster.ray import Ray
from dms.executors.cluster.slurm import Slurm
from dms.executors.settings import (
    DaskSettings,
    EngineSettings,
    HtcondorSettings,
    KubernetesSettings,
    RaySettings,
    SlurmSettings,
)


def engine_of(settings: EngineSettings) -> Engine:
    """The engine that is meant. Nothing is asked of it yet."""
    match settings:
        case SlurmSettings():
            return Slurm(settings)
        case DaskSettings():
            return Dask(settings)
        case RaySettings():
            return Ray(settings)
        case HtcondorSettings():
            return Htcondor(settings)
        case KubernetesSettings():
            return Kubernetes(settings)
