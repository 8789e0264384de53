"""Kill -9 at every step of writing an identity: the home always holds one key with its names, the old pair or the new one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dms.config import identity
from dms.config.export import export, read, restore
from dms.config.key_file import Passphrase
from dms.config.paths import Home
from dms_proto.ids import PeerId

pytestmark = pytest.mark.slow

SECRET = Passphrase(b"open sesame", "the test")
CHILD = Path(__file__).with_name("identity_child.py")


@pytest.fixture
def begin(tmp_path: Path) -> Home:
    home = Home(tmp_path / "begin")
    home.prepare()
    return home


def killed(action: str, begin: Home) -> Iterator[Home]:
    """A home for every step at which the process died, the last one for none."""
    copies = begin.root.parent / "copies"
    copies.mkdir()
    if (exported := begin.root.parent / "export.json").exists():
        (copies / exported.name).write_bytes(exported.read_bytes())
    subprocess.run([sys.executable, str(CHILD), action, str(begin.root), str(copies)], check=True, timeout=60)
    found = sorted((path for path in copies.iterdir() if path.is_dir()), key=lambda path: int(path.name))
    assert len(found) > 5, "the process was never killed"
    yield from map(Home, found)


def loaded(home: Home) -> identity.Identity:
    node = identity.unlock(home, [SECRET])[0]
    assert not list(home.root.glob(".identity.key.*")), "a copy of the key was left"
    return node


def test_onboarding_is_completed_with_the_key_that_was_written(begin: Home) -> None:
    for home in killed("create", begin):
        key = home.identity_key.read_bytes() if home.exists() else b""
        made = loaded(home) if home.is_complete() else identity.create(home)
        assert loaded(home).public() == made.public()
        assert key in (b"", home.identity_key.read_bytes())


def test_a_key_is_unprotected_or_protected_and_never_gone(begin: Home) -> None:
    before = identity.create(begin)
    protected = []
    for home in killed("protect", begin):
        protected.append(identity.is_protected(home))
        assert loaded(home).seed() == before.seed()
    assert protected == sorted(protected)
    assert set(protected) == {False, True}


def test_a_rotation_happened_or_did_not_and_can_be_done_again(begin: Home) -> None:
    before = identity.create(begin)
    rotated = []
    for home in killed("rotate", begin):
        shown = identity.read_names(home)
        node = loaded(home)
        assert node.public() == shown, "what is shown without the passphrase is what the next start finds"
        assert node.node_id.uuid == before.node_id.uuid
        rotated.append(node.seed() != before.seed())
        assert len(node.successions) == rotated[-1]
        assert not (rotated[-1] and home.next_key.exists()), "the new key has taken its place"
        again = identity.rotate(home, 1_700_000_000_001)
        assert loaded(home).public() == again.public()
    assert rotated == sorted(rotated)
    assert set(rotated) == {False, True}


def test_a_restore_is_whole_or_can_be_repeated(begin: Home) -> None:
    source = Home(begin.root.parent / "source")
    identity.create(source)
    node = identity.rotate(source, 1_700_000_000_000)
    file = begin.root.parent / "export.json"
    export(source, file, SECRET)
    there: set[PeerId] = set()
    for home in killed("restore", begin):
        if not home.exists():
            restore(home, read(file.read_bytes(), "export"), [SECRET])
        else:
            there.add(loaded(home).node_id.peer_id)
        assert loaded(home).public() == node.public()
    assert there == {node.node_id.peer_id}
