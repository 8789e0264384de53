"""Datasets through a whole market, by the command line."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from dms.devnet.topology import NodeSpec
from dms.store.blobs import BlobStore
from dms.testing.whole_market import PROVIDER, REQUESTER, WholeMarket, whole_market
from dms_proto.ids import digest_of, short

pytestmark = [pytest.mark.slow, pytest.mark.libp2p]

JOBS = Path(__file__).parents[2] / "examples" / "jobs"


def test_a_dataset_is_added_listed_read_by_a_job_copied_out_and_removed(market: WholeMarket, tmp_path: Path) -> None:
    tree = tmp_path / "photos"
    (tree / "below").mkdir(parents=True)
    (tree / "large.bin").write_bytes(bytes(range(256)) * 20_000)
    (tree / "below" / "hello").write_text("#!/bin/sh\necho hello\n")
    (tree / "below" / "hello").chmod(0o755)

    added = market.dms("data", "add", str(tree), "--name", "photos")
    assert added.returncode == 0, added.stderr
    assert added.stdout.endswith(" photos: 2 files, 4.88 MiB\n")
    (listed,) = market.json("data", "list")["datasets"]
    assert (listed["name"], listed["files"], listed["bound"]) == ("photos", 2, False)
    assert "below/hello" in market.dms("data", "show", "photos").stdout

    done = market.dms("run", "--dataset", "photos:in", "--", "sh", "-c", "in/below/hello; wc -c < in/large.bin")
    assert (done.returncode, done.stdout) == (0, "hello\n5120000\n"), done.stderr

    into = tmp_path / "copy"
    assert market.dms("data", "get", listed["digest"][:20], str(into)).returncode == 0
    assert (into / "large.bin").read_bytes() == (tree / "large.bin").read_bytes()
    assert (into / "below" / "hello").stat().st_mode & 0o100

    assert market.dms("data", "remove", "photos").returncode == 0
    gone = market.dms("run", "--dataset", "photos", "--json", "--", "true")
    assert gone.returncode == 125
    assert json.loads(gone.stderr)["error"]["code"] == "not_found"


def test_what_is_bound_does_not_run_elsewhere(market: WholeMarket, tmp_path: Path) -> None:
    (tmp_path / "patients.csv").write_text("a,b\n")
    added = market.dms("data", "add", str(tmp_path / "patients.csv"), "--bound")
    assert "bound to this node" in added.stdout, added.stderr
    dataset = added.stdout.partition(":")[0].strip()
    done = market.dms("run", "--dataset", dataset, "--", "cat", "data/patients.csv")
    assert done.returncode == 125  # the requester of this market takes no work
    assert "takes no work" in done.stderr


def test_one_that_another_node_shares_is_named_by_its_id(market: WholeMarket, tmp_path: Path) -> None:
    (tmp_path / "large.bin").write_bytes(os.urandom(8 * 2**20))
    added = market.dms("data", "add", str(tmp_path / "large.bin"), "--shared", node="provider")
    assert added.returncode == 0, added.stderr
    dataset = added.stdout.split()[-1]
    assert added.stdout.endswith(f"shared: on other nodes it is {dataset}\n")
    done = market.dms("run", "--dataset", f"{dataset}:in", "--", "sh", "-c", "wc -c < in/large.bin")
    assert (done.returncode, done.stdout) == (0, f"{8 * 2**20}\n"), done.stderr
    assert market.dms("data", "remove", dataset, node="provider").returncode == 0
    gone = market.dms("run", "--dataset", dataset, "--", "true")
    assert (gone.returncode, "none shares it" in gone.stderr) == (125, True), gone.stderr


def test_the_same_work_again_is_answered_from_the_cache_and_says_so(market: WholeMarket, tmp_path: Path) -> None:
    command = ("run", "--cache", "-o", "out", "--into")
    script = ("--", "sh", "-c", "date +%s%N | tee out")
    first = market.dms(*command, str(tmp_path / "first"), *script)
    assert first.returncode == 0, first.stderr
    again = market.dms(*command, str(tmp_path / "again"), *script)
    assert (again.returncode, again.stdout) == (0, first.stdout)
    assert (tmp_path / "again" / "out").read_text() == first.stdout
    assert "dms: answered from the cache: job r-" in again.stderr
    job = market.last_job()
    told = market.dms("run", "--cache", "--json", "--force", *command[2:], str(tmp_path / "again"), *script).stdout
    assert json.loads(told.splitlines()[0]) == {
        "type": "answered",
        "job_id": job["job_id"],
        "answered_at": job["ended_at"],
    }
    answers = market.json("job", "show", job["job_id"])["given_again"]
    assert (answers["times"], answers["last_at"] > job["ended_at"]) == (2, True)
    for question in ("show", "explain"):
        assert "2 times to the same work, which was not run again" in market.dms("job", question, job["job_id"]).stdout
    assert market.dms("run", "--", "sh", "-c", "date +%s%N").stdout != first.stdout


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeMarket]:
    other = NodeSpec("other", "provider", PROVIDER.settings)
    with whole_market(tmp_path_factory.mktemp("three"), REQUESTER, PROVIDER, other) as market:
        yield market


def test_the_example_reads_what_another_machine_shares_by_its_id_alone(three: WholeMarket) -> None:
    added = three.dms("data", "add", str(JOBS / "words.txt"), "--shared", node="other")
    assert added.returncode == 0, added.stderr
    done = three.dms("job", "submit", str(JOBS / "shared.yaml"), "--follow")
    assert done.returncode == 0, done.stderr
    counted = dict(reversed(line.split()) for line in done.stdout.splitlines())
    words = (JOBS / "words.txt").read_text().split()
    assert len(counted) == 3
    assert all(words.count(word) == int(count) for word, count in counted.items())


@pytest.mark.parametrize("lies", [False, True], ids=["honest", "lying"])
def test_a_second_provider_fetches_from_the_first_as_well_and_loses_nothing_by_one_that_lies(
    three: WholeMarket, tmp_path: Path, lies: bool
) -> None:
    content = tmp_path / "large.bin"
    content.write_bytes(os.urandom(48 * 2**20))
    digest = digest_of(content.read_bytes())
    assert three.dms("data", "add", str(content), "--name", f"large-{lies}").returncode == 0
    read = ("--dataset", f"large-{lies}:large", "--disk", "512MiB", "--", "sha256sum", "large/large.bin")
    names = {name: three.json("node", "id", node=name)["peer_id"] for name in ("requester", "provider", "other")}
    for name in ("provider", "other"):
        done = three.dms("run", "--node", names[name], *read)
        assert (done.returncode, f"sha256:{done.stdout.split()[0]}") == (0, digest), done.stderr
        if lies and name == "provider":
            blob = BlobStore(three[name].home.blobs).path(digest)
            assert blob is not None
            blob.write_bytes(bytes(48 * 2**20))
    told = three.dms("trace", three.last_job()["job_id"], node="other").stdout
    (line,) = [line for line in told.splitlines() if "inputs are here" in line]
    sent = {name for name in names if f"MiB of {name} ({short(names[name])})" in line}
    assert sent == ({"requester"} if lies else {"requester", "provider"}), line
