"""Jobs through a whole market: ctrl-C, jobs that misbehave, requests that cannot be. Whatever a job does, its provider is free afterwards."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import NamedTuple

import pytest

from dms.testing.whole_market import MARK, WholeMarket, first_line, processes_marked

pytestmark = [pytest.mark.slow, pytest.mark.libp2p]


# ---------------------------------------------------------------------------------------------------------------- ctrl-C


def test_ctrl_c_cancels_the_job_at_its_provider(market: WholeMarket, mark: str) -> None:
    script = "echo up; sleep 600 & setsid sleep 600 & wait"
    with market.started("run", "-e", f"{MARK}={mark}", "--", "sh", "-c", script) as process:
        assert first_line(process) == "up\n"
        assert processes_marked(mark)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    assert (process.returncode, output, errors) == (130, "", "dms: cancelling; ctrl-C again leaves at once\n")
    assert processes_marked(mark) == []
    job = market.last_job()
    assert (job["phase"], job["reason"], job["owner"]) == ("ended", "cancelled", "requester")
    (allocation,) = market.json("alloc", "list", "--limit", "1", node="provider")["allocations"]
    assert (allocation["request_id"], allocation["ending"]["reason"]) == (job["job_id"], "cancelled")


def test_ctrl_c_twice_leaves_at_once_and_says_which_job(market: WholeMarket, mark: str) -> None:
    """The job is deaf: it ends when its provider kills it, two seconds after it was asked."""
    script = "trap '' TERM INT; echo up; while :; do sleep 0.1; done"
    with market.started("run", "-e", f"{MARK}={mark}", "--", "sh", "-c", script) as process:
        assert first_line(process) == "up\n"
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        assert process.stderr.readline() == "dms: cancelling; ctrl-C again leaves at once\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    told = re.fullmatch(
        r"dms: left; (r-\w+) may still be running: dms job show \1 tells, dms job cancel \1 stops it\n", errors
    )
    assert told is not None, errors
    assert market.dms("job", "wait", told[1]).returncode == 137
    assert "cancelled (requester)" in market.dms("job", "show", told[1]).stdout


# ------------------------------------------------------------------------------------------------------- jobs that misbehave


class Misdeed(NamedTuple):
    """A program that oversteps, and what its requester is told.

    Attributes:
        options: of `dms run`.
        program: for python3.
        told: begins what standard error says of the reason.
    """

    options: tuple[str, ...]
    program: str
    told: str


MISDEEDS = {
    "uses too much memory": Misdeed(
        ("--memory", "48MiB"),
        "import time\nheld = [b'x' * 2**20 for _ in range(512)]\ntime.sleep(600)",
        "out of memory (requester): memory limit 48 MiB",
    ),
    "fills the disk": Misdeed(
        ("--disk", "8MiB"),
        "import time\nfor n in range(64):\n    open(f'f{n}', 'wb').write(b'x' * 2**20)\ntime.sleep(600)",
        "disk limit (requester): disk limit 8 MiB",
    ),
    "forks without end": Misdeed(
        ("--time", "1s"),
        "import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass",
        "wall time (requester): wall time limit 1 s reached",
    ),
    "does not listen to SIGTERM": Misdeed(
        ("--time", "1s"),
        "import os, signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nos.fork()\nos.setsid() if os.fork() == 0 else 0\ntime.sleep(600)",
        "wall time (requester): wall time limit 1 s reached",
    ),
}


@pytest.mark.parametrize("deed", MISDEEDS)
def test_a_job_that_misbehaves_is_ended_with_the_reason(market: WholeMarket, mark: str, deed: str) -> None:
    misdeed = MISDEEDS[deed]
    done = market.dms("run", *misdeed.options, "-e", f"{MARK}={mark}", "--", "python3", "-c", misdeed.program)
    assert done.returncode == 137, done.stderr
    line = done.stderr.splitlines()[-1]
    assert line.startswith(f"dms: the job was ended: {misdeed.told}")
    job = market.last_job()
    assert line.endswith(f"dms job show {job['job_id'][:8]}")
    shown = market.dms("job", "show", job["job_id"]).stdout
    assert shown.count(misdeed.told.partition(":")[0]) == 2, "of the job, and of its only attempt"


def test_a_gigabyte_of_output_is_cut_off_at_the_limit(market: WholeMarket, mark: str, tmp_path: Path) -> None:
    path = tmp_path / "loud.yaml"
    path.write_text(
        "command: 'exec head -c 1G /dev/zero'\n"
        f"env: {{{MARK}: '{mark}'}}\n"
        "resources: {disk: 1100MiB}  # holds all of it, should nobody look for a while\n"
        "limits: {log: 1MiB}\n"
        "retry: {job_failures: 1}\n"
    )
    done = market.dms("job", "submit", str(path), "--follow")
    assert done.returncode == 137, done.stderr
    assert done.stdout == "\0" * 2**20
    assert done.stderr.startswith("dms: the job was ended: output limit (requester)")
    assert market.last_job()["reason"] == "output_limit"


def test_a_long_log_arrives_whole(market: WholeMarket, mark: str, tmp_path: Path) -> None:
    """What the program writes is sent on as fast as it writes it; what the link's queue does not take is asked for again by its requester."""
    size = 15 * 2**20
    path = tmp_path / "long.yaml"
    path.write_text(f"command: 'exec head -c {size} /dev/zero'\nenv: {{{MARK}: '{mark}'}}\nretry: {{node_faults: 0}}\n")
    done = market.dms("job", "submit", str(path), "--follow")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "\0" * size


def test_links_pipes_and_sockets_among_the_outputs_are_left_behind(
    market: WholeMarket, mark: str, tmp_path: Path
) -> None:
    program = """if True:
    import os, socket
    os.makedirs("out/deep")
    open("out/deep/real", "w").write("kept")
    os.symlink("/etc/passwd", "out/passwd")
    os.symlink("deep/real", "out/inside")
    os.symlink("..", "out/round")
    os.symlink("gone", "out/dangling")
    os.mkfifo("out/pipe")
    socket.socket(socket.AF_UNIX).bind("out/socket")
    """
    into = tmp_path / "into"
    run = ("run", "-e", f"{MARK}={mark}", "-o", "out/**", "--into", str(into), "--", "python3", "-c", program)
    done = market.dms(*run)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert [path.relative_to(into).as_posix() for path in into.rglob("*") if not path.is_dir()] == ["out/deep/real"]
    assert (into / "out/deep/real").read_text() == "kept"


# ------------------------------------------------------------------------------------------------- requests that cannot be


def test_a_malformed_job_file_is_told_by_field_line_and_rule_and_nothing_is_sent(
    market: WholeMarket, tmp_path: Path
) -> None:
    path = tmp_path / "job.yaml"
    path.write_text("command: [echo]\nresources:\n  memory: lots\ncount: 0\n")
    before = (market.status("provider")["market"]["heard"], market.json("job", "list")["total"])
    done = market.dms("job", "submit", str(path))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[0] == f"dms: {path} has 2 problems:"
    assert "line 3, resources.memory: 'lots' is not a size such as 512MiB or 4GiB" in done.stderr
    assert "line 4, count: " in done.stderr
    assert (market.status("provider")["market"]["heard"], market.json("job", "list")["total"]) == before


def test_an_impossible_request_is_explained_at_once(market: WholeMarket) -> None:
    done = market.dms("run", "--memory", "64GiB", "--", "true")
    assert done.returncode == 125
    job = market.last_job()
    assert done.stderr == (
        "dms: the job did not run: impossible (requester): the only node declined; nearest: memory 512 MiB; "
        f"dms job explain {job['job_id'][:8]}\n"
    )
    assert (job["phase"], job["price"]) == ("ended", 0)
    explained = market.dms("job", "explain", job["job_id"]).stdout
    assert "memory: wanted 64 GiB" in explained
    assert "lower memory 64 GiB -> 512 MiB: +1 node" in explained
    market.wait_free()


def test_a_price_below_every_floor_is_explained_with_one_that_would_do(market: WholeMarket) -> None:
    done = market.dms("run", "--max-price", "0.0001", "--", "true")
    assert done.returncode == 125
    told = re.match(r"dms: the job did not run: price too low \(budget\): .*nearest: max price ([\d.]+);", done.stderr)
    assert told is not None, done.stderr
    explained = market.dms("job", "explain", market.last_job()["job_id"]).stdout
    assert f"price: wanted at most 0.0001 credits, there {told[1]} credits" in explained
    assert f"raise max price 0.0001 -> {told[1]}: +1 node" in explained
    assert market.dms("run", "--max-price", told[1], "--", "true").returncode == 0
