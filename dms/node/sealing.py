"""Sealing the secrets of jobs, and opening them: the two edges at which a value is in the clear.

::

    job.submit ──keep──▶ sealed to ourselves, in the event store ──address──▶ sealed to the provider, in its commit ──open──▶ its sandbox

A value is sealed by libsodium's sealed box (X25519, XSalsa20-Poly1305) to the X25519 form of a node's Ed25519 key, together with what it is bound to
(`dms_proto.secrets`). The machines between carry the sealed bytes and know nothing of them.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

import msgspec
from nacl import bindings, exceptions

from dms_proto.errors import UserError
from dms_proto.ids import AllocationId, PeerId, RequestId, allocation_id, public_key_of
from dms_proto.messages import AnyMessage, Commit, Invocation
from dms_proto.secrets import BINDING_BYTES, OpenSecret, Secret, is_variable, kept_binding, sent_binding
from dms_proto.work import Task

_logger: Final = logging.getLogger(__name__)


class Sealer:
    """Holds the node's key for secrets. Immutable; shared by the loop and the actors' thread."""

    def __init__(self, seed: bytes, me: PeerId) -> None:
        """From the 32-byte seed of the node's Ed25519 key."""
        _, secret_key = bindings.crypto_sign_seed_keypair(seed)
        self._secret_key = bindings.crypto_sign_ed25519_sk_to_curve25519(secret_key)
        self._public_key = _key_of(me)
        self._me = me

    def keep(self, request: RequestId, secrets: Sequence[OpenSecret]) -> tuple[Secret, ...]:
        """The values as this node's own event store holds them."""
        return tuple(
            Secret(each.name, _seal(kept_binding(request, each.name) + each.value, self._public_key), each.variable)
            for each in secrets
        )

    def address(self, message: AnyMessage, provider: PeerId) -> AnyMessage:
        """The message with its secrets sealed to the provider that gets it, each for its allocation."""
        match message:
            case Commit(request_id=request, bid_id=bid, slots=slots, invocations=tasks) if any(
                task.secrets for task in tasks
            ):
                ids = [allocation_id(bid, slot) for slot in slots]
                sent = (self._sent(task, request, id_, provider) for id_, task in zip(ids, tasks, strict=True))
                return msgspec.structs.replace(message, invocations=tuple(sent))
            case Invocation(request_id=request, allocation_id=id_, task=task) if task.secrets:
                return msgspec.structs.replace(message, task=self._sent(task, request, id_, provider))
        return message

    def open(self, task: Task, requester: PeerId, allocation: AllocationId) -> tuple[OpenSecret, ...]:
        """The values of a task that was sent to this node.

        Raises:
            UserError: `bad_job`: one was sealed to another node, for another allocation or by another requester; or no variable can have its value.
        """
        opened = tuple(
            OpenSecret(each.name, self._open(each, sent_binding(requester, allocation, each.name)), each.variable)
            for each in task.secrets
        )
        for each in opened:
            check_value(each)
        return opened

    def _sent(self, task: Task, request: RequestId, allocation: AllocationId, provider: PeerId) -> Task:
        try:
            secrets = tuple(self._readdressed(each, request, allocation, provider) for each in task.secrets)
        except UserError as error:  # the provider, who cannot open it either, ends the allocation with the reason
            _logger.error("job %s: %s", request, error.message)
            return task
        return msgspec.structs.replace(task, secrets=secrets)

    def _readdressed(self, secret: Secret, request: RequestId, allocation: AllocationId, provider: PeerId) -> Secret:
        value = self._open(secret, kept_binding(request, secret.name))
        bound = sent_binding(self._me, allocation, secret.name) + value
        return msgspec.structs.replace(secret, sealed=_seal(bound, _key_of(provider)))

    def _open(self, secret: Secret, binding: bytes) -> bytes:
        try:
            opened = bindings.crypto_box_seal_open(secret.sealed, self._public_key, self._secret_key)
        except exceptions.CryptoError:
            opened = b""
        if not opened.startswith(binding):
            raise UserError("bad_job", f"the secret {secret.name} was not sealed for this node and this allocation")
        return opened[BINDING_BYTES:]


def check_value(secret: OpenSecret) -> None:
    """Refuses a value that cannot be delivered; what a stranger sealed may be anything.

    Raises:
        UserError: `bad_job`.
    """
    if secret.variable and not is_variable(secret.value):
        raise UserError("bad_job", f"the secret {secret.name} is no text, so it cannot be an environment variable")


def _key_of(peer: PeerId) -> bytes:
    return bindings.crypto_sign_ed25519_pk_to_curve25519(public_key_of(peer))


def _seal(data: bytes, key: bytes) -> bytes:
    return bindings.crypto_box_seal(data, key)
