"""The process in which HTCondor's bindings are, as the node asks it: one question at a time, each with a deadline."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from dms.executors.cluster.engine import ANSWER_S, EngineError, last_line
from dms.executors.cluster.htcondor_bindings import Answer, Question
from dms_proto.units import MIB

_PROGRAM: Final = (sys.executable, "-m", "dms.executors.cluster.htcondor_bindings")
_MAX_ANSWER: Final = 64 * MIB
_KEPT: Final = ("PATH", "HOME", "USER", "CONDOR_CONFIG")
_SETTING: Final = "_CONDOR_"
"""How variables begin that stand for a setting of HTCondor's configuration."""


class Client:
    """Starts the process when it is first asked, and again after it has died or was too slow. Lives on the node's loop.

    Args:
        conf: path of HTCondor's configuration; empty: where HTCondor looks for it.
    """

    def __init__(self, conf: str) -> None:
        self._conf = conf
        self._asking = asyncio.Lock()
        self._process: Process | None = None
        self._listening: asyncio.Task[None] | None = None
        self._said = ""

    async def ask(self, question: Question) -> Answer:
        """Asks.

        Raises:
            EngineError: there is no answer, or it is that there is none.
        """
        try:
            async with asyncio.timeout(ANSWER_S), self._asking:
                line = await self._exchange(msgspec.json.encode(question) + b"\n")
        except TimeoutError as error:
            raise EngineError(f"HTCondor gave no answer within {ANSWER_S:.0f} s") from error
        except (OSError, ValueError) as error:
            raise EngineError(f"HTCondor's bindings cannot be asked: {error}") from error
        if not line:
            raise EngineError(f"HTCondor's bindings cannot be used: {self._said or 'they said nothing'}")
        answer = msgspec.json.decode(line, type=Answer)
        if answer.error:
            raise EngineError(last_line(answer.error))
        return answer

    async def close(self) -> None:
        """Ends the process. Idempotent."""
        process, self._process = self._process, None
        listening, self._listening = self._listening, None
        if process is not None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        if listening is not None:
            await asyncio.wait({listening})

    async def _exchange(self, line: bytes) -> bytes:
        """Gives the line that answers; empty: the process ended. One that was not heard to the end is not asked again."""
        heard = b""
        try:
            process = await self._running()
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(line)
            heard = await process.stdout.readline()
        finally:
            if not heard.endswith(b"\n"):
                await asyncio.shield(self.close())
        return heard

    async def _running(self) -> Process:
        if self._process is None:
            if self._conf and not await asyncio.to_thread(Path(self._conf).is_file):
                raise EngineError(f"executors.htcondor_conf is no file of this machine: {self._conf}")
            self._said = ""
            self._process = await asyncio.create_subprocess_exec(
                *_PROGRAM, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=self._environment(), limit=_MAX_ANSWER
            )
            self._listening = asyncio.create_task(self._listen(self._process))
        return self._process

    async def _listen(self, process: Process) -> None:
        """Keeps the last that it said beside its answers."""
        assert process.stderr is not None
        while said := await process.stderr.read(4096):
            self._said = last_line(said.decode(errors="replace")) or self._said

    def _environment(self) -> Mapping[str, str]:
        kept = {name: value for name, value in os.environ.items() if name in _KEPT or name.startswith(_SETTING)}
        return {**kept, **({"CONDOR_CONFIG": self._conf} if self._conf else {})}
