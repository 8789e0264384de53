"""The engine that runs containers: what it is, and all that is asked of it. Which one is taken, `finding` says. Podman and Docker speak the same API.

The client is aiodocker. Streams (output, a pull) are read from its responses directly: output has to arrive byte for byte, and a pull that is given
up has to be closed, which is what makes the engine end it.
"""

from __future__ import annotations

import asyncio
import io
import json
import struct
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, nullcontext
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec

from dms.executors.limiter import Reading
from dms.executors.oci.config import Image
from dms_proto.images import name_of

if TYPE_CHECKING:
    import aiodocker
    import aiohttp

CALL_S: Final = 60.0
"""Longest wait for a short answer."""
UNIX: Final = "unix://"
_HEADER: Final = struct.Struct(">BxxxL")
_STREAMS: Final = {1: "stdout", 2: "stderr"}


class EngineError(Exception):
    """The engine refused, or did not answer.

    Attributes:
        status: of HTTP; 0 when there was no answer.
        message: its own words.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Facts(msgspec.Struct, frozen=True):
    """What an engine says of itself.

    Attributes:
        name: "docker" or "podman".
        version: its own.
        socket: where it answers.
        rootless: whether it runs as a user without rights.
        remapped: whether it maps the users of containers to others.
        cgroup_version: "1" or "2".
        runtimes: names of ways to run a container.
        root: where it keeps images, if it says.
    """

    name: str
    version: str
    socket: str
    rootless: bool = False
    remapped: bool = False
    cgroup_version: str = ""
    runtimes: tuple[str, ...] = ()
    root: str = ""

    @property
    def has_cgroups(self) -> bool:
        """Whether containers have control groups of their own. Those of a rootless engine have none on cgroup v1, whatever it says of limits."""
        return not (self.rootless and self.cgroup_version == "1")

    def __str__(self) -> str:
        """As `dms doctor` shows it."""
        kind = "rootless" if self.rootless else "rootful"
        runtimes = ", ".join(self.runtimes) or "its own"
        return f"{self.name} {self.version} at {self.socket}, {kind}, cgroup v{self.cgroup_version or '?'}, runtimes {runtimes}"


class State(msgspec.Struct, frozen=True):
    """One container now.

    Attributes:
        id: its own.
        running: whether it does, paused or not.
        paused: whether it stands still.
        started: whether it ever was.
        exit_code: of the last time it ran.
        oom_killed: whether the engine saw the kernel kill for memory.
        pid: of its first process on this machine; 0 where there is none.
        finished_ms: Unix time; 0 before.
        labels: as it was made with.
    """

    id: str
    running: bool
    paused: bool
    started: bool
    exit_code: int
    oom_killed: bool
    pid: int
    finished_ms: int
    labels: Mapping[str, str]


class Found(msgspec.Struct, frozen=True):
    """One container in a list."""

    id: str
    labels: Mapping[str, str]


class Engine:
    """One engine. Lives on the loop on which it was opened."""

    def __init__(self, docker: aiodocker.Docker, connector: aiohttp.UnixConnector, facts: Facts) -> None:
        self.facts = facts
        self._docker = docker
        self._connector = connector
        self._making = asyncio.Lock()

    async def close(self) -> None:
        """Closes the connections. Idempotent."""
        await self._docker.close()
        await self._connector.close()

    # -------------------------------------------------------------------------------------------------------------- images

    async def image(self, reference: str) -> Image | None:
        """An image that is here, or None.

        Raises:
            EngineError: the engine did not answer.
        """
        try:
            found = await self._json("GET", f"images/{reference}/json")
        except EngineError as error:
            if error.status in (400, 404):
                return None
            raise
        config = found.get("Config") or {}
        return Image(
            id=_full_id(found["Id"]),
            entrypoint=_words(config.get("Entrypoint")),
            command=_words(config.get("Cmd")),
            environment=_words(config.get("Env")),
            volumes=tuple(config.get("Volumes") or ()),
            size=int(found.get("Size") or 0),
        )

    async def pull(self, reference: str) -> AsyncIterator[Mapping[str, Any]]:
        """Fetches an image by digest; gives the engine's messages. Whoever stops reading ends it.

        Raises:
            EngineError: it could not be fetched.
        """
        async with self._stream("POST", "images/create", params={"fromImage": reference}) as response:
            async for line in response.content:
                message: Mapping[str, Any] = msgspec.json.decode(line)
                if "error" in message or "errorDetail" in message:
                    detail = message.get("errorDetail") or {}
                    raise EngineError(0, str(detail.get("message") or message.get("error")))
                yield message

    async def add_image(self, root: bytes, name: str) -> None:
        """Makes an image of a root file system in a tar archive.

        Args:
            root: the archive.
            name: without a tag: podman 4 hears of none here.

        Raises:
            EngineError: it could not be made.
        """
        params = {"fromSrc": "-", "repo": name, "tag": "latest"}
        headers = {"Content-Type": "application/x-tar"}
        async with self._stream(
            "POST", "images/create", params=params, data=io.BytesIO(root), headers=headers
        ) as response:
            async for line in response.content:
                if b'"error"' in line:
                    raise EngineError(0, line.decode(errors="replace"))

    async def remove_image(self, reference: str) -> bool:
        """Removes an image that nothing uses. False: it stays, or is not there."""
        try:
            await self._json("DELETE", f"images/{reference}", params={"force": "false"})
        except EngineError:
            return False
        return True

    async def digest_of(self, reference: str) -> str:
        """The digest of the manifest behind a tag: of the image that is here, else as its registry says.

        Raises:
            EngineError: neither knows it.
        """
        name = name_of(reference)
        try:
            for pinned in (await self._json("GET", f"images/{reference}/json")).get("RepoDigests") or ():
                if pinned.rpartition("@")[0].removeprefix("docker.io/library/") == name.removeprefix(
                    "docker.io/library/"
                ):
                    return str(pinned.rpartition("@")[2])
        except EngineError as error:
            if error.status == 0:
                raise
        try:
            found = await self._json("GET", f"distribution/{reference}/json")
        except EngineError as error:
            if error.status == 404 and self.facts.name == "podman":  # which may not know the question
                raise EngineError(404, f"podman tells it of an image that it has: podman pull {reference}") from error
            raise
        return str(found["Descriptor"]["digest"])

    # ---------------------------------------------------------------------------------------------------------- containers

    async def create(self, name: str, config: Mapping[str, Any]) -> str:
        """Makes a container; gives its id.

        Raises:
            EngineError: it could not be made.
        """
        # A rootless podman 4 looks up its user's further ids for each, and two that look at once may find none.
        alone = self._making if self.facts.rootless else nullcontext()
        async with alone:
            made = await self._json("POST", "containers/create", params={"name": name}, data=json.dumps(config))
        return str(made["Id"])

    async def start(self, container: str) -> None:
        """Starts a container.

        Raises:
            EngineError: it could not be started.
        """
        await self._json("POST", f"containers/{container}/start")

    async def signal(self, container: str, name: str) -> None:
        """Sends a signal; one that does not run is no error.

        Raises:
            EngineError: it was not sent, or the engine did not answer.
        """
        await self._tell(container, "kill", lambda state: not state.running, signal=name)

    async def pause(self, container: str) -> None:
        """Freezes all processes of a container where they stand.

        Raises:
            EngineError: it was not paused.
        """
        await self._json("POST", f"containers/{container}/pause")

    async def unpause(self, container: str) -> None:
        """Lets them go on; one that is not paused, or does not run, is no error.

        Raises:
            EngineError: it still stands still, or the engine did not answer.
        """
        await self._tell(container, "unpause", lambda state: not state.paused)

    async def update(self, container: str, limits: Mapping[str, int]) -> None:
        """Sets limits of a container that runs, as they are named in its configuration.

        Raises:
            EngineError: they are what they were, or the engine did not answer.
        """
        await self._json("POST", f"containers/{container}/update", data=json.dumps(limits))

    async def remove(self, container: str) -> bool:
        """Ends and removes a container with all that belongs to it, by id or name. False: there was none.

        Raises:
            EngineError: the engine did not answer.
        """
        try:
            await self._json("DELETE", f"containers/{container}", params={"force": "true", "v": "true"})
        except EngineError as error:
            if error.status in (404, 409):  # 409: it is being removed already
                return False
            raise
        return True

    async def state(self, container: str) -> State | None:
        """A container now, by id or name; None: there is none.

        Raises:
            EngineError: the engine did not answer.
        """
        try:
            found = await self._json("GET", f"containers/{container}/json")
        except EngineError as error:
            if error.status == 404:
                return None
            raise
        state = found["State"]
        return State(
            id=found["Id"],
            running=bool(state.get("Running") or state.get("Paused")),
            paused=bool(state.get("Paused")),
            started=state.get("Status") not in ("created", "configured", "initialized"),
            exit_code=int(state.get("ExitCode") or 0),
            oom_killed=bool(state.get("OOMKilled")),
            pid=int(state.get("Pid") or 0),
            finished_ms=unix_ms(state.get("FinishedAt") or ""),
            labels=(found.get("Config") or {}).get("Labels") or {},
        )

    async def runtime_of(self, container: str) -> str:
        """The runtime that a container has been given, by its name.

        Raises:
            EngineError: the engine did not answer.
        """
        if self.facts.name == "podman":  # which says nothing of it to who asks as one asks Docker
            return str((await self._json("GET", f"libpod/containers/{container}/json"))["OCIRuntime"])
        return str((await self._json("GET", f"containers/{container}/json"))["HostConfig"]["Runtime"])

    async def until_exited(self, container: str) -> None:
        """Returns when a container does not run.

        Raises:
            EngineError: the engine went away.
        """
        async with self._stream("POST", f"containers/{container}/wait") as response:
            await response.read()

    async def containers(self, **labels: str) -> list[Found]:
        """All containers with these labels, running or not; "_" in a name stands for ".".

        Raises:
            EngineError: the engine did not answer.
        """
        wanted = [f"{name.replace('_', '.')}={value}" for name, value in labels.items()]
        params = {"all": "true", "filters": json.dumps({"label": wanted})}
        found = await self._json("GET", "containers/json", params=params)
        return [Found(each["Id"], each.get("Labels") or {}) for each in found]

    async def output(self, container: str, *, follow: bool) -> AsyncIterator[tuple[str, bytes]]:
        """What a container writes, from its first byte, as (stream, bytes).

        Args:
            container: its id.
            follow: until it has ended; else as far as it is there.

        Raises:
            EngineError: the engine went away.
        """
        params = {"stdout": "true", "stderr": "true", "follow": str(follow).lower()}
        async with self._stream("GET", f"containers/{container}/logs", params=params) as response:
            while header := await _exactly(response, _HEADER.size):
                number, length = _HEADER.unpack(header)
                if data := await _exactly(response, length):
                    yield _STREAMS.get(number, "stdout"), data

    async def reading(self, container: str) -> Reading:
        """What a container has used; zeros for one that has ended, and for one of which its engine would tell what the whole machine has.

        Raises:
            EngineError: the engine did not answer.
        """
        if not self.facts.has_cgroups:
            return Reading()
        params = {"stream": "false", "one-shot": "true"}
        return reading_of(await self._json("GET", f"containers/{container}/stats", params=params) or {})

    # ---------------------------------------------------------------------------------------------------------- the client

    async def _json(self, method: str, path: str, **options: Any) -> Any:  # whatever the engine answers
        try:
            async with asyncio.timeout(CALL_S), self._stream(method, path, **options) as response:
                body = await response.read()
                return msgspec.json.decode(body) if body.strip() else None
        except TimeoutError as error:
            raise EngineError(0, f"no answer within {CALL_S:.0f} s to {method} {path}") from error
        except msgspec.DecodeError as error:
            raise EngineError(0, f"the answer to {method} {path} is not JSON: {error}") from error

    async def _tell(self, container: str, what: str, is_needless: Callable[[State], bool], **parameters: str) -> None:
        """Posts what is no error where it turns out to be needless. Engines refuse that with codes and words of their own: so it is looked at."""
        try:
            await self._json("POST", f"containers/{container}/{what}", params=parameters)
        except EngineError as error:
            if not error.status:
                raise
            state = await self.state(container)
            if state is not None and not is_needless(state):
                raise

    @asynccontextmanager
    async def _stream(self, method: str, path: str, **options: Any) -> AsyncIterator[aiohttp.ClientResponse]:
        with _translated():
            async with self._docker._query(path, method, **options) as response:
                try:
                    yield response
                finally:
                    response.close()


async def open_engine(socket: str) -> Engine:
    """The engine that answers on a socket.

    Raises:
        EngineError: none does.
    """
    import aiodocker  # noqa: PLC0415 - 0.3 s that a node without containers need not pay
    import aiohttp  # noqa: PLC0415

    connector = aiohttp.UnixConnector(socket, limit=0)
    docker = aiodocker.Docker(f"{UNIX}localhost", connector=connector)  # where it leads is in the connector
    engine = Engine(docker, connector, Facts("", "", socket))
    try:
        async with engine._stream("GET", "_ping", versioned_api=False) as pong:
            docker.api_version = f"v{pong.headers['Api-Version']}"
            is_podman = "Libpod-Api-Version" in pong.headers
        engine.facts = facts_of(socket, await engine._json("GET", "info"), is_podman=is_podman)
    except KeyError as error:
        await engine.close()
        raise EngineError(0, "it does not speak Docker's API") from error
    except BaseException:
        await engine.close()
        raise
    return engine


def facts_of(socket: str, info: Mapping[str, Any], *, is_podman: bool) -> Facts:
    """Facts from what an engine answers to `info`."""
    options = " ".join(info.get("SecurityOptions") or ())
    return Facts(
        name="podman" if is_podman else "docker",
        version=str(info.get("ServerVersion") or ""),
        socket=socket,
        rootless="name=rootless" in options or bool(info.get("Rootless")),
        remapped="name=userns" in options,
        cgroup_version=str(info.get("CgroupVersion") or "").removeprefix("v"),
        runtimes=tuple(sorted(info.get("Runtimes") or ())),
        root=str(info.get("DockerRootDir") or ""),
    )


def reading_of(figures: Mapping[str, Any]) -> Reading:
    """What one message of the engine's figures says."""
    memory = figures.get("memory_stats") or {}
    used = int(memory.get("usage") or 0)
    processor = (figures.get("cpu_stats") or {}).get("cpu_usage") or {}
    return Reading(
        cpu_us=int(processor.get("total_usage") or 0) // 1000,
        memory_bytes=used,
        memory_peak_bytes=max(used, int(memory.get("max_usage") or 0)),
    )


def unix_ms(text: str) -> int:
    """A time as engines write it, in Unix ms; 0 for none and for what is none."""
    try:
        at = datetime.fromisoformat(text).timestamp()
    except ValueError:
        return 0
    return max(0, int(at * 1000))


def _full_id(text: str) -> str:
    return text if text.startswith("sha256:") else f"sha256:{text}"


def _words(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    return tuple(map(str, value)) if isinstance(value, list) else ()


async def _exactly(response: aiohttp.ClientResponse, length: int) -> bytes:
    """So many bytes, or none when the stream has ended."""
    try:
        return await response.content.readexactly(length)
    except asyncio.IncompleteReadError:
        return b""


@contextmanager
def _translated() -> Iterator[None]:
    """What the client raises, as `EngineError`."""
    import aiodocker  # noqa: PLC0415
    import aiohttp  # noqa: PLC0415

    try:
        yield
    except aiodocker.DockerError as error:
        raise EngineError(error.status if error.status < 600 else 0, error.message) from error
    except (aiohttp.ClientError, OSError) as error:
        raise EngineError(0, str(error) or type(error).__name__) from error
