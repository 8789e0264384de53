"""A node's identity as one file: the key, encrypted, with its names and successions. What `restore` makes a home of."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from dms.config.identity import Identity, as_json, load
from dms.config.key_file import Passphrase, is_encrypted, read_key, replace, write_new
from dms.config.paths import Home
from dms_proto import lineage
from dms_proto.errors import UserError
from dms_proto.lineage import PublicIdentity

MAX_BYTES: Final = 64 * 1024
"""Of a file that is read as an identity; one with all the successions a node may have is a tenth of it."""


class Export(PublicIdentity, frozen=True, omit_defaults=True):
    """An identity that can be restored.

    Attributes:
        key: PKCS#8 PEM, always encrypted.
    """

    key: str = ""

    def public(self) -> PublicIdentity:
        """The same without the key."""
        return PublicIdentity(self.uuid, self.cid, self.peer_id, self.did, self.successions)


def export(home: Home, file: Path, passphrase: Passphrase) -> PublicIdentity:
    """Writes the identity of `home` to a new file, 0600, its key encrypted under `passphrase` whatever protects it in the home.

    Raises:
        UserError: as `identity.load`; `bad_argument`: the file exists, or the passphrase is empty.
        MachineError: `disk_full`, `store_failed`.
    """
    if not passphrase.secret:
        raise UserError("bad_argument", "an identity is exported under a passphrase only")
    if file.exists():
        raise UserError("bad_argument", f"{file} exists", hint="choose another file, or remove it")
    identity = load(home)
    names = identity.public()
    pem = identity.pem(passphrase.secret).decode()
    write_new(file, as_json(Export(names.uuid, names.cid, names.peer_id, names.did, names.successions, pem)))
    return names


def restore(home: Home, exported: Export, tried: Iterable[Passphrase]) -> PublicIdentity:
    """Makes `home`, which holds nothing yet, the home of an exported identity. Its key stays encrypted as it was exported.

    Raises:
        UserError: `already_onboarded`: the home holds a node or its history; `bad_identity`: there is no encrypted key, or another one;
            `key_locked`: none of the passphrases `tried` opens it.
        MachineError: `disk_full`, `store_failed`.
    """
    if home.exists() or home.events.exists():
        raise UserError("already_onboarded", f"{home.root} is not empty", hint="restore into another --home")
    pem = exported.key.encode()
    if not is_encrypted(pem):
        raise UserError("bad_identity", "what was read holds no encrypted key", hint="dms identity export writes one")
    identity = Identity(read_key(pem, "the exported key", tried).private, exported.successions)
    names = identity.public()
    if names.peer_id != exported.peer_id:
        raise UserError("bad_identity", f"the export names {exported.peer_id}, but its key is that of {names.peer_id}")
    home.prepare()
    replace(home.identity_names, as_json(names))
    write_new(home.identity_key, pem)  # last: a home with a key holds a node
    return names


def read(data: bytes, place: str) -> Export:
    """What a file says of an identity, checked from public data alone: an export, an identity.json, or what `dms identity show --json` printed.

    Args:
        data: what is in the file.
        place: its name, for errors.

    Raises:
        UserError: `bad_identity`: it is damaged, or a name or record does not follow from the keys.
    """
    try:
        identity = msgspec.json.decode(data, type=Export)
        lineage.check(identity)
    except (msgspec.DecodeError, ValueError) as error:
        raise UserError("bad_identity", f"{place}: {error}") from error
    return identity
