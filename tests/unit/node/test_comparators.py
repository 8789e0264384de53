"""The example comparator, installed as a package is: found by its entry point, used by name, stored with the decision, replayed."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from dms.node.comparators import check_configured, load_comparators
from dms.testing.packages import install_package
from dms_proto.capability import Price
from dms_proto.errors import UserError
from dms_proto.ids import BidId, PeerId
from dms_proto.market.candidates import Candidate
from dms_proto.market.comparators import GROUP, Installed, check_comparator, choose, install, judge_by, replay
from dms_proto.market.preferences import Preferences, ProviderPolicy
from dms_proto.market.ranking import Decision, rank
from dms_proto.messages import BidRequest, Decline
from dms_proto.sim.provider import MACHINE, TARIFF, Provider, request

EXAMPLE = Path(__file__).parents[3] / "examples" / "comparator"
NEAREST = Preferences(weights={"price": 1.0}, comparator="nearest-first")


@pytest.fixture(autouse=True)
def only_what_a_test_installs() -> Iterator[None]:
    yield
    install({})


def distribution(where: Path, name: str, version: str, points: dict[str, str], module: str, source: str) -> None:
    """Installs a package with comparators."""
    install_package(where, name, version, GROUP, points, module, source)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory of packages that this process finds."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


def install_example(site: Path, version: str = "1.0") -> dict[str, Installed]:
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    points = project["entry-points"]["dms.comparators"]
    distribution(site, project["name"], version, points, "nearest_first", (EXAMPLE / "nearest_first.py").read_text())
    found = load_comparators()
    install(found)
    return found


def candidate(name: str, price: int, rtt_us: int) -> Candidate:
    return Candidate(BidId(f"b-{name}"), PeerId(name), MACHINE, Price(start=price), price, 1, rtt_us=rtt_us)


CHEAP_AND_FAR, DEAR_AND_NEAR = candidate("far", 10, 90_000), candidate("near", 20, 1_000)
TOO_DEAR = candidate("dear", 10_000_000, 1)


def decide(preferences: Preferences = NEAREST) -> Decision:
    return choose(request(), (CHEAP_AND_FAR, DEAR_AND_NEAR, TOO_DEAR), preferences)


def providers(decision: Decision) -> list[str]:
    return [str(entry.provider) for entry in decision.ranking.ranked]


def test_an_installed_comparator_ranks_for_who_names_it_and_for_nobody_else(site: Path) -> None:
    install_example(site)
    assert providers(decide(msgspec.structs.replace(NEAREST, comparator=""))) == ["far", "near"]

    decision = decide()

    assert providers(decision) == ["near", "far"]
    assert [entry.provider for entry in decision.ranking.excluded] == ["dear"]
    assert (decision.comparator, decision.note) == ("nearest-first 1.0", "")


def test_its_decision_goes_through_the_store_and_gives_the_same_again(site: Path) -> None:
    install_example(site)
    stored = msgspec.msgpack.decode(msgspec.msgpack.encode(decide()), type=Decision)

    assert stored.comparator == "nearest-first 1.0"
    assert replay(stored) == stored.ranking


def test_a_decision_whose_comparator_is_gone_says_so_instead_of_being_compared_by_another(site: Path) -> None:
    install_example(site)
    decision = decide()
    install({})

    with pytest.raises(UserError, match=r"nearest-first 1\.0 made this decision; it is not installed here"):
        replay(decision)


def test_a_name_that_is_not_installed_is_refused_with_what_is(site: Path) -> None:
    install_example(site)
    check_comparator("")
    check_comparator("nearest-first")
    with pytest.raises(UserError, match="no comparator 'farthest-first'") as refused:
        check_comparator("farthest-first")
    assert "installed: nearest-first" in refused.value.hint
    with pytest.raises(UserError, match=r"provider\.comparator: no comparator") as refused:
        check_configured("farthest-first")
    assert refused.value.code == "bad_config"


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("import nowhere_to_be_found", "ModuleNotFoundError"),
        ("class Broken: ...", "has no compare"),
        ("class Broken:\n    def __init__(self): raise RuntimeError('no licence')", "RuntimeError: no licence"),
    ],
)
def test_one_that_does_not_load_is_refused_with_its_error_and_harms_nobody(site: Path, source: str, says: str) -> None:
    distribution(site, "broken", "2", {"broken": "broken_comparator:Broken"}, "broken_comparator", source)
    found = install_example(site)
    assert sorted(found) == ["broken", "nearest-first"]
    with pytest.raises(UserError, match=says):
        check_comparator("broken")


@pytest.mark.parametrize(
    ("body", "note"),
    [
        ("raise ValueError('oops')", "own 3 failed: ValueError: oops"),
        ("return None", "own 3 gave a NoneType instead of a Ranking"),
        ("return Ranking(1, (), ())", "own 3 did not place each bid once"),
    ],
)
def test_one_that_fails_is_passed_over_and_the_decision_says_so(site: Path, body: str, note: str) -> None:
    source = (
        "from dms_proto.market.comparator import CapabilityComparator\n"
        "from dms_proto.market.ranking import Ranking\n"
        f"class Own(CapabilityComparator):\n    def rank(self, request, candidates, preferences): {body}\n"
    )
    distribution(site, "own", "3", {"own": "own_comparator:Own"}, "own_comparator", source)
    install(load_comparators())

    decision = decide(msgspec.structs.replace(NEAREST, comparator="own"))

    assert (decision.comparator, decision.note) == ("", note)
    assert decision.ranking == rank(decision.request, decision.candidates, decision.preferences) == replay(decision)


def ask(comparator: str) -> object:
    asked: BidRequest = request()
    return Provider(policy=ProviderPolicy(tariff=TARIFF, comparator=comparator)).hears(asked)


def test_a_provider_s_comparator_can_refuse_more_and_a_missing_one_refuses_all(site: Path) -> None:
    source = (
        "from dms_proto.capability import Capability\n"
        "from dms_proto.market.comparator import CapabilityComparator\n"
        "class Picky(CapabilityComparator):\n"
        "    def compare(self, required, offered, *, total=None, max_price=None):\n"
        "        return super().compare(required, Capability(), total=total, max_price=max_price)\n"
    )
    distribution(site, "picky", "1", {"picky": "picky_comparator:Picky"}, "picky_comparator", source)
    install_example(site)
    assert not isinstance(ask("nearest-first"), Decline)
    assert judge_by("nearest-first", request().needs, MACHINE, MACHINE.resources, 10) == ()
    picky = ask("picky")
    assert isinstance(picky, Decline)
    assert [clause.dimension for clause in picky.clauses] == ["cpu", "memory"]

    gone = ask("gone")

    assert isinstance(gone, Decline)
    assert [(clause.dimension, clause.observed) for clause in gone.clauses] == [("policy", "it is not installed here")]
