"""Onboarding a home that holds part of a node already."""

from __future__ import annotations

from pathlib import Path

import pytest

from dms.config import Home, identity
from dms.config.export import export, read, restore
from dms.config.key_file import Passphrase
from dms.node.onboard import Onboarded, onboard
from dms_proto.errors import UserError

pytestmark = pytest.mark.slow


async def onboarded(home: Home, *, again: bool = False) -> Onboarded:
    return await onboard(home, chosen={}, quick=True, again=again, measure=False, report=lambda _line: None)


async def test_a_key_without_names_gets_them_and_is_kept(tmp_path: Path) -> None:
    """As after a crash in between, or when the names were removed because they were of another time."""
    home = Home(tmp_path / "home")
    before = identity.create(home)
    home.identity_names.unlink()
    done = await onboarded(home)
    assert done.id == before.node_id
    assert identity.load(home).public() == before.public()
    with pytest.raises(UserError) as caught:
        await onboarded(home)
    assert caught.value.code == "already_onboarded"


async def test_a_restored_home_is_onboarded_again_as_the_same_node(tmp_path: Path) -> None:
    home, there, file = Home(tmp_path / "home"), Home(tmp_path / "there"), tmp_path / "me.json"
    before, secret = identity.create(home), Passphrase(b"open sesame", "the test")
    export(home, file, secret)
    restore(there, read(file.read_bytes(), "it"), [secret])
    there.config.write_text(f'[identity]\npassphrase_file = "{tmp_path / "secret"}"\n')
    (tmp_path / "secret").touch(0o600)
    (tmp_path / "secret").write_bytes(secret.secret)
    assert (await onboarded(there, again=True)).id == before.node_id
