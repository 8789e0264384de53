"""The file: a header, the events, a seal; one JSON object per line, each in its one spelling.

A line begins with its number, so that a line that is gone, came twice or moved is named. The seal is the exporter's signature over everything before
it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import msgspec

from dms.audit.faults import Fault, FaultCode
from dms.store.chain import Link, Row
from dms_proto.ids import PUBLIC_KEY_BYTES, PeerId, RequestId, peer_id_of, public_key_of
from dms_proto.wire import Signer, verify

DOMAIN: Final = b"dms/audit/1\0"
"""Stands before what the seal signs: a signature made for a seal is one for nothing else."""
FORM: Final = 1
MAX_NAMED: Final = 100
"""Missing lines named one by one: a number that was changed may be any."""


class Party(msgspec.Struct, frozen=True):
    """A node that takes part, and the Ed25519 key it signs with."""

    peer: PeerId
    key: bytes


class Header(msgspec.Struct, frozen=True, tag="header", tag_field="is"):
    """The first line.

    Attributes:
        line: 1.
        form: of the file.
        job: whose events these are: a job, or a tab.
        exporter: whose log they are from; it has signed the seal.
        at: Unix ms of the export.
        parties: everybody who signed something in it.
    """

    line: int
    form: int
    job: RequestId
    exporter: PeerId
    at: int
    parties: tuple[Party, ...]


class Entry(msgspec.Struct, frozen=True, tag="event", tag_field="is"):
    """An event as it is stored, with the hash before it: a `dms.store.chain.Link` with a number."""

    line: int
    previous: bytes
    row: Row


class Seal(msgspec.Struct, frozen=True, tag="seal", tag_field="is"):
    """The last line: the exporter's signature over `DOMAIN` and the SHA-256 of all bytes before this line."""

    line: int
    signature: bytes


Part = Header | Entry | Seal
_DECODER: Final = msgspec.json.Decoder(Part, strict=True)


class Contents(NamedTuple):
    """What a file says.

    Attributes:
        header: None if it has none that can be read.
        entries: the events, in the order of the file.
    """

    header: Header | None
    entries: tuple[Entry, ...]


def written(header: Header, links: Sequence[Link], signer: Signer) -> bytes:
    """The file. `header.line` is 1, `header.exporter` the signer."""
    entries = (Entry(number, *link) for number, link in enumerate(links, 2))
    told = _line(header) + b"".join(_line(entry) for entry in entries)
    return told + _line(Seal(len(links) + 2, signer.sign(_sealed(told))))


def read(data: bytes) -> tuple[Contents, tuple[Fault, ...]]:
    """What the file says, as far as it can be read, and everything that is wrong with its lines. Never raises."""
    lines = data.split(b"\n")
    faults = [] if lines.pop() == b"" else [Fault(FaultCode.MALFORMED, len(lines) + 1, "the last line does not end")]
    parts: list[Part] = []
    for place, line in enumerate(lines, 1):
        part = _part(line)
        if part is None:
            faults.append(
                Fault(FaultCode.MALFORMED, place, f"line {place} is none of this form, or not in its one spelling")
            )
        else:
            parts.append(part)
    faults += _numbering(parts)
    header = next((part for part in parts if isinstance(part, Header)), None)
    faults += _heading(header)
    faults += _sealing(data, header, parts)
    return Contents(header, tuple(part for part in parts if isinstance(part, Entry))), tuple(faults)


def _line(part: Part) -> bytes:
    return msgspec.json.encode(part) + b"\n"


def _sealed(told: bytes) -> bytes:
    return DOMAIN + hashlib.sha256(told).digest()


def _part(line: bytes) -> Part | None:
    try:
        part = _DECODER.decode(line)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    return part if msgspec.json.encode(part) == line else None


def _numbering(parts: Iterable[Part]) -> list[Fault]:
    """Every number from 1 on, each once, in order."""
    faults: list[Fault] = []
    seen: set[int] = set()
    highest = 0
    for part in parts:
        number = part.line
        if number in seen:
            faults.append(Fault(FaultCode.REPEATED, number, f"line {number} is there twice"))
        elif number < highest:
            faults.append(Fault(FaultCode.REORDERED, number, f"line {number} stands behind line {highest}"))
        seen.add(number)
        highest = max(highest, number)
    gone = range(1, min(highest, len(seen) + MAX_NAMED + 1))
    missing = [number for number in gone if number not in seen]
    faults += [Fault(FaultCode.MISSING, number, f"line {number} is missing") for number in missing[:MAX_NAMED]]
    return faults


def _heading(header: Header | None) -> list[Fault]:
    if header is None:
        return [Fault(FaultCode.MISSING, 1, "the header, which says whose file this is, is missing")]
    faults = [
        Fault(FaultCode.WRONG_SIGNER, 1, f"the key given for {party.peer} is another node's")
        for party in header.parties
        if len(party.key) != PUBLIC_KEY_BYTES or peer_id_of(party.key) != party.peer
    ]
    if header.form != FORM:
        faults.append(Fault(FaultCode.MALFORMED, 1, f"the file has form {header.form}, this dms reads {FORM}"))
    if header.exporter not in {party.peer for party in header.parties}:
        faults.append(Fault(FaultCode.WRONG_SIGNER, 1, f"{header.exporter} exported it and is none of its parties"))
    return faults


def _sealing(data: bytes, header: Header | None, parts: Sequence[Part]) -> list[Fault]:
    last = parts[-1] if parts else None
    if not isinstance(last, Seal):
        return [Fault(FaultCode.UNSEALED, len(parts), "the last line is not the seal")]
    told = data[: data.rstrip(b"\n").rfind(b"\n") + 1]
    try:
        key = public_key_of(header.exporter) if header is not None else b""
    except ValueError:
        key = b""
    if verify(key, _sealed(told), last.signature):
        return []
    return [Fault(FaultCode.CHANGED, last.line, "the file is not what its exporter has sealed")]
