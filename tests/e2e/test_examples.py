"""The examples, word by word as `examples/README.md` has them, through a whole market.

Those with a port, with names, in a container, in Python, that connect to elsewhere, that read another machine's files, and the service run in
`test_forward`, `test_names`, `test_containers`, `test_python_functions`, `test_egress`, `test_datasets` and `test_services`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest
import wasmtime

from dms.testing.whole_market import WholeMarket

pytestmark = [pytest.mark.slow, pytest.mark.libp2p]

JOBS = Path(__file__).parents[2] / "examples" / "jobs"


def run(market: WholeMarket, name: str, *options: str | Path) -> str:
    """What an example prints."""
    done = market.dms("job", "submit", str(JOBS / name), "--follow", *map(str, options))
    assert done.returncode == 0, done.stderr
    return done.stdout


def words() -> Sequence[str]:
    return (JOBS / "words.txt").read_text().split()


def test_the_smallest_job(market: WholeMarket) -> None:
    assert re.fullmatch(r"hello from \S+, 0 of 1\n", run(market, "hello.yaml"))


def test_files_in_and_files_out(market: WholeMarket, tmp_path: Path) -> None:
    run(market, "wordcount.yaml", "--into", tmp_path / "results")
    out = tmp_path / "results" / "out"
    assert (out / "count.txt").read_text().split()[0] == str(len(words()))
    assert (out / "unique.txt").read_text().split() == sorted(set(words()))


def test_allocations_that_know_their_index(market: WholeMarket, tmp_path: Path) -> None:
    run(market, "sweep.yaml", "--into", tmp_path / "sweep")
    first_lines = sorted(path.read_text().splitlines()[0] for path in (tmp_path / "sweep").rglob("result.txt"))
    assert first_lines == [f"seed {index}" for index in range(4)]


def test_work_that_goes_on_where_it_stopped(market: WholeMarket) -> None:
    parts = run(market, "resume.yaml").splitlines()
    assert parts == [f"part {number}" for number in range(1, 10)]


def test_a_module(market: WholeMarket) -> None:
    assert run(market, "module.yaml") == "hello from a module\n"


def test_the_module_is_its_text() -> None:
    assert (JOBS / "hello.wasm").read_bytes() == bytes(wasmtime.wat2wasm((JOBS / "hello.wat").read_text()))


def test_a_dataset(market: WholeMarket) -> None:
    added = market.dms("data", "add", str(JOBS / "words.txt"), "--name", "words")
    assert added.returncode == 0, added.stderr
    counted = dict(reversed(line.split()) for line in run(market, "dataset.yaml").splitlines())
    assert len(counted) == 3
    assert all(words().count(word) == int(count) for word, count in counted.items())


def test_who_has_a_gpu(market: WholeMarket) -> None:
    done = market.dms("job", "submit", str(JOBS / "gpu.json"), "--dry-run")
    assert "GPU nvidia 8 GiB" in done.stdout, done.stderr
    assert "gpu_count: wanted 1 GPU, there 0 GPUs" in done.stdout
