"""Secrets of a job, as the protocol sees them: sealed bytes under a name. Nothing here seals or opens; the node does both at its edges.

What is sealed (`dms.node.sealing`) is `binding(…) + value`, so that a sealed value says by itself where it may be opened:

=============================  ==============================  ========================================
where                          sealed to                       bound to
=============================  ==============================  ========================================
the requester's event store    the requester's key             ("kept", request, name)
a commit or an invocation      the chosen provider's key       ("sent", requester, allocation, name)
=============================  ==============================  ========================================
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Final

import msgspec

from dms_proto.ids import AllocationId, PeerId, RequestId
from dms_proto.rules import SecretName

MAX_SECRETS: Final = 16
"""Of one task: each that becomes a file takes a descriptor at its start."""
MAX_VALUE_BYTES: Final = 16 * 1024
"""A key or a certificate chain. Larger things are encrypted, sent as an input, and their key is the secret."""
BINDING_BYTES: Final = 32
SEAL_BYTES: Final = 48
"""What a libsodium sealed box adds: an ephemeral public key and a tag."""
_DOMAIN: Final = b"dms-secret-1"


class Secret(msgspec.Struct, frozen=True, omit_defaults=True):
    """A value that only the job sees.

    Attributes:
        name: of the variable, or of the file below /run/secrets.
        sealed: the value, for one node in one allocation; empty where a task is only shown.
        variable: it becomes an environment variable instead of a file.
    """

    name: SecretName
    sealed: Annotated[bytes, msgspec.Meta(max_length=MAX_VALUE_BYTES + BINDING_BYTES + SEAL_BYTES)] = b""
    variable: bool = False


class OpenSecret(msgspec.Struct, frozen=True, omit_defaults=True):
    """A value in the open: on its way from its owner to the node, and from the node into a sandbox. Its `repr` does not show it.

    Attributes:
        name: as in `Secret`.
        value: any bytes; of a variable: UTF-8 without NUL.
        variable: as in `Secret`.
    """

    name: SecretName
    value: Annotated[bytes, msgspec.Meta(max_length=MAX_VALUE_BYTES)]
    variable: bool = False

    def __repr__(self) -> str:
        return f"OpenSecret({self.name})"


def is_variable(value: bytes) -> bool:
    """Whether a value can stand in an environment: UTF-8 without NUL."""
    try:
        return "\0" not in value.decode()
    except UnicodeDecodeError:
        return False


def kept_binding(request: RequestId, name: str) -> bytes:
    """What a value in the requester's own store is bound to."""
    return _binding("kept", request, name)


def sent_binding(requester: PeerId, allocation: AllocationId, name: str) -> bytes:
    """What a value sent to a provider is bound to: nobody else can have it opened there, and no other allocation sees it."""
    return _binding("sent", requester, allocation, name)


def _binding(*parts: str) -> bytes:
    return hashlib.sha256(b"\0".join((_DOMAIN, *(part.encode() for part in parts)))).digest()
