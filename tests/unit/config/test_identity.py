from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from dms.config import identity
from dms.config.key_file import Passphrase
from dms.config.paths import Home
from dms_proto import lineage
from dms_proto.errors import MachineError, UserError
from dms_proto.ids import public_key_of
from dms_proto.succession import MAX_SUCCESSIONS

PASSPHRASE = Passphrase(b"open sesame", "the test")
NOW = 1_700_000_000_000


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def test_a_new_identity_is_read_back_the_same(home: Home) -> None:
    made = identity.create(home)
    read = identity.load(home)
    assert read.node_id == made.node_id
    assert read.seed() == made.seed()
    assert public_key_of(read.node_id.peer_id) == read.public_key


def test_two_identities_share_nothing(tmp_path: Path) -> None:
    one, other = (identity.create(Home(tmp_path / name)).node_id for name in "ab")
    assert one.peer_id != other.peer_id
    assert one.uuid != other.uuid


def test_signatures_verify_under_the_key_in_the_peer_id(home: Home) -> None:
    node = identity.create(home)
    Ed25519PublicKey.from_public_bytes(public_key_of(node.node_id.peer_id)).verify(node.sign(b"hello"), b"hello")


def test_the_files_are_for_the_owner_alone_and_nothing_else_is_left(home: Home) -> None:
    identity.create(home)
    for file in (home.identity_key, home.identity_names):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert {path.name for path in home.root.iterdir() if path.is_file()} == {"identity.key", "identity.json"}


def test_the_secret_does_not_show_in_repr(home: Home) -> None:
    node = identity.create(home)
    assert repr(node) == f"Identity({node.node_id.peer_id})"


def test_an_existing_key_is_never_overwritten(home: Home) -> None:
    identity.create(home)
    before = home.identity_key.read_bytes()
    with pytest.raises(UserError) as caught:
        identity.create(home)
    assert caught.value.code == "already_onboarded"
    assert home.identity_key.read_bytes() == before


def test_a_crash_between_key_and_names_is_completed_with_the_same_key(home: Home) -> None:
    first = identity.create(home)
    home.identity_names.unlink()
    with pytest.raises(UserError, match="missing") as caught:
        identity.load(home)
    assert "dms onboard" in caught.value.hint
    assert identity.create(home).node_id.peer_id == first.node_id.peer_id
    assert identity.load(home).node_id.peer_id == first.node_id.peer_id


def test_an_empty_home_holds_no_node(home: Home) -> None:
    with pytest.raises(UserError) as caught:
        identity.load(home)
    assert caught.value.code == "not_onboarded"


def test_a_key_that_others_can_read_is_refused(home: Home) -> None:
    identity.create(home)
    home.identity_key.chmod(0o644)
    with pytest.raises(UserError, match="0644"):
        identity.load(home)


def test_names_of_another_key_are_refused(tmp_path: Path) -> None:
    one, other = Home(tmp_path / "one"), Home(tmp_path / "other")
    identity.create(one)
    identity.create(other)
    one.identity_names.write_bytes(other.identity_names.read_bytes())
    with pytest.raises(UserError, match="but the key is that of"):
        identity.load(one)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b'{"uuid": 3}', b"[]"])
def test_damaged_names_are_refused_by_file(home: Home, content: bytes) -> None:
    identity.create(home)
    home.identity_names.write_bytes(content)
    with pytest.raises(UserError, match=r"identity\.json is damaged"):
        identity.load(home)


def test_what_is_no_ed25519_key_is_refused(home: Home) -> None:
    identity.create(home)
    other = ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for content, says in ((b"", "not a private key"), (other, "not an Ed25519 key")):
        home.identity_key.write_bytes(content)
        with pytest.raises(UserError, match=says):
            identity.load(home)


# ---------------------------------------------------------------------------------------------------------------- passphrase


def test_a_protected_key_is_pkcs8_that_openssl_reads_and_opens_under_its_passphrase_alone(home: Home) -> None:
    before = identity.create(home)
    identity.protect(home, identity.load(home), PASSPHRASE)
    assert identity.is_protected(home)
    assert stat.S_IMODE(home.identity_key.stat().st_mode) == 0o600
    pem = home.identity_key.read_bytes()
    assert load_pem_private_key(pem, PASSPHRASE.secret).private_bytes_raw() == before.seed()  # type: ignore[union-attr]
    assert identity.unlock(home, [PASSPHRASE])[0].public() == before.public()
    with pytest.raises(UserError, match="from the test does not open") as caught:
        identity.unlock(home, [Passphrase(b"wrong", "the test")])
    assert caught.value.code == "key_locked"


def test_without_a_passphrase_a_protected_key_says_where_one_may_come_from(home: Home) -> None:
    identity.create(home)
    identity.protect(home, identity.load(home), PASSPHRASE)
    with pytest.raises(UserError, match="protected by a passphrase") as caught:
        identity.load(home)
    assert (caught.value.code, "identity.passphrase_file" in caught.value.hint) == ("key_locked", True)


def test_a_passphrase_is_changed_and_taken_away_with_the_one_before(home: Home) -> None:
    before = identity.create(home)
    secret = home.root / "secret"
    home.config.write_text(f'[identity]\npassphrase_file = "{secret}"\n')
    for word in ("first", "second"):
        identity.protect(home, identity.load(home), Passphrase(word.encode(), "the test"))
        secret.write_text(word)
        secret.chmod(0o600)
        assert identity.load(home).seed() == before.seed()
    identity.protect(home, identity.load(home), None)
    assert not identity.is_protected(home)
    assert identity.load(home).seed() == before.seed()


def test_a_key_that_was_replaced_meanwhile_is_not_put_back(home: Home) -> None:
    loaded_before = identity.create(home)
    new = identity.rotate(home, NOW)
    with pytest.raises(UserError, match="replaced meanwhile"):
        identity.protect(home, loaded_before, PASSPHRASE)
    assert identity.load(home).seed() == new.seed()


# ------------------------------------------------------------------------------------------------------------------ rotation


def test_a_new_key_has_new_names_but_for_the_uuid_and_both_keys_say_so(home: Home) -> None:
    old = identity.create(home)
    new = identity.rotate(home, NOW)
    assert new.seed() != old.seed()
    assert new.node_id.uuid == old.node_id.uuid
    assert lineage.check(new.public()) == (old.node_id.peer_id,)
    assert identity.load(home).public() == new.public()
    assert not home.next_key.exists()


def test_a_new_key_is_protected_as_the_old_one_was(home: Home) -> None:
    identity.create(home)
    secret = home.root / "secret"
    secret.touch(0o600)
    secret.write_bytes(PASSPHRASE.secret)
    home.config.write_text(f'[identity]\npassphrase_file = "{secret}"\n')
    identity.protect(home, identity.load(home), PASSPHRASE)
    new = identity.rotate(home, NOW)
    assert identity.is_protected(home)
    assert identity.load(home).seed() == new.seed()


def test_a_key_is_replaced_no_more_often_than_can_be_proven(home: Home) -> None:
    identity.create(home)
    for _ in range(MAX_SUCCESSIONS):
        last = identity.rotate(home, NOW)
    with pytest.raises(UserError, match="replaced 16 times"):
        identity.rotate(home, NOW)
    assert len(lineage.check(identity.load(home).public())) == MAX_SUCCESSIONS
    assert identity.load(home).seed() == last.seed()


def test_a_uuid_that_does_not_follow_from_the_key_is_refused_with_the_way_out(home: Home) -> None:
    """As homes had it that drew their UUID."""
    first = identity.create(home)
    drawn = first.public().uuid.replace("8", "9", 1)
    home.identity_names.write_text(home.identity_names.read_text().replace(first.node_id.uuid, drawn))
    with pytest.raises(UserError, match="does not follow") as caught:
        identity.load(home)
    assert "dms onboard, which keeps the key" in caught.value.hint
    home.identity_names.unlink()
    assert identity.create(home).public() == first.public()


def test_names_without_their_key_are_not_given_to_another_key(home: Home) -> None:
    identity.create(home)
    home.identity_key.unlink()
    with pytest.raises(UserError, match="without its key"):
        identity.create(home)
    assert not home.identity_key.exists()


def test_what_a_killed_process_left_of_a_key_is_removed(home: Home) -> None:
    identity.create(home)
    left = home.root / ".identity.key.12345"
    left.write_text("half a key")
    identity.load(home)
    assert not left.exists()


def test_a_key_that_cannot_be_read_is_refused_by_file(home: Home) -> None:
    identity.create(home)
    home.identity_key.unlink()
    home.identity_key.mkdir(mode=0o700)
    with pytest.raises(UserError, match=r"identity\.key cannot be read"):
        identity.load(home)


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to mount a full file system")
def test_a_full_disk_leaves_no_half_written_key(tmp_path: Path) -> None:
    import subprocess

    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k,nr_inodes=16", "none", str(tmp_path)], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"tmpfs cannot be mounted here: {mounted.stderr!r}")
    try:
        home = Home(tmp_path / "home")
        home.prepare()
        with (tmp_path / "filler").open("wb", buffering=0) as filler:
            while filler.tell() < 1 << 20:
                try:
                    filler.write(b"x" * 4096)
                except OSError:
                    break
        with pytest.raises(MachineError) as caught:
            identity.create(home)
        assert caught.value.code == "disk_full"
        assert not home.identity_key.exists()
        assert [path.name for path in home.root.iterdir() if path.is_file()] == []
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
