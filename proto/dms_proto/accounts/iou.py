"""IOUs: "I owe you so much", signed by the debtor and kept by the creditor.

An IOU states the whole of what its debtor owes, so the one with the greatest number replaces all before it, and one that is lost is made good
by the next. It can be verified by anybody, at any time and without either node: the names of both are their public keys.

The signature is Ed25519 over `DOMAIN` and the msgpack array [debtor, creditor, number, amount].
"""

from __future__ import annotations

from typing import Final

import msgspec

from dms_proto.ids import PeerId, public_key_of
from dms_proto.messages import Iou
from dms_proto.wire import Signer, encoding, verify

DOMAIN: Final = b"dms/iou/1\0"
"""Goes before the signed bytes, so that no other signature of a node can be taken for an IOU."""


def signed(signer: Signer, creditor: PeerId, number: int, amount: int) -> Iou:
    """An IOU of the holder of `signer`, over `amount` micro-credits."""
    iou = Iou(signer.peer_id, creditor, number, amount, b"")
    return msgspec.structs.replace(iou, signature=signer.sign(_statement(iou)))


def is_genuine(iou: Iou) -> bool:
    """Whether its debtor has signed exactly this. Needs nothing but the IOU."""
    try:
        key = public_key_of(iou.debtor)
    except ValueError:
        return False
    return verify(key, _statement(iou), iou.signature)


def _statement(iou: Iou) -> bytes:
    return DOMAIN + encoding.pack([iou.debtor, iou.creditor, iou.number, iou.amount])
