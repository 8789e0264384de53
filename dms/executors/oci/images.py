"""The images of jobs: brought when a job needs one, kept within bounds, removed when they are unused longest.

What is pulled are strangers' bytes on this machine's disk. So: only from registries the owner named, by digest, a few at a time, in bounded time,
and no larger than the owner allows. Only what was brought here is ever removed; the record says what that is, and an image that was there before is
the owner's.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import msgspec

from dms.executors.oci import faults
from dms.executors.oci.config import Image
from dms.executors.oci.engine import Engine, EngineError
from dms.executors.oci.faults import RefusedError
from dms.executors.settings import OciSettings
from dms_proto.images import PULL_MS, Pull, name_of, registry_of
from dms_proto.units import format_bytes, format_millis
from dms_proto.work import Ending, EndReason

PULLS: Final = 2
"""Images fetched at once."""
TELL_S: Final = 1.0
LOOK_S: Final = 0.25
LEAST_FREE: Final = 256 << 20
"""Room that a pull leaves on the disk of the engine."""

Tell = Callable[[str], None]


class Brought(msgspec.Struct, frozen=True):
    """An image that was brought here: when it was last used (Unix ms), and its size in bytes."""

    used_ms: int
    size: int


class _Pull:
    """An image on its way, and who waits for it."""

    def __init__(self, work: Callable[[Tell], Awaitable[None]]) -> None:
        self.waiting = 0
        self._listeners: list[Tell] = []
        self._task = asyncio.ensure_future(work(self._say))

    async def wait(self, tell: Tell) -> None:
        """Returns when it is here. The last who stops waiting ends it."""
        self._listeners.append(tell)
        self.waiting += 1
        try:
            await asyncio.shield(self._task)
        finally:
            self.waiting -= 1
            self._listeners.remove(tell)
            if not self.waiting and not self._task.done():
                self._task.cancel()
                with suppress(asyncio.CancelledError, RefusedError):
                    await self._task

    def _say(self, text: str) -> None:
        for listener in self._listeners:
            listener(text)


class Images:
    """Those of one node. Lives on its loop."""

    def __init__(self, engine: Engine, settings: OciSettings, record: Path) -> None:
        """Reads the record.

        Args:
            engine: where they are.
            settings: the bounds.
            record: file that says which of them were brought here.
        """
        self._engine = engine
        self._settings = settings
        self._record = record
        self._brought = _read(record)
        self._pulls: dict[str, _Pull] = {}
        self._room = asyncio.Semaphore(PULLS)
        self._used: Counter[str] = Counter()

    async def take(self, reference: str, pull: Pull, tell: Tell) -> Image:
        """The image, which stays until `let_go`; fetched if need be.

        Args:
            reference: by digest.
            pull: when to fetch it.
            tell: called about once a second while it is fetched, with a line for a person.

        Raises:
            RefusedError: it cannot be had.
            EngineError: the engine did not answer.
        """
        self._used[reference] += 1
        try:
            image = await self._have(reference, pull, tell)
        except BaseException:
            self.let_go(reference)
            raise
        if reference in self._brought:
            self._note(reference, image)
        return image

    def let_go(self, reference: str) -> None:
        """The run that took it is over."""
        self._used[reference] -= 1
        if self._used[reference] <= 0:
            del self._used[reference]

    async def tidy(self) -> None:
        """Removes those unused longest until the others fit. The owner's are not looked at."""
        most = self._settings.images_bytes
        while sum(each.size for each in self._brought.values()) > most:
            unused = [name for name in self._brought if name not in self._used]
            if not unused:
                return
            oldest = min(unused, key=lambda name: self._brought[name].used_ms)
            await self._engine.remove_image(oldest)  # one that something else uses stays there, and is that one's now
            self._forget(oldest)

    async def _have(self, reference: str, pull: Pull, tell: Tell) -> Image:
        there = await self._engine.image(reference)
        if there is not None and (pull is not Pull.ALWAYS or not name_of(reference)):
            return there
        self._check(reference, pull)
        under_way = self._pulls.get(reference)
        if under_way is None:
            under_way = self._pulls[reference] = _Pull(lambda say: self._fetch(reference, there is not None, say))
        try:
            await under_way.wait(tell)
        finally:
            if not under_way.waiting and self._pulls.get(reference) is under_way:
                del self._pulls[reference]
        here = await self._engine.image(reference)
        if here is None:
            raise RefusedError(
                Ending(EndReason.PROVIDER_FAULT, detail=f"the image {reference} was pulled and is not there")
            )
        return here

    def _check(self, reference: str, pull: Pull) -> None:
        """Whether it may be fetched.

        Raises:
            RefusedError: no.
        """
        if pull is Pull.NEVER or not name_of(reference):
            why = "the job says never to pull it" if name_of(reference) else "an id names no registry to pull it from"
            raise RefusedError(
                Ending(EndReason.INPUT_UNAVAILABLE, detail=f"the image {reference} is not here, and {why}")
            )
        registry = registry_of(reference)
        if registry not in self._settings.registries:
            allowed = ", ".join(self._settings.registries) or "none"
            detail = f"this node pulls no images from {registry}, only from {allowed}"
            raise RefusedError(Ending(EndReason.REFUSED_BY_POLICY, detail=detail))

    async def _fetch(self, reference: str, was_there: bool, say: Tell) -> None:
        """Fetches it, within the bounds.

        Raises:
            RefusedError: it cannot be had.
        """
        try:
            async with asyncio.timeout(PULL_MS / 1000):
                if self._room.locked():
                    say("waiting for other images to be pulled")
                async with self._room:
                    say("pulling its image")
                    await self._follow(reference, say)
        except TimeoutError:
            detail = f"the image {reference} could not be pulled within {format_millis(PULL_MS)}"
            raise RefusedError(Ending(EndReason.PROVIDER_FAULT, detail=detail)) from None
        except EngineError as error:
            raise RefusedError(faults.pull_failed(reference, error.message)) from error
        except RefusedError:
            if not was_there:  # it may have come whole in that moment
                await self._engine.remove_image(reference)
            raise
        if not was_there:
            await self._admit(reference)

    async def _follow(self, reference: str, say: Tell) -> None:
        looking = asyncio.ensure_future(self._watch_disk())
        reading = asyncio.ensure_future(self._read(reference, say))
        try:
            await asyncio.wait({looking, reading}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (looking, reading):
                task.cancel()
            done = await asyncio.gather(looking, reading, return_exceptions=True)
        for outcome in done:
            if isinstance(outcome, Exception):
                raise outcome

    async def _read(self, reference: str, say: Tell) -> None:
        layers: dict[str, tuple[int, int]] = {}
        said = 0.0
        messages = self._engine.pull(reference)
        try:
            async for message in messages:
                _count(layers, message)
                there, total = (sum(pair) for pair in zip((0, 0), *layers.values(), strict=True))
                if total > self._settings.image_bytes:
                    raise RefusedError(self._too_large(reference, total))
                if total and time.monotonic() - said > TELL_S:
                    said = time.monotonic()
                    say(f"pulling its image, {format_bytes(there)} of {format_bytes(total)}")
        finally:
            await messages.aclose()  # type: ignore[attr-defined] # a generator: closing it is what ends the pull

    async def _watch_disk(self) -> None:
        """What is unpacked can be far larger than what was fetched, and no message says how large."""
        before = self._free()
        while True:
            await asyncio.sleep(LOOK_S)
            gone = before - self._free()
            if before and (gone > 2 * self._settings.image_bytes or self._free() < LEAST_FREE):
                detail = f"pulling the image took {format_bytes(max(gone, 0))} of disk, and {format_bytes(self._free())} are left"
                raise RefusedError(Ending(EndReason.REFUSED_BY_POLICY, detail=detail))

    async def _admit(self, reference: str) -> None:
        """Writes down that it was brought here, and makes room.

        Raises:
            RefusedError: unpacked it is too large.
        """
        image = await self._engine.image(reference)
        if image is None:
            return
        if image.size > self._settings.image_bytes:
            await self._engine.remove_image(reference)
            raise RefusedError(self._too_large(reference, image.size))
        self._note(reference, image)
        await self.tidy()

    def _too_large(self, reference: str, size: int) -> Ending:
        limit = format_bytes(self._settings.image_bytes)
        detail = f"the image {reference} has {format_bytes(size)}, this node takes at most {limit}"
        return Ending(EndReason.REFUSED_BY_POLICY, detail=detail)

    def _free(self) -> int:
        try:
            status = os.statvfs(self._engine.facts.root)
        except OSError:
            return 0
        return status.f_bavail * status.f_frsize

    def _note(self, reference: str, image: Image) -> None:
        self._brought[reference] = Brought(int(time.time() * 1000), image.size)
        self._write()

    def _forget(self, reference: str) -> None:
        del self._brought[reference]
        self._write()

    def _write(self) -> None:
        fresh = self._record.with_suffix(".new")
        fresh.write_bytes(msgspec.json.encode(self._brought))
        fresh.replace(self._record)


def _read(record: Path) -> dict[str, Brought]:
    try:
        return msgspec.json.decode(record.read_bytes(), type=dict[str, Brought])
    except (OSError, msgspec.MsgspecError):
        return {}


def _count(layers: dict[str, tuple[int, int]], message: Mapping[str, Any]) -> None:
    """Takes note of how much of one layer has been fetched."""
    progress = message.get("progressDetail") or {}
    if message.get("status") == "Downloading" and progress.get("total", 0) > 0:
        layers[str(message.get("id"))] = (int(progress.get("current", 0)), int(progress["total"]))
