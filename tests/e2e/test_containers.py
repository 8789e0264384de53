"""Jobs in containers through two whole nodes, by a container engine that this test run has started."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from dms.devnet.topology import NodeSpec
from dms.executors.oci import probe_image
from dms.testing.oci_engine import Reached, add_image, engine_and_registry
from dms.testing.whole_market import (
    MARK,
    WholeMarket,
    first_line,
    marked_job,
    processes_marked,
    wait_until,
    whole_market,
)

pytestmark = [pytest.mark.slow, pytest.mark.libp2p]

EXAMPLE = Path(__file__).parents[2] / "examples" / "jobs"


@pytest.fixture(scope="module")
def reached(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reached]:
    """The registry's image never comes to its end."""
    image = probe_image.archive(["/bin/sh"])
    with engine_and_registry("docker", tmp_path_factory.mktemp("registry"), image, "slow") as reached:
        yield reached


@pytest.fixture(scope="module")
def image(reached: Reached) -> str:
    return add_image(reached.socket)


@pytest.fixture(scope="module")
def market(reached: Reached, image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeMarket]:
    containers = {
        "executors.enabled": ["sandbox", "oci"],
        "executors.oci_socket": reached.socket,
        "executors.oci_registries": [reached.address],
    }
    room = {"provider.cpu": "1", "provider.memory": "512MiB", "provider.disk": "2GiB"}
    requester = NodeSpec("requester", "requester", {"provider.enabled": False, "executors.oci_socket": "/no/engine"})
    provider = NodeSpec("provider", "provider", {**room, **containers})
    with whole_market(tmp_path_factory.mktemp("market"), requester, provider) as market:
        yield market


@pytest.fixture
def mark(market: WholeMarket) -> Iterator[str]:
    with marked_job(market) as mark:
        yield mark


def test_a_command_runs_in_a_container_as_if_it_ran_here(
    market: WholeMarket, image: str, mark: str, tmp_path: Path
) -> None:
    (tmp_path / "in.txt").write_text("one two three")
    script = "wc -w < in.txt; test -e /root && echo host; echo 5 > out.txt; exit 7"
    done = market.dms(
        *("run", "--image", image, "-e", f"{MARK}={mark}", "-i", f"{tmp_path / 'in.txt'}=in.txt"),
        *("-o", "out.txt", "--into", str(tmp_path / "into"), "--", "/bin/sh", "-c", script),
    )
    assert (done.returncode, done.stdout) == (7, "3\n"), done.stderr
    assert (tmp_path / "into" / "out.txt").read_text() == "5\n"
    job = market.json("job", "show", market.last_job()["job_id"])
    usage = job["slots"][0]["attempts"][-1]["ending"]["usage"]
    assert usage.get("meter", "wall") == "lower_bound"


def test_the_example_runs(market: WholeMarket, image: str, mark: str, tmp_path: Path) -> None:
    text = (EXAMPLE / "container.yaml").read_text()
    text, count = re.subn(r"(?m)^image: .*$", f"image: {image}\nenv: {{{MARK}: '{mark}'}}", text)
    assert count == 1
    (tmp_path / "container.yaml").write_text(text)
    (tmp_path / "words.txt").write_bytes((EXAMPLE / "words.txt").read_bytes())
    words = len((EXAMPLE / "words.txt").read_text().split())
    done = market.dms("job", "submit", str(tmp_path / "container.yaml"), "--follow", "--into", str(tmp_path / "into"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "into" / "out" / "count.txt").read_text().strip() == str(words)


def test_a_tag_is_refused_where_no_engine_tells_its_digest(market: WholeMarket) -> None:
    done = market.dms("run", "--image", "docker.io/library/busybox:stable", "--", "true")
    assert done.returncode == 125
    assert "is a tag, which may mean something else tomorrow" in done.stderr
    assert "NAME@sha256:" in done.stderr


def test_an_image_that_is_no_ones_is_the_requesters_own_failure(market: WholeMarket) -> None:
    absent = "sha256:" + "0" * 64
    done = market.dms("run", "--image", f"10.0.0.5:80/x@{absent}", "--wait", "0", "--", "true")
    assert done.returncode != 0
    assert (
        "this node pulls no images from 10.0.0.5:80"
        in market.dms("job", "show", market.last_job()["job_id"]).stdout + done.stderr
    )


def test_who_waits_for_an_image_is_told_how_far_it_is(market: WholeMarket, reached: Reached) -> None:
    import signal

    with market.started("run", "--image", reached.image, "--", "/bin/true") as process:
        assert process.stderr is not None
        said = next(line for line in process.stderr if "pulling its image" in line)
        assert re.fullmatch(r"dms: r-\S+: (committed|preparing) on \S+: pulling its image.*\n", said)
        wait_until(lambda: " of " in doing(market), "how many bytes of how many")
        assert "pulling its image, " in market.dms("job", "show", market.last_job()["job_id"]).stdout
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 130
    assert not doing(market)


def doing(market: WholeMarket) -> str:
    """What the provider of the last job says that it does."""
    (slot,) = market.json("job", "show", market.last_job()["job_id"])["slots"]
    said: str = slot["attempts"][-1].get("doing", "")
    return said


def test_ctrl_c_ends_the_container(market: WholeMarket, image: str, mark: str) -> None:
    import signal

    arguments = ("run", "--image", image, "-e", f"{MARK}={mark}", "--", "/bin/sh", "-c", "echo up; exec sleep 600")
    with market.started(*arguments) as process:
        assert first_line(process) == "up\n"
        assert processes_marked(mark)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 130
    wait_until(lambda: not processes_marked(mark), "the container is gone")


def test_a_container_survives_the_death_of_its_node(market: WholeMarket, image: str, mark: str, tmp_path: Path) -> None:
    """The node's own job: another requester would have looked for another provider meanwhile. It is led into, and gets another size, as before."""
    script = "echo before; while [ ! -e /job/go ]; do sleep 0.05; done; echo after; exit 3"
    (tmp_path / "job.yaml").write_text(
        f"executor: oci\nimage: {image}\ncommand: '{script}'\nenv: {{{MARK}: '{mark}'}}\nexec: requester\n"
        "retry: {node_faults: 0}\n"
    )
    job = market.dms("job", "submit", str(tmp_path / "job.yaml"), node="provider").stdout.strip()
    wait_until(lambda: market.dms("job", "logs", job, node="provider").stdout == "before\n", "it has begun")
    before = min(processes_marked_shell(mark))
    provider = market.net["provider"]
    provider.kill()
    provider.launch()
    provider.wait_ready()
    assert before in processes_marked_shell(mark)
    sized = market.dms("alloc", "resize", job, "--cpu", "0.5", node="provider")
    assert sized.returncode == 0, sized.stderr
    beside = market.dms("job", "exec", job, "--", "sh", "-c", f"echo ${MARK}", node="provider")
    assert (beside.returncode, beside.stdout) == (0, f"{mark}\n"), beside.stderr
    market.dms(
        "job", "exec", job, "--", "touch", "/job/go", node="provider"
    )  # the job may end before this one is told of
    assert market.dms("job", "wait", job, node="provider").returncode == 3
    assert market.dms("job", "logs", job, node="provider").stdout == "before\nafter\n"


def processes_marked_shell(mark: str) -> list[int]:
    """The job's own shell, and what it is about to start."""
    return [pid for pid in processes_marked(mark) if Path(f"/proc/{pid}/comm").read_text() == "sh\n"]


def test_the_doctor_names_the_engine_and_what_it_is(market: WholeMarket) -> None:
    (check,) = market.json("doctor", "--only", "executors", node="provider")["checks"][-1:]
    assert check["name"] == "oci"
    assert check["finding"] == "warn"
    for words in ("docker", "rootful", "cgroup v", "runtimes", "isolation container", "is root of this machine"):
        assert words in check["evidence"]
