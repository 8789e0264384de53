"""Errors: one root, a small tree, and a table of stable codes.

::

    DmsError
    ├── UserError       what was asked for is wrong; repeating it unchanged will not help
    ├── PeerError       another node broke the protocol or its promise
    ├── MachineError    this machine lacks something: disk, port, sandbox, permission
    └── InternalError   a defect of dms itself

Expected outcomes (no bids, a capability lock that expired) are values, not exceptions. Whose doing it was is in the class; what it was
is in `code`, which never changes its meaning; what to do about it is in `hint`. docs/reference/errors.md is generated from `CODES`.
"""

from __future__ import annotations

from typing import ClassVar, Final, Self

CODES: Final[dict[str, str]] = {
    # user
    "bad_job": "The job document breaks a rule; the message names the field, the line and the rule. Nothing was sent.",
    "bad_argument": "A command or method was given a value it cannot take.",
    "bad_config": "The configuration file or a setting breaks a rule.",
    "bad_expression": "A constraint or preference is not a valid expression; the message shows where.",
    "bad_invite": "The join string is damaged or not a join string.",
    "other_market": "The invitation is to another market than the one this node is in; the message says what keeps the node where it is.",
    "bad_grant": "The grant is damaged, does not verify, or is no grant.",
    "not_found": "Nothing has that id or name here.",
    "ambiguous_id": "More than one thing begins with that short id.",
    "not_resizable": "What runs cannot be given another size now. The message says why.",
    "resize_refused": "The allocation keeps its size: this node, its preferences or the provider say why.",
    "not_running": "The job does not run now: it has not begun, or is over. The message says which.",
    "call_refused": "The pool of warm containers took no call; the message says why, and what would help. The call was not begun.",
    "tab_wanted": "Calls of the service are paid, and no price is agreed for them, or not any more. `dms service call` agrees on one by itself.",
    "not_listening": "Nothing in the job listens on that port, or not yet.",
    "not_onboarded": "This home holds no node yet.",
    "already_onboarded": "This home already holds a node.",
    "key_locked": "The node's key is protected by a passphrase; none was found, or the one found does not open it.",
    "bad_identity": "Names, successions or an exported identity do not follow from the keys they name; the message says which.",
    "node_not_running": "No node answers on this home's socket.",
    "impossible_request": "No known node could ever serve this request as written; the verdicts say what to change.",
    "method_not_found": "The JSON-RPC method does not exist.",
    "unauthorised": "The caller showed no valid token.",
    "reading_token": "The caller's token only looks, and the method changes something, speaks to other nodes, or hands out a right.",
    # peer
    "bad_frame": "A peer sent bytes that are not a message; the refusal code says which rule they broke.",
    "peer_unreachable": "The peer could not be reached on any known address.",
    "not_granted": "The other node did not grant what was asked; the message names the right that is missing, the hint who could give it.",
    "peer_timeout": "The peer did not answer in time.",
    "resize_unanswered": "The provider has not said yet whether the allocation gets another size. It is asked again, so it may yet happen.",
    "digest_mismatch": "Received content does not have the digest it was announced with.",
    "incompatible_version": "The peer speaks a protocol version this node does not.",
    # machine
    "home_in_use": "Another running node owns this home directory.",
    "port_in_use": "The port to listen on is taken by another program.",
    "disk_full": "The disk has no room; nothing was promised and nothing is half done.",
    "store_newer": "The event store was written by a newer dms; it was not touched.",
    "store_corrupt": "The event store is damaged; the file was kept as it is.",
    "store_failed": "The event store could not be read or written.",
    "executor_unavailable": "The executor cannot run on this machine; the reason is in the message.",
    "sandbox_failed": "The sandbox could not be set up for this job.",
    "network_down": "The network process is not running; it is being restarted.",
    "unsafe_bind": "A non-loopback address without TLS and token was refused.",
    "clock_skew": "This machine's clock is too far from its peers' clocks.",
    # internal
    "mailbox_full": "An actor's mailbox is full; the message was refused and counted.",
    "illegal_transition": "A machine was asked for a transition its table does not list.",
    "internal": "A defect of dms; the log has the details.",
}


class DmsError(Exception):
    """Something went wrong, said so that a person can act on it.

    Attributes:
        code: stable identifier, a key of `CODES`.
        message: what happened, with the thing, the value and the rule.
        hint: the next step, or empty.
        retryable: whether the same call may succeed later without a change.
    """

    retryable_by_default: ClassVar[bool] = False

    def __init__(self, code: str, message: str, *, hint: str = "", retryable: bool | None = None) -> None:
        assert code in CODES, f"unlisted error code {code!r}"
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.retryable = self.retryable_by_default if retryable is None else retryable

    def again(self) -> Self:
        """The same error for somebody else who waits: raised in several places, one exception mixes up their tracebacks."""
        return type(self)(self.code, self.message, hint=self.hint, retryable=self.retryable)

    def __str__(self) -> str:
        return f"{self.message} [{self.code}]" + (f"; {self.hint}" if self.hint else "")


class UserError(DmsError):
    """The request is wrong; repeating it unchanged will not help."""


class PeerError(DmsError):
    """Another node broke the protocol or its promise, or could not be reached."""

    retryable_by_default = True


class MachineError(DmsError):
    """This machine lacks something it needs."""


class InternalError(DmsError):
    """A defect of dms."""
