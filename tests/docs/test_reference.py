"""The generated pages are fresh and complete, and what hand-written ones count agrees with the code."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from dms.cli.app import COMMANDS
from dms.config.reference import settings
from dms.node.doctor import CHECKS
from dms.rpc.api import METHODS
from dms_actors.events import EVENT_KINDS
from dms_proto.allocation.state import LifePhase
from dms_proto.errors import CODES
from dms_proto.messages import KINDS
from dms_proto.work import EndReason

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

from docgen import transitions
from docgen.dependencies import direct
from docgen.words import UNREAD_SETTINGS

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"


@pytest.mark.slow
def test_the_generated_pages_are_fresh_and_nothing_lacks_a_description() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "gen_docs.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("cli.md", [f"## dms {name}" for section in COMMANDS.values() for name in section]),
        ("rpc.md", [f"### {'feed ' if method.feed else ''}{method.name}" for method in METHODS.values()]),
        ("configuration.md", [f"| `{setting.name}` | `{setting.env}` |" for setting in settings()]),
        ("events.md", [f"| `{name}` |" for name in EVENT_KINDS]),
        ("messages.md", [f"### {name}" for name in KINDS]),
        ("errors.md", [f"### {code}" for code in CODES]),
        ("end-reasons.md", [f"| `{reason.value}` |" for reason in EndReason]),
    ],
)
def test_a_reference_page_has_an_entry_for_each(page: str, names: list[str]) -> None:
    text = (REFERENCE / page).read_text()
    assert [name for name in names if name not in text] == []


def test_the_allocation_page_explains_every_phase() -> None:
    text = (ROOT / "docs" / "concepts" / "allocation.md").read_text()
    explained = re.findall(r"^\| `([a-z]+)` \| [A-Z]", text, re.MULTILINE)
    assert explained == [phase.value for phase in LifePhase if phase is not LifePhase.NEW]


def test_the_doctor_page_names_every_check() -> None:
    text = (ROOT / "docs" / "operations" / "doctor.md").read_text()
    named = {name for row in re.findall(r"^\| ([a-z, ]+) \|", text, re.MULTILINE) for name in row.split(", ")}
    assert set(CHECKS) - {"executors"} <= named


@pytest.mark.slow
def test_the_diagrams_show_every_transition_that_the_simulator_takes() -> None:
    seen, drawn = transitions.observe(2), transitions.stored()
    missing = {name: edges - drawn[name] for name, edges in seen.items() if edges - drawn[name]}
    assert not missing, "run: python scripts/gen_docs.py --observe"


def test_settings_that_nothing_obeys_are_marked() -> None:
    read: set[tuple[str, str]] = set()
    for path in (ROOT / "dms").rglob("*.py"):
        defines = "config" in path.parts and path.name != "passphrase.py"
        if defines or "testing" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute):
                owner = node.value
                read.add((getattr(owner, "attr", getattr(owner, "id", "")), node.attr))
    whole = {"log": "settings", "identity": "settings"}  # sections handed on whole, and what the receiver calls them
    unread = {
        setting.key
        for setting in settings()
        if not {(setting.section, setting.name), (whole.get(setting.section, "-"), setting.name)} & read
    }
    assert unread == UNREAD_SETTINGS, "obeyed now, or no longer: change UNREAD_SETTINGS in scripts/docgen/words.py"


def test_every_import_from_elsewhere_is_a_dependency_or_explained() -> None:
    packages = {
        "biscuit_auth": "biscuit-python",
        "classad2": "htcondor",
        "htcondor2": "htcondor",
        "yaml": "pyyaml",
        "cel": "common-expression-language",
        "pynvml": "nvidia-ml-py",
        "nacl": "pynacl",
    }
    explained = set(
        re.findall(
            r"^\| `(\w+)` \| (?:libp2p|part of)", (ROOT / "docs/development/dependencies.md").read_text(), re.MULTILINE
        )
    )
    imported: set[str] = set()
    for room in ("dms", "actors", "proto"):
        for path in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    imported |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    imported.add(node.module.partition(".")[0])
    foreign = {name for name in imported if name not in sys.stdlib_module_names and not name.startswith("dms")}
    listed = {name.replace("-", "_") for name in direct(ROOT)}
    assert {name for name in foreign if packages.get(name, name).replace("-", "_") not in listed} <= explained
