"""Kubernetes, by its official client: a runner is a Pod made from the owner's, and what there is of nodes and of other Pods is listed.

Of the client we use the connection and its ways to show who asks: a kubeconfig with certificates, tokens and plug-ins, or the service account of the
Pod that the node runs in. What is asked and answered is the API's own JSON, of which we read what we need.

Kubernetes keeps a Pod that is over. Those of ours are deleted, by the node whose they were, once the reason is noted with the run.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar
from uuid import uuid4

import msgspec

from dms.executors.cluster.engine import ANSWER_S, CONNECT_S, Capacity, EngineError, EngineJob, Order, last_line
from dms.executors.cluster.files import end_is_noted
from dms.executors.cluster.kubernetes_nodes import Node, ResourceQuota, bounded, machines_of
from dms.executors.cluster.kubernetes_pods import OURS, Pod, Template, jobs_of, name_of, pod_of, template_of, why
from dms.executors.settings import KubernetesSettings

if TYPE_CHECKING:
    from kubernetes.aio.client import ApiClient

_T = TypeVar("_T")
_GOING_ON: Final = ("fieldSelector", "status.phase!=Succeeded,status.phase!=Failed")
_OF_US: Final = ("labelSelector", ",".join(f"{key}={value}" for key, value in OURS.items()))
_CACHED: Final = ("resourceVersion", "0")
"""As the API server has it in memory: a list of a whole cluster shall not be read from its store every few seconds."""


class _List(msgspec.Struct, Generic[_T], frozen=True):
    items: tuple[_T, ...]


class _Version(msgspec.Struct, frozen=True, rename="camel"):
    git_version: str


class _Refusal(msgspec.Struct, frozen=True):
    message: str = ""


class Kubernetes:
    """Implements `Engine`; lives on the node's loop."""

    name = "kubernetes"

    def __init__(self, settings: KubernetesSettings) -> None:
        self._settings = settings
        self._client: ApiClient | None = None
        self._connecting = asyncio.Lock()

    async def capacity(self) -> Capacity:
        """See `Engine.capacity`: what the nodes give that the owner's Pod may be placed on, within the quotas of its namespace."""
        template = await self._template()
        version = _read(await self._ask("GET", "/version"), _Version).git_version
        nodes = await self._list("/api/v1/nodes", Node, _CACHED)
        pods = await self._list("/api/v1/pods", Pod, _GOING_ON, _CACHED)
        quotas = await self._list(f"/api/v1/namespaces/{template.namespace}/resourcequotas", ResourceQuota)
        return bounded(Capacity(f"kubernetes {version}", machines_of(nodes, pods, template)), quotas)

    async def submit(self, name: str, order: Order) -> str:
        """See `Engine.submit`."""
        template = await self._template()
        job_id = name_of(name, uuid4().hex[:8])  # Kubernetes has a name once
        await self._ask("POST", _pods(template), given=pod_of(template, name, job_id, order))
        return job_id

    async def jobs(self) -> Mapping[str, EngineJob]:
        """See `Engine.jobs`."""
        template = await self._template()
        now = time.time()
        ours = [pod for pod in await self._list(_pods(template), Pod, _OF_US) if pod.run]
        for pod in ours:
            if pod.has_ended and await asyncio.to_thread(end_is_noted, pod.directory, why(pod)):
                with suppress(EngineError):  # the next look comes
                    await self._delete(template, pod.metadata.name)
        return await asyncio.to_thread(jobs_of, ours, now)

    async def cancel(self, job_id: str) -> None:
        """See `Engine.cancel`. What runs is told to end, and stays among the jobs until it has."""
        await self._delete(await self._template(), job_id)

    async def close(self) -> None:
        """See `Engine.close`."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()  # type: ignore[no-untyped-call]

    async def _template(self) -> Template:
        """Read each time: the owner may have changed it."""
        file = Path(self._settings.pod)
        try:
            return template_of(await asyncio.to_thread(file.read_text))
        except (OSError, ValueError) as error:
            raise EngineError(f"executors.kubernetes_pod: {file}: {error}") from error

    async def _delete(self, template: Template, job_id: str) -> None:
        with suppress(_UnknownError):
            await self._ask("DELETE", f"{_pods(template)}/{job_id}")

    async def _list(self, path: str, what: type[_T], *query: tuple[str, str]) -> tuple[_T, ...]:
        said = await self._ask("GET", path, query)
        listed = await asyncio.to_thread(_read, said, _List[what])  # type: ignore[valid-type] # of a whole cluster it is much
        return listed.items

    async def _ask(
        self, method: str, path: str, query: Iterable[tuple[str, str]] = (), given: dict[str, Any] | None = None
    ) -> bytes:
        try:
            async with asyncio.timeout(ANSWER_S):
                client = await self._connected()
                asked = await client.param_serialize(
                    method, path, query_params=list(query), body=given, auth_settings=["BearerToken"]
                )
                timeout = (await asyncio.to_thread(import_module, "aiohttp")).ClientTimeout(sock_connect=CONNECT_S)
                answer = await client.call_api(*asked, _request_timeout=timeout)
                said = bytes(await answer.read())  # type: ignore[no-untyped-call]
        except EngineError:
            raise
        except ImportError as error:
            raise EngineError("the package kubernetes is missing here: pip install 'dms[kubernetes]'") from error
        except TimeoutError as error:
            raise EngineError(f"Kubernetes gave no answer within {ANSWER_S:.0f} s") from error
        except Exception as error:  # its plug-ins raise what they like
            raise EngineError(f"Kubernetes does not answer: {error}") from error
        if answer.status == 401:  # certificates and tokens are exchanged: the next question reads them anew
            await self.close()
        if answer.status >= 400:
            raise refusal_of(answer.status, said)
        return said

    async def _connected(self) -> ApiClient:
        async with self._connecting:
            if self._client is None:
                # A second and 40 MiB: a node without Kubernetes pays neither.
                client, config = [
                    await asyncio.to_thread(import_module, f"kubernetes.aio.{name}") for name in ("client", "config")
                ]
                configuration = client.Configuration()
                file = self._settings.config or await asyncio.to_thread(_there, config.KUBE_CONFIG_DEFAULT_LOCATION)
                if file:
                    await config.load_kube_config(config_file=file, client_configuration=configuration)
                else:
                    config.load_incluster_config(client_configuration=configuration)
                self._client = client.ApiClient(configuration=configuration)
            return self._client


class _UnknownError(EngineError):
    """Kubernetes does not have what is asked for."""


def refusal_of(status: int, said: bytes) -> EngineError:
    """An answer that is none: its own words say who may not do what, or which quota is exceeded."""
    try:
        message = last_line(msgspec.json.decode(said, type=_Refusal).message)
    except msgspec.DecodeError:
        message = last_line(said.decode(errors="replace"))
    if status == 401:
        message = "it does not know who asks: renew what executors.kubernetes_config names"
    kind = _UnknownError if status == 404 else EngineError
    return kind(f"Kubernetes: {message}" if message else f"Kubernetes answers {status}")


def _there(usual: str) -> str:
    """Where kubectl looks for a kubeconfig, or several; empty: none is there."""
    return usual if any(Path(each).expanduser().exists() for each in usual.split(os.pathsep)) else ""


def _pods(template: Template) -> str:
    return f"/api/v1/namespaces/{template.namespace}/pods"


def _read(said: bytes, what: type[_T]) -> _T:
    try:
        return msgspec.json.decode(said, type=what)
    except msgspec.DecodeError as error:
        raise EngineError(f"Kubernetes' answer is not understood: {error}") from error
