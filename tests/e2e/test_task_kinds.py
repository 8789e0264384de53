"""Kinds of tasks on whole nodes: each built-in one does what it says, where it is told to."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import wasmtime

from dms.testing.whole_market import WholeMarket

pytestmark = [pytest.mark.slow, pytest.mark.libp2p]


def test_checksums_are_those_of_the_files(market: WholeMarket, tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"a" * 100_000)
    (tmp_path / "b.bin").write_bytes(b"")
    files = [f"-pfiles={tmp_path}/{name}" for name in ("a.bin", "b.bin")]
    for algorithm in ("sha256", "sha512", "blake2b", "md5"):
        done = market.dms("task", "run", "checksum", *files, "-p", f"algorithm={algorithm}")
        wanted = [
            f"{hashlib.new('blake2b' if algorithm == 'blake2b' else algorithm, (tmp_path / name).read_bytes()).hexdigest()}  {name}"
            for name in ("a.bin", "b.bin")
        ]
        assert (done.returncode, done.stdout.splitlines()) == (0, wanted), done.stderr


def test_a_script_runs_with_its_arguments_and_files(market: WholeMarket, tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(
        "import sys, pathlib\npathlib.Path('out.txt').write_text(sys.argv[1])\nsys.exit(3)\n"
    )
    done = market.dms(
        *("task", "run", "python-script", "-p", f"script={tmp_path}/main.py", "-p", "arguments=x y"),
        *("-p", "outputs=out.txt", "--into", str(tmp_path / "into")),
    )
    assert (done.returncode, (tmp_path / "into" / "out.txt").read_text()) == (3, "x y"), done.stderr


def test_a_command_runs_as_it_stands(market: WholeMarket) -> None:
    done = market.dms("task", "run", "command", "-p", 'argv=["echo", "a  b", "$HOME"]')
    assert (done.returncode, done.stdout) == (0, "a  b $HOME\n"), done.stderr


def test_a_module_runs(market: WholeMarket, tmp_path: Path) -> None:
    (tmp_path / "x.wasm").write_bytes(
        wasmtime.wat2wasm('(module (memory (export "memory") 1) (func (export "_start")))')
    )
    done = market.dms("task", "run", "wasm-module", "-p", f"module={tmp_path}/x.wasm")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_a_core_is_measured_on_the_node_that_is_named(market: WholeMarket) -> None:
    done = market.dms("task", "run", "measure-cpu", "-p", "seconds=1", "--node", "provider")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["score"] > 0


def test_a_node_that_cannot_do_it_says_why_and_nobody_else_is_asked(market: WholeMarket) -> None:
    done = market.dms("task", "run", "measure-cpu", "--node", "provider", "--memory", "64GiB")
    assert done.returncode == 125
    assert "declined: memory: wanted 64 GiB, observed 512 MiB" in done.stderr
    unknown = market.dms("task", "run", "measure-cpu", "--node", "nobody")
    assert (unknown.returncode, unknown.stdout) == (125, "")
    assert "no peer 'nobody' here [not_found]; dms peers list shows them" in unknown.stderr


def test_a_task_waits_for_a_busy_node_and_starts_when_it_is_free(market: WholeMarket) -> None:
    with market.started("run", "--", "sh", "-c", "echo up; sleep 4") as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "up\n"
        second = market.dms("task", "run", "command", "-p", "argv=date", "-p", "argv=+%s%3N", "--node", "provider")
        first.communicate(timeout=60)
    assert second.returncode == 0, second.stderr
    before, after = (job["job_id"] for job in reversed(market.json("job", "list", "--limit", "2")["jobs"]))
    ended = market.json("job", "show", before)["slots"][0]["attempts"][0]["ended_at"]
    started = market.json("job", "show", after)["slots"][0]["attempts"][0]["started_at"]
    assert started >= ended
