"""Where the passphrase of a key comes from: what the owner named first, then the OS keyring, then a person."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dms.config import identity
from dms.config.key_file import Passphrase
from dms.config.passphrase import SERVICE, from_file, from_keyring, into_keyring, unattended
from dms.config.paths import Home
from dms.testing.keyrings import MemoryKeyring, desktop
from dms_proto.errors import UserError


@pytest.fixture(name="desktop")
def machine_with_keyring() -> Iterator[MemoryKeyring]:
    with desktop() as there:
        yield there


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    identity.create(home)
    return home


def secret_file(path: Path, text: str = "open sesame\nnot this\n", mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def secret(home: Home) -> bytes:
    (found,) = unattended(home, "u")
    return found.secret


def named(home: Home, *lines: str) -> None:
    home.config.write_text("\n".join(("[identity]", *lines)))


def test_a_file_comes_before_a_command_and_a_command_before_the_keyring(home: Home, desktop: MemoryKeyring) -> None:
    desktop.set_password(SERVICE, "u", "kept")
    file = secret_file(home.root / "secret")
    command = f'passphrase_command = ["{sys.executable}", "-c", "print(7)"]'
    named(home, f'passphrase_file = "{file}"', command)
    assert secret(home) == b"open sesame"
    named(home, command)
    assert secret(home) == b"7"
    named(home)
    assert secret(home) == b"kept"
    assert list(unattended(home, "another")) == []


def test_without_a_keyring_there_is_simply_nothing_and_protecting_with_it_says_so(home: Home) -> None:
    assert list(from_keyring("u")) == []
    with pytest.raises(UserError, match="no keyring") as caught:
        into_keyring("u")
    assert caught.value.code == "key_locked"


def test_a_node_needs_no_keyring_package(home: Home) -> None:
    """In a Python of its own, in which the package cannot be imported."""
    program = (
        "import sys; sys.modules['keyring'] = None\n"
        "from dms.config.passphrase import from_keyring\n"
        "assert list(from_keyring('u')) == []\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_what_the_keyring_holds_is_never_replaced_since_a_key_may_depend_on_it(desktop: MemoryKeyring) -> None:
    first = into_keyring("u")
    assert len(first.secret) >= 32
    assert into_keyring("u") == first
    assert into_keyring("v") != first


@pytest.mark.parametrize(
    ("text", "mode", "code"),
    [("", 0o600, "key_locked"), ("\nsecond\n", 0o600, "key_locked"), ("x\n", 0o644, "bad_config")],
)
def test_a_file_that_is_empty_or_open_to_others_is_refused(tmp_path: Path, text: str, mode: int, code: str) -> None:
    with pytest.raises(UserError) as caught:
        from_file(secret_file(tmp_path / "secret", text, mode))
    assert caught.value.code == code


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere cannot be read"):
        from_file(tmp_path / "nowhere")


@pytest.mark.parametrize("program", ["raise SystemExit(3)", "pass", "print()"])
def test_a_command_that_gives_nothing_is_told(home: Home, program: str) -> None:
    named(home, f'passphrase_command = ["{sys.executable}", "-c", "{program}"]')
    with pytest.raises(UserError, match="no passphrase") as caught:
        list(unattended(home, "u"))
    assert caught.value.code == "key_locked"


def test_a_passphrase_does_not_show_in_repr(tmp_path: Path) -> None:
    assert "sesame" not in repr(from_file(secret_file(tmp_path / "secret")))


def test_a_keyring_that_holds_another_passphrase_does_not_shut_out_who_knows_the_right_one(
    home: Home, desktop: MemoryKeyring
) -> None:
    """As after a crash between the keyring and the key, or when the key was protected by a typed passphrase later."""
    node = identity.load(home)
    into_keyring(node.node_id.uuid)
    typed = Passphrase(b"typed", "the terminal")
    identity.protect(home, node, typed)
    tried = [*from_keyring(node.node_id.uuid), typed]
    assert len(tried) == 2
    opened, by = identity.unlock(home, tried)
    assert (opened.seed(), by) == (node.seed(), typed)
