"""dms identity: on a home, without a node; and at a terminal, where a person types the passphrase."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from dms.cli.app import cli
from dms.config import identity
from dms.config.paths import Home
from dms.node.doctor import examine, subject_of
from dms.rpc.api.events import Check, Finding
from dms.testing.keyrings import NO_KEYRING, server
from dms_proto.lineage import identity_of

DMS = (sys.executable, "-c", "from dms.cli import main; main()")


@pytest.fixture(autouse=True)
def no_keyring() -> None:
    server()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    identity.create(home)
    return home


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    file = tmp_path / "secret"
    file.touch(0o600)
    file.write_text("open sesame\n")
    return file


def dms(home: Home, *arguments: str, given: bytes = b"") -> Result:
    return CliRunner(env={"DMS_HOME": str(home.root)}).invoke(cli, list(arguments), input=given, prog_name="dms")


def answer(home: Home, *arguments: str) -> Any:
    result = dms(home, *arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def trusts(home: Home, secret: Path) -> None:
    """The node of `home` finds its passphrase in a file."""
    home.config.write_text(f'[identity]\npassphrase_file = "{secret}"\n')


def checked(home: Home) -> Check:
    (check,) = asyncio.run(examine(subject_of(home), ["identity"])).checks
    return check


def test_show_names_all_four_and_verify_checks_what_it_printed(home: Home) -> None:
    names = identity.read_names(home)
    shown = dms(home, "identity", "show").stdout
    for name in (names.uuid, names.cid, names.peer_id, names.did):
        assert name in shown
    assert "not encrypted; `dms identity protect` does it" in shown
    said = dms(home, "identity", "show", "--json").stdout_bytes
    assert "every name follows" in dms(home, "identity", "verify", "-", given=said).stdout


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("uuid", "does not follow from the key of"),
        ("cid", "the CID is not that of"),
        ("did", "the DID is not that of"),
        ("peer_id", "the CID is not that of"),
    ],
)
def test_another_node_s_name_among_the_four_is_told(home: Home, tmp_path: Path, name: str, told: str) -> None:
    """Who checks has nothing but what is said: no node, no home."""
    said = json.loads(dms(home, "identity", "show", "--json").stdout)
    another = msgspec.to_builtins(identity_of(bytes(range(32))))
    said[name] = another[name]

    refused = dms(Home(tmp_path / "none"), "identity", "verify", "-", given=json.dumps(said).encode())

    assert (refused.exit_code, "[bad_identity]" in refused.stderr) == (1, True)
    assert told in refused.stderr


def test_protect_and_unprotect_and_what_the_doctor_says_of_them(home: Home, secret: Path) -> None:
    before = checked(home)
    assert (before.finding, before.fix) == (Finding.PASS, "dms identity protect")
    assert "no passphrase: whoever can read the file is this node" in before.evidence

    assert dms(home, "identity", "protect", "--passphrase-file", str(secret)).exit_code == 0
    typed = checked(home)
    assert (typed.finding, typed.fix) == (Finding.PASS, "")
    assert "a passphrase that a person types at each start" in typed.evidence

    trusts(home, secret)
    assert f"opened by the passphrase from {secret}" in checked(home).evidence
    secret.write_text("wrong\n")
    assert checked(home).finding is Finding.FAIL
    secret.write_text("open sesame\n")

    assert dms(home, "identity", "unprotect").exit_code == 0
    assert checked(home).evidence == before.evidence


def test_without_terminal_and_file_nothing_is_protected(home: Home) -> None:
    for arguments in (["protect"], ["protect", "--keyring"], ["export", str(home.root / "me.json")]):
        result = dms(home, "identity", *arguments)
        assert (result.exit_code, "[key_locked]" in result.stderr) == (1, True), result.stderr
    assert not identity.is_protected(home)
    assert not (home.root / "me.json").exists()


def test_an_export_is_restored_into_an_empty_home_and_nowhere_else(tmp_path: Path, home: Home, secret: Path) -> None:
    file, there = tmp_path / "me.json", Home(tmp_path / "there")
    given = ("--passphrase-file", str(secret))
    exported = answer(home, "identity", "export", str(file), *given)
    assert "key" not in exported
    assert answer(there, "identity", "restore", str(file), *given) == exported
    assert answer(there, "identity", "show") == exported
    again = dms(there, "identity", "restore", str(file), *given)
    assert (again.exit_code, "[already_onboarded]" in again.stderr) == (1, True)
    assert dms(home, "identity", "verify", str(file)).exit_code == 0
    assert "nowhere.json cannot be read" in dms(home, "identity", "verify", str(tmp_path / "nowhere.json")).stderr


@pytest.mark.slow
def test_rotate_gives_a_new_key_under_the_same_passphrase(home: Home, secret: Path) -> None:
    assert dms(home, "identity", "protect", "--passphrase-file", str(secret)).exit_code == 0
    trusts(home, secret)
    before = identity.read_names(home)
    command = [*DMS, "identity", "rotate", "--home", str(home.root)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=60)
    assert done.returncode == 0, done.stderr
    after = identity.read_names(home)
    assert f"{before.peer_id} is {after.peer_id} from now on, and still the node {before.uuid}" in done.stdout
    assert identity.load(home).public() == after
    assert identity.is_protected(home)
    assert before.peer_id in dms(home, "identity", "show").stdout


# ------------------------------------------------------------------------------------------------------------- at a terminal


def typed(home: Home, *arguments: str, words: tuple[str, ...]) -> tuple[int, str]:
    """Answers every question in order; the exit code, and what the terminal showed."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "DMS_HOME": str(home.root), **NO_KEYRING}
    process = subprocess.Popen(
        [*DMS, *arguments], stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True
    )
    os.close(theirs)
    seen, left = "", list(words)
    with suppress(OSError):  # Linux says EIO when the other end is closed
        while part := os.read(ours, 4096).decode():
            seen += part
            if left and seen.endswith(": "):
                os.write(ours, f"{left.pop(0)}\n".encode())
    os.close(ours)
    return process.wait(20), seen


@pytest.mark.slow
def test_a_passphrase_is_typed_twice_and_never_shown(home: Home) -> None:
    code, seen = typed(home, "identity", "protect", words=("open sesame", "open sesame"))
    assert (code, identity.is_protected(home)) == (0, True), seen
    assert "sesame" not in seen
    code, seen = typed(home, "identity", "unprotect", words=("not it",))
    assert (code, "the passphrase from the terminal does not open" in seen) == (1, True), seen
    code, seen = typed(home, "identity", "unprotect", words=("open sesame",))
    assert (code, identity.is_protected(home)) == (0, False), seen


@pytest.mark.slow
def test_two_passphrases_that_differ_change_nothing(home: Home) -> None:
    before = home.identity_key.read_bytes()
    code, seen = typed(home, "identity", "protect", words=("open sesame", "open sesami"))
    assert (code, "differ; nothing was changed" in seen) == (2, True), seen
    assert home.identity_key.read_bytes() == before


@pytest.mark.slow
def test_who_named_a_source_is_asked_for_nothing(home: Home, secret: Path) -> None:
    """A passphrase file that is wrong is a mistake to be told, not a reason to wait for a person."""
    assert dms(home, "identity", "protect", "--passphrase-file", str(secret)).exit_code == 0
    trusts(home, secret)
    secret.write_text("wrong\n")
    code, seen = typed(home, "identity", "unprotect", words=("open sesame",))
    assert (code, f"the passphrase from {secret} does not open" in seen) == (1, True), seen
