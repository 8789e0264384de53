"""An identity as one file: encrypted always, restored into an empty home only, checked by anyone."""

from __future__ import annotations

import re
import stat
from pathlib import Path

import msgspec
import pytest

from dms.config import identity
from dms.config.export import Export, export, read, restore
from dms.config.key_file import Passphrase, is_encrypted
from dms.config.paths import Home
from dms_proto.errors import UserError

PASSPHRASE = Passphrase(b"a long one", "the test")
WRONG = Passphrase(b"another", "the test")
NOW = 1_700_000_000_000


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """Of a node that has its second key."""
    home = Home(tmp_path / "home")
    identity.create(home)
    identity.rotate(home, NOW)
    return home


@pytest.fixture
def file(tmp_path: Path, home: Home) -> Path:
    file = tmp_path / "me.json"
    export(home, file, PASSPHRASE)
    return file


def read_back(file: Path) -> Export:
    return read(file.read_bytes(), str(file))


def test_what_was_exported_is_restored_the_same_with_its_successions(tmp_path: Path, home: Home, file: Path) -> None:
    before, there = identity.load(home), Home(tmp_path / "there")
    restore(there, read_back(file), [PASSPHRASE])
    after = identity.unlock(there, [PASSPHRASE])[0]
    assert (after.seed(), after.public()) == (before.seed(), before.public())
    assert len(after.successions) == 1


def test_the_file_is_private_and_holds_no_unencrypted_key(home: Home, file: Path) -> None:
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert is_encrypted(read_back(file).key.encode())
    assert identity.load(home).pem().splitlines()[1] not in file.read_bytes()


def test_nothing_is_exported_without_a_passphrase_or_over_a_file(tmp_path: Path, home: Home, file: Path) -> None:
    with pytest.raises(UserError, match="under a passphrase only"):
        export(home, tmp_path / "bare.json", Passphrase(b"", "nowhere"))
    assert not (tmp_path / "bare.json").exists()
    before = file.read_bytes()
    with pytest.raises(UserError, match="exists"):
        export(home, file, WRONG)
    assert file.read_bytes() == before


def test_a_home_that_holds_a_node_or_a_history_is_not_restored_into(tmp_path: Path, home: Home, file: Path) -> None:
    history = Home(tmp_path / "history")
    history.prepare()
    history.events.touch()
    for taken in (home, history):
        with pytest.raises(UserError) as caught:
            restore(taken, read_back(file), [PASSPHRASE])
        assert caught.value.code == "already_onboarded"
    assert not history.identity_names.exists()


def test_a_wrong_passphrase_leaves_the_home_empty(tmp_path: Path, file: Path) -> None:
    there = Home(tmp_path / "there")
    with pytest.raises(UserError) as caught:
        restore(there, read_back(file), [WRONG])
    assert caught.value.code == "key_locked"
    assert not there.root.exists()


def test_a_key_that_is_not_the_one_named_or_not_encrypted_is_refused(tmp_path: Path, file: Path) -> None:
    other = Home(tmp_path / "other")
    node = identity.create(other)
    exported = read_back(file)
    for pem, says in (
        (node.pem(PASSPHRASE.secret), "its key is that of"),
        (node.pem(), "no encrypted key"),
        (b"", "no encrypted key"),
    ):
        with pytest.raises(UserError, match=says) as caught:
            restore(Home(tmp_path / "there"), msgspec.structs.replace(exported, key=pem.decode()), [PASSPHRASE])
        assert caught.value.code == "bad_identity"


def test_every_name_and_signature_of_the_public_part_counts(file: Path) -> None:
    """Whatever digit or letter of a name or a record is changed, the file is refused: nothing in it is taken on trust."""
    text = file.read_text()
    public = text[: text.index('"key"')]
    values = re.findall(r': "([^"]+)"', public)
    assert len(values) >= 8
    for value in values:
        middle = len(value) // 2
        changed = value[:middle] + ("b" if value[middle] != "b" else "c") + value[middle + 1 :]
        with pytest.raises(UserError):
            read(text.replace(value, changed, 1).encode(), "it")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[]", b"{}"])
def test_what_is_no_identity_is_refused_by_place(content: bytes) -> None:
    with pytest.raises(UserError, match="that file: ") as caught:
        read(content, "that file")
    assert caught.value.code == "bad_identity"


def test_the_names_file_of_a_home_is_enough_to_check_a_node(home: Home) -> None:
    assert read_back(home.identity_names).public() == identity.load(home).public()
