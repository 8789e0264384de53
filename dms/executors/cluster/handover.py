"""How a run on a cluster is given its secrets: sealed to a key that its runner has made, so that no value lies in a file that machines share.

The runner that has claimed the run shows a public key; the private one is in its memory alone, and goes with it. The node seals the values to that
key, by libsodium's sealed box as anywhere (`dms.node.sealing`), together with the name of the run. Who can read the shared directory, now or in a
copy of it, reads nothing. Who can write there as the node's user, which is who administers it, could show a key in the runner's place: as could who
administers the machine read the job's memory.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from nacl import bindings, exceptions

from dms_proto.secrets import OpenSecret


class HandoverError(Exception):
    """What came is not for this run."""


class _Given(msgspec.Struct, frozen=True):
    run: str
    secrets: tuple[OpenSecret, ...]


class Keyhole:
    """A runner's key for the secrets of one run.

    Attributes:
        public: what is shown of it.
    """

    def __init__(self) -> None:
        self.public, self._private = bindings.crypto_box_keypair()

    def open(self, run: str, sealed: bytes) -> tuple[OpenSecret, ...]:
        """What the node has given to the run of that name.

        Raises:
            HandoverError: it was sealed to another key, or for another run.
        """
        try:
            given = msgspec.msgpack.decode(
                bindings.crypto_box_seal_open(sealed, self.public, self._private), type=_Given
            )
        except (exceptions.CryptoError, msgspec.DecodeError) as error:
            raise HandoverError("its secrets were not sealed for the runner that has claimed it") from error
        if given.run != run:
            raise HandoverError(f"its secrets were sealed for {given.run}")
        return given.secrets


def seal(run: str, secrets: Sequence[OpenSecret], public: bytes) -> bytes:
    """The secrets of a run, for the runner that has shown this key.

    Raises:
        HandoverError: it is none.
    """
    try:
        return bindings.crypto_box_seal(msgspec.msgpack.encode(_Given(run, tuple(secrets))), public)
    except (exceptions.CryptoError, exceptions.TypeError, exceptions.ValueError) as error:
        raise HandoverError("what its runner shows is no key") from error
