"""Making the file: events of one job or tab, as they are stored, sealed by the node whose log they are from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from dms.audit.lines import FORM, Header, Party, written
from dms.audit.proofs import frame_in
from dms.store.chain import Link
from dms_proto.errors import UserError
from dms_proto.ids import PeerId, RequestId, TabId, public_key_of
from dms_proto.units import MIB, format_bytes
from dms_proto.wire import RefusedFrame, Signer, read_frame

MAX_BYTES: Final = 32 * MIB
"""Of a file: it is made in memory and handed over in one answer."""


def export(job: RequestId | TabId, links: Sequence[Link], signer: Signer, now: int) -> bytes:
    """The file about `job`.

    Args:
        job: its request id; or the name of a tab.
        links: its events, in order of seq, with the hash before each.
        signer: this node.
        now: Unix ms.

    Raises:
        UserError: `bad_argument`: it would be larger than `MAX_BYTES`.
    """
    signers = {signer.peer_id: signer.public_key} | dict(_signers(links))
    parties = tuple(Party(peer, key) for peer, key in sorted(signers.items()))
    data = written(Header(1, FORM, RequestId(job), signer.peer_id, now, parties), links, signer)
    if len(data) > MAX_BYTES:
        size, most = format_bytes(len(data)), format_bytes(MAX_BYTES)
        raise UserError("bad_argument", f"the events of {job} take {size}; a file has at most {most}")
    return data


def _signers(links: Iterable[Link]) -> Iterable[tuple[PeerId, bytes]]:
    for link in links:
        if (framed := frame_in(link.row)) is not None:
            opened = read_frame(framed.frame)
            if not isinstance(opened, RefusedFrame):
                yield opened.sender, public_key_of(opened.sender)
