"""Cutting a byte stream into varint-prefixed bodies, many at a time. Pure."""

from __future__ import annotations

from typing import Final

from dms_proto.units import format_count

MAX_VARINT: Final = 5
"""Bytes of the longest length accepted (35 bits); longer ones are malformed."""


class VarintSplitter:
    """Like `dms.net.pipe.Splitter`, for unsigned varint lengths (multiformats specification)."""

    __slots__ = ("_buffer", "_max_body")

    def __init__(self, max_body: int) -> None:
        self._buffer = bytearray()
        self._max_body = max_body

    def feed(self, data: bytes) -> list[bytes]:
        """Takes bytes, gives the bodies that became complete, in order.

        Raises:
            ValueError: a length that is too long or malformed. The stream cannot be read further.
        """
        buffer = self._buffer
        buffer += data
        bodies: list[bytes] = []
        position = 0
        while (head := self._length(position)) is not None:
            length, start = head
            if length > self._max_body:
                raise ValueError(
                    f"a body of {format_count(length, 'byte')} is announced, {self._max_body} is the longest accepted"
                )
            if len(buffer) - start < length:
                break
            bodies.append(bytes(buffer[start : start + length]))
            position = start + length
        del buffer[:position]
        return bodies

    def _length(self, position: int) -> tuple[int, int] | None:
        """The length that begins at `position` and where its body begins, or None if it is not complete."""
        value = 0
        for index in range(MAX_VARINT):
            if position + index >= len(self._buffer):
                return None
            byte = self._buffer[position + index]
            value |= (byte & 0x7F) << (7 * index)
            if byte < 0x80:
                return value, position + index + 1
        raise ValueError(f"a length of more than {MAX_VARINT} bytes")
