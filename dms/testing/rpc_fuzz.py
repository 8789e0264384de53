"""Throws frames at the dispatcher of a node in this process, which must answer each with JSON-RPC and stay as small as it was.

`rpc_fuzz_process` throws them at a node process from outside.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any, Final, NamedTuple

import msgspec

from dms import __version__
from dms.jobs.spec import JobSpec
from dms.node.api import LocalApi
from dms.rpc import jsonrpc
from dms.rpc.api import METHODS
from dms.rpc.api.jobs import SubmitParams, WaitParams
from dms.rpc.dispatcher import Dispatcher
from dms.rpc.openrpc import document
from dms.rpc.session import Session
from dms.testing.market import Market
from dms.testing.rpc_frames import Frames
from dms_proto.capability import Capability, ExecutorOffer
from dms_proto.errors import CODES, UserError
from dms_proto.ids import PeerId
from dms_proto.units import MINUTE
from dms_proto.work import Limits, Task

AT_ONCE: Final = 64
SESSION_FRAMES: Final = 500
"""Frames of one connection; then it ends, with what it follows."""
HUNG_S: Final = 60.0
WARM_UP: Final = 0.2
"""Part of the frames after which the first memory is looked at: caches are full, the modules that are loaded late are there."""

STANDARD: Final = frozenset(
    {
        jsonrpc.PARSE_ERROR,
        jsonrpc.INVALID_REQUEST,
        jsonrpc.METHOD_NOT_FOUND,
        jsonrpc.INVALID_PARAMS,
        jsonrpc.APPLICATION_ERROR,
    }
)
DEFECTS: Final = frozenset({"internal", "store_corrupt", "store_failed"})
"""Codes by which a node says that something is wrong with itself."""
SPARED: Final[Mapping[str, int]] = {
    "node_stop": 0,  # ends the node
    "node_benchmark_capability": 0,  # loads the machine for seconds
    "job_wait": 0,  # waits for as long as it is told
    "doctor_run": 2,  # starts sandboxes
    "events_verify": 20,  # reads every event
    "market_ask": 20,  # waits for others
    "peers_ping": 20,
    "peers_join": 20,
    "alloc_read": 5,
    "job_submit": 100,  # a job is remembered, as it should be
    "node_lock_capability": 100,  # so is a capability lock, in the history
}
"""Methods that cost something once their parameters are in order: how often they are performed, by attribute."""


class Report(NamedTuple):
    """What a run saw: outcomes by name, frames a second, growth of the process in MiB after the warm-up."""

    outcomes: Counter[str]
    per_second: float
    grown_mib: float


class UnsoundError(Exception):
    """An answer that is none, or that tells of a defect."""


class Spared:
    """A node's interface that performs what is costly a few times only. What comes before the performing is all there."""

    def __init__(self, api: object) -> None:
        self._api = api
        self._left = Counter(SPARED)

    def __getattr__(self, name: str) -> Any:
        if name not in SPARED:
            return getattr(self._api, name)
        self._left[name] -= 1
        return getattr(self._api, name) if self._left[name] >= 0 else _spare


async def _spare(_params: object = None) -> None:
    raise UserError("bad_argument", "this fuzzer has called it often enough")


def judge(sent: bytes | None, answer: bytes | None) -> Counter[str]:
    """The outcomes that an answer tells of: "result", or the code of a failure; "silent" for a notification.

    Args:
        sent: what was asked; None where it is not known which frame this answers.
        answer: None: nothing came.

    Raises:
        UnsoundError: it is no answer to that.
    """
    if answer is None:
        if sent is not None and not _wants_nothing(sent):
            raise UnsoundError(f"no answer to {sent[:500]!r}")
        return Counter({"silent": 1})
    value = json.loads(answer)
    responses = value if isinstance(value, list) else [value]
    if not responses:
        raise UnsoundError("an empty batch is no answer")
    if sent is not None and isinstance(value, dict):
        asked = _decoded(sent)
        if value["id"] != (jsonrpc.id_of(asked) if isinstance(asked, dict) else None):
            raise UnsoundError(f"the answer to {sent[:500]!r} has the id {value['id']!r}")
    return Counter(_outcome(response, sent) for response in responses)


def _outcome(response: Any, sent: bytes | None) -> str:
    if response.get("jsonrpc") != "2.0" or "id" not in response or ("result" in response) == ("error" in response):
        raise UnsoundError(f"no response: {str(response)[:500]}")
    if "result" in response:
        return "result"
    error = response["error"]
    code = str(error["data"]["code"])
    if error["code"] not in STANDARD or code not in CODES or code in DEFECTS or not error["message"]:
        raise UnsoundError(f"{error} to {(sent or b'')[:2_000]!r}")
    return code


def _wants_nothing(sent: bytes) -> bool:
    value = _decoded(sent)
    calls = value if isinstance(value, list) else [value]
    return all(isinstance(call, dict) and "id" not in call for call in calls)


def _decoded(sent: bytes) -> Any:
    try:
        return jsonrpc.decode(sent)
    except ValueError:
        return None


def memory_mib(pid: int | str = "self") -> float:
    """What a process holds in memory."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    (held,) = (int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))
    return held / 1024


async def fuzz_dispatcher(dispatcher: Dispatcher, frames: Frames, count: int) -> Report:
    """Has a dispatcher answer `count` frames.

    Raises:
        UnsoundError: an answer is none, or tells of a defect; nothing came for a minute.
    """
    outcomes, memory, started = Counter[str](), 0.0, time.perf_counter()
    session = Session(_hear)
    for number in range(0, count, AT_ONCE):
        if number % SESSION_FRAMES < AT_ONCE:
            await session.close()
            session = Session(_hear)
        if not memory and number >= count * WARM_UP:
            memory = memory_mib()
        sent = [frames.next() for _ in range(min(AT_ONCE, count - number))]
        try:
            async with asyncio.timeout(HUNG_S):
                answered = await asyncio.gather(*(_ask(dispatcher, frame, session) for frame in sent))
        except TimeoutError:
            raise UnsoundError(f"one of these hung: {sent!r}") from None
        for outcome in answered:
            outcomes += outcome
    await session.close()
    return Report(outcomes, count / (time.perf_counter() - started), memory_mib() - memory)


async def _ask(dispatcher: Dispatcher, frame: bytes, session: Session) -> Counter[str]:
    reply = await dispatcher.handle(frame, session)
    for start in reply.after:
        start()
    return judge(frame, reply.data)


async def _hear(data: bytes) -> None:
    message = json.loads(data)
    error = message["params"].get("error") or {}
    if message["method"] not in {"update", "end"} or error.get("data", {}).get("code") in DEFECTS:
        raise UnsoundError(f"no notification: {data[:500]!r}")


async def fuzz_a_market(root: Path, count: int, random: Random) -> Report:
    """Fuzzes the first of two nodes on an in-memory network, with everything behind its dispatcher but the network.

    Raises:
        UnsoundError: see `fuzz_dispatcher`.
    """
    async with Market(root, 2) as market:
        api = await LocalApi.start(market.nodes[0].services)
        try:
            known = await known_values(api, market.nodes[1].services.identity.node_id.peer_id)
            frames = Frames(random, document(METHODS, __version__), known)
            dispatcher = Dispatcher(Spared(api), METHODS, __version__, lambda: document(METHODS, __version__))
            return await fuzz_dispatcher(dispatcher, frames, count)
        finally:
            await api.close()


async def known_values(api: LocalApi, other: PeerId) -> dict[str, list[Any]]:
    """Values that lead somewhere: a job that was run, and those that are as good for any node."""
    task = Task("scripted", ("print", "hello"), limits=Limits(wall_ms=MINUTE))
    wanted = JobSpec(task, Capability(executors=(ExecutorOffer("scripted"),), max_wall_ms=MINUTE), max_price=10_000_000)
    job = (await api.job_submit(SubmitParams(wanted))).job_id
    view = await api.job_wait(WaitParams(job, MINUTE))
    allocations = [attempt.allocation_id for slot in view.slots for attempt in slot.attempts]
    return {
        "spec": [msgspec.to_builtins(wanted)],
        "job_id": [job, job[:6]],
        "request_id": [job, ""],
        "bid_request_id": [job],
        "allocation_id": [*allocations],
        "peer": [other, other[-6:]],
        "stream": ["stdout", "stderr"],
        "limit": [1, 100],
        "topic": ["job", "events"],
    }
