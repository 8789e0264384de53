"""Programs in a sandbox that stop half-way, by themselves and since their provider stops them, and go on from what they left."""

from __future__ import annotations

from pathlib import Path

import pytest

from dms.testing.whole_market import WholeMarket

pytestmark = [pytest.mark.slow, pytest.mark.libp2p]

PROGRAM = """\
command: |
  mkdir -p state; n=$(($(cat state/done 2>/dev/null || echo 0) + 1)); echo "$n" > state/done
  trap 'exit 85' TERM
  echo "part $n"
  case $n in 1) exit 85;; 2) while :; do sleep 0.1 & wait $!; done;; esac
checkpoint: state
"""
"""Its first part ends by itself, its second when it is asked to stop, its third is the last."""


def test_it_goes_on_by_itself_and_after_its_provider_has_stopped_it(market: WholeMarket, tmp_path: Path) -> None:
    document = tmp_path / "parts.yaml"
    document.write_text(PROGRAM)
    with market.started("job", "submit", str(document), "--follow") as process:
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(2)] == ["part 1\n", "part 2\n"]
        (running,) = market.json("alloc", "list", "--active", node="provider")["allocations"]
        market.json("alloc", "cancel", running["allocation_id"], node="provider")
        output, errors = process.communicate(timeout=60)

    assert (process.returncode, output) == (0, "part 3\n"), errors
    remarks = [
        line for line in errors.splitlines() if line.startswith("dms: slot ")
    ]  # it may also have waited for room
    assert remarks == ["dms: slot 0 goes on from its last checkpoint"] * 2
    shown = market.dms("job", "show", market.last_job()["job_id"]).stdout
    assert [shown.count(words) for words in ("checkpointed", "provider stopped")] == [1, 1], shown
