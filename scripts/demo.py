"""`make demo`: a real compute market on this machine, watched at work.

Four nodes, each with its own processes, home, key and event store, onboard, measure themselves and meet over libp2p on loopback: three that
run work, one that asks. One real job over real files is asked about, run, explained and proven. Everything printed below a `$` is the output of
the command shown, at the node before it. Ends non-zero if any step does not do what it should.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from dms.devnet.network import DevNet, DevNode, environment
from dms.devnet.topology import TOPOLOGY
from dms_proto.errors import DmsError

ROOT = Path(__file__).resolve().parent.parent
JOB = ROOT / "examples" / "jobs" / "wordcount.yaml"
DMS = Path(sys.executable).with_name("dms")
NODES = tuple(spec for spec in TOPOLOGY if spec.role != "bootstrap")
"""The requester introduces the providers to each other here, so that four nodes are enough."""


class Failed(Exception):  # noqa: N818 - the demo failed
    """A step did not do what it should."""


def main() -> int:
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="dms-demo-") as directory:
        try:
            show(Path(directory))
        except (Failed, DmsError) as error:
            print(f"\nthe demo failed: {error}", file=sys.stderr)
            return 1
    print(
        f"\nDone in {time.monotonic() - started:.0f} s. Nothing is left running. Next: README.md, or `dms devnet` for a market to play with."
    )
    return 0


def show(root: Path) -> None:
    title("Four nodes onboard: a key, proven sandboxes, a measured capability locked in an event store")
    requester_first = tuple(sorted(NODES, key=lambda spec: spec.role != "requester"))
    with DevNet(root / "nodes", requester_first, measure=True, report=lambda line: print(f"  {line}")) as net:
        asker = net["requester"]
        title("They have found each other over libp2p (TCP, Noise, yamux; GossipSub for bid requests)")
        dms(asker, "peers", "list")
        title("What one of them offers, and for how much")
        dms(net["provider-2"], "node", "capability")
        title("Who could do the job, at what price? One verdict per node; nothing is committed")
        dms(asker, "ask", "--dry-run", str(JOB))
        title("And a job that only one of them has room for: the others say why not, and what would change it")
        dms(asker, "ask", "--dry-run", "--memory", "768MiB", "--", "true")
        title("The job runs: bid request, bids, ranking, commit, sandboxes, logs and results back")
        job = submit(asker)
        dms(asker, "job", "wait", job)
        dms(asker, "job", "logs", job)
        results = root / "results"
        dms(asker, "job", "get", job, "--into", str(results))
        check_results(results)
        title("Why it went where it went; recomputed from the stored facts")
        dms(asker, "job", "explain", job)
        dms(asker, "job", "decision", job)
        title("The whole story, read back from the node's event store, whose hash chain is intact")
        dms(asker, "trace", job)
        dms(asker, "events", "verify")
        for name in ("provider-1", "provider-2", "provider-3"):
            dms(net[name], "alloc", "list")
        title("And it feels like here: output streams, the exit code is the job's")
        dms(asker, "run", "--", "sh", "-c", "echo hello from $(hostname), seeing only $(ls / | tr '\\n' ' ')")
        dms(asker, "run", "--", "sh", "-c", "exit 7", expected=7)


def submit(asker: DevNode) -> str:
    said = dms(asker, "job", "submit", str(JOB), "--json", shown=False)
    job: str = json.loads(said)["job_id"]
    print(f"{asker.spec.name} $ dms job submit {JOB.relative_to(ROOT)}\n{job}")
    return job


def check_results(results: Path) -> None:
    files = sorted(path for path in results.rglob("*") if path.is_file())
    if not files:
        raise Failed("the job left no results")
    for path in files:
        print(f"--- {path.relative_to(results)}\n{path.read_text().strip()}")


def title(text: str) -> None:
    print(f"\n== {text}")


def dms(node: DevNode, *arguments: str, expected: int = 0, shown: bool = True) -> str:
    """Runs the `dms` command against a node, shows at which, it and its output, and insists on its exit code."""
    if shown:
        print(f"{node.spec.name} $ dms {' '.join(arguments)}".replace(str(ROOT) + os.sep, ""), flush=True)
    done = subprocess.run(
        [str(DMS), *arguments], env=environment(node), capture_output=True, text=True, check=False, timeout=120
    )
    if shown:
        print(done.stdout + done.stderr, end="", flush=True)
    if done.returncode != expected:
        raise Failed(f"`dms {' '.join(arguments)}` ended with {done.returncode}, not {expected}: {done.stderr.strip()}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
