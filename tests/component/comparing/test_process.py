"""A comparator in its process: whatever it does, or a stranger's file makes it do, there is an answer in words and nothing is left running."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from dms.comparing.installed import BUILT_IN, Installed, chosen
from dms.comparing.process import Limits, ask
from dms.comparing.question import Side
from dms_proto.units import GIB, MIB
from dms_proto.verification.comparing import Said

pytestmark = pytest.mark.slow
LIMITS = Limits(seconds=60, memory_bytes=256 * MIB)
SHORT = Limits(seconds=2, memory_bytes=256 * MIB)
"""For what never ends by itself."""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module of the requester's own, whose class has one method yet to be written."""
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path / "own_results.py"


def written(plugin: Path, body: str) -> Installed:
    plugin.write_text(
        "import os, sys, time, threading\nfrom pathlib import Path\nfrom dms.comparing import Result\n"
        "class Own:\n"
        "    def __init__(self, parameter: str) -> None: self.parameter = parameter\n"
        f"    def same(self, left: Result, right: Result) -> bool: {body}\n"
    )
    return Installed("own", "3", "own_results:Own")


def side(path: Path, text: bytes = b"", *, printed: bytes = b"", signed: int | None = None) -> Side:
    path.write_bytes(text)
    log = path.with_name(f"{path.name}.stdout")
    log.write_bytes(printed)
    return Side({"out/x": str(path)}, str(log), len(printed) if signed is None else signed)


async def said(
    comparator: Installed, tmp_path: Path, left: bytes = b"1", right: bytes = b"2", limits: Limits = LIMITS
) -> Said:
    return await ask(comparator, side(tmp_path / "left", left), side(tmp_path / "right", right), limits=limits)


async def test_it_sees_the_files_by_their_names_and_what_was_printed(plugin: Path, tmp_path: Path) -> None:
    own = written(plugin, "return (left.files['out/x'].read_text(), right.stdout.read_text()) == ('1', 'hello')")
    right = side(tmp_path / "right", printed=b"hello and more than was signed", signed=5)
    assert await ask(own, side(tmp_path / "left", b"1"), right, limits=LIMITS) is True
    assert await ask(own, right, right, limits=LIMITS) is False


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        ("raise KeyError('x')", "KeyError: 'x'"),
        ("raise ValueError('no such column')", "no such column"),
        ("return 1", "it gave a int instead of True or False"),
        ("sys.exit(0)", "SystemExit: 0"),
        ("os._exit(3)", "its process ended with 3 and without an answer"),
        ("os.kill(os.getpid(), 11)", "its process ended with -11 and without an answer"),
        ("return bool(bytearray(2**29))", "it needs more than 256 MiB of memory"),
        ("return left.files['out/x'].with_name('more').write_text('x') > 0", "OSError: [Errno 27] File too large"),
    ],
)
async def test_one_that_fails_says_how(plugin: Path, tmp_path: Path, body: str, answer: str) -> None:
    assert await said(written(plugin, body), tmp_path) == answer


@pytest.mark.parametrize("body", ["time.sleep(1000)", "\n        while True: pass"])
async def test_one_that_does_not_end_is_ended(plugin: Path, tmp_path: Path, body: str) -> None:
    assert await said(written(plugin, body), tmp_path, limits=SHORT) == "it took longer than 2 s"


async def test_what_it_prints_is_not_taken_for_an_answer(plugin: Path, tmp_path: Path) -> None:
    own = written(plugin, "print('{\"same\": true}', flush=True); os.write(1, b'{\"same\": true}\\n'); return False")
    assert await said(own, tmp_path) is False


async def test_it_gets_nothing_of_the_node_s_environment(
    plugin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DMS_PASSPHRASE", "secret")
    own = written(plugin, "return 'secret' in Path('/proc/self/environ').read_text()")
    assert await said(own, tmp_path) is False


class Pipe:
    """A FIFO that a comparator opens: its reader learns of whoever has it open, and of their end."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self._descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self.opening = f"os.write(os.open({str(path)!r}, os.O_WRONLY), b'here')"

    async def next(self) -> bytes:
        """What is written into it; nothing once nobody has it open any more."""
        loop, readable = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._descriptor, readable.set)
        try:
            async with asyncio.timeout(10):
                await readable.wait()
            return os.read(self._descriptor, 10)
        finally:
            loop.remove_reader(self._descriptor)


async def test_what_it_has_started_ends_with_it(plugin: Path, tmp_path: Path) -> None:
    pipe = Pipe(tmp_path / "fifo")
    start = f"\n        begun, told = os.pipe()\n        if not os.fork(): {pipe.opening}; os.write(told, b'x'); time.sleep(99)"
    own = written(plugin, f"{start}\n        return os.read(begun, 1) == b'x'")
    assert await said(own, tmp_path) is True
    assert await pipe.next() == b"here"
    assert not await pipe.next()


async def test_one_that_is_not_waited_for_any_more_is_ended(plugin: Path, tmp_path: Path) -> None:
    pipe = Pipe(tmp_path / "fifo")
    own = written(plugin, f"{pipe.opening}; time.sleep(99)")
    asking = asyncio.create_task(said(own, tmp_path))
    assert await pipe.next() == b"here"
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    assert not await pipe.next()


@pytest.mark.parametrize("name", BUILT_IN)
async def test_a_file_of_a_gigabyte_costs_a_bounded_memory(tmp_path: Path, name: str) -> None:
    small = side(tmp_path / "small", b'{"a": 1.5}\n')
    large = side(tmp_path / "large")
    os.truncate(tmp_path / "large", GIB)
    assert await ask(chosen(name), small, large, limits=LIMITS) == "it needs more than 256 MiB of memory"


async def test_json_that_nests_without_end_is_no_json(tmp_path: Path) -> None:
    endless = b"[" * 1_000_000
    assert await said(chosen("json"), tmp_path, endless, endless) is True
    assert await said(chosen("json"), tmp_path, endless, b"[1]") is False


async def test_short_lines_without_end_need_no_more_memory_than_one(tmp_path: Path) -> None:
    lines = [b"%x\n" % number for number in range(2_000_000)]
    one, other = side(tmp_path / "left", b"".join(lines)), side(tmp_path / "right", b"".join(reversed(lines)))
    assert await ask(chosen("lines"), one, other, limits=Limits(memory_bytes=64 * MIB)) is True
    assert await ask(chosen("lines"), one, side(tmp_path / "less", b"".join(lines[1:])), limits=Limits()) is False


@pytest.mark.parametrize(
    ("name", "hostile"),
    [
        ("json", b"[" + b"1," * 5_000_000 + b"1]"),
        ("numbers", b"1.5 " * 15_000_000),
        ("lines", b"x" * 200_000_000),
    ],
)
async def test_what_it_cannot_compare_with_another_it_cannot_compare_with_itself_either(
    tmp_path: Path, name: str, hostile: bytes
) -> None:
    limits = Limits(seconds=20, memory_bytes=256 * MIB)
    good, bad = side(tmp_path / "good", b"1.5"), side(tmp_path / "bad", hostile)
    assert isinstance(await ask(chosen(name), good, bad, limits=limits), str)
    assert isinstance(await ask(chosen(name), bad, bad, limits=limits), str)


async def test_without_results_it_is_only_made(plugin: Path) -> None:
    assert await ask(chosen("numbers:1e-3"), limits=LIMITS) is True
    assert "takes a tolerance such as 1e-6" in str(await ask(chosen("numbers:x"), limits=LIMITS))
    gone = Installed("gone", "1", "own_results:Nothing")
    written(plugin, "return True")
    assert str(await ask(gone, limits=LIMITS)).startswith("AttributeError")
    assert "own_results" not in sys.modules, "the node itself loads none of it"
