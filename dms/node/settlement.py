"""Settling an account: a port with two implementations.

===============  ==================================================================================
`LocalCredit`    squares it in this node's own book: for machines of one owner, who tells each node
`SignedIou`      signs what this node owes and gives it to the creditor, who can show it to anybody
===============  ==================================================================================

Either way the accounts' machine decides: what it is told is what the book says now, and refused if that has changed.
"""

from __future__ import annotations

from typing import Protocol

from dms_proto.accounts.book import Accounts
from dms_proto.accounts.iou import signed
from dms_proto.accounts.machine import IouSigned, PaymentNoted, next_iou
from dms_proto.ids import PeerId
from dms_proto.machine import Stimulus
from dms_proto.wire import Signer


class Settlement(Protocol):
    """A way of settling."""

    def settle(self, accounts: Accounts, peer: PeerId) -> Stimulus:
        """What the accounts are to be told so that nothing this node owes `peer` is open any more."""
        ...


class LocalCredit:
    """Settles in this node's own book. `about` names the settlement: the same name twice settles once."""

    def __init__(self, about: str) -> None:
        self._about = about

    def settle(self, accounts: Accounts, peer: PeerId) -> Stimulus:
        """See `Settlement`. What the peer owes is squared as well."""
        return PaymentNoted(peer, accounts.of(peer).owed, self._about, "settled in this node's own book")


class SignedIou:
    """Settles by IOUs of the holder of `signer`."""

    def __init__(self, signer: Signer) -> None:
        self._signer = signer

    def settle(self, accounts: Accounts, peer: PeerId) -> Stimulus:
        """See `Settlement`."""
        number, amount = next_iou(accounts, peer)
        return IouSigned(signed(self._signer, peer, number, amount))
