"""Bounds on what arrives from strangers, as types: msgspec checks them whenever bytes become a message.

They cost nothing when a value is built in code: there the type checker and the machines keep the rules, and `to_row` looks once more before
anything is written down. A value that crossed the wire has been
checked against all of them, so an id may name a file and an amount may enter the ledger without a second look.
"""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta, Struct
from msgspec.structs import force_setattr

from dms_proto.ids import AllocationId, BidId, Digest, GrantId, PeerId, RequestId, TabId
from dms_proto.units import GPU, MAX_QUANTITY

MAX_COUNT: Final = 10_000
"""Most allocations of one request."""
MAX_STANDING: Final = 256
"""Requests that stand at one provider at once."""
_SPELLED: Final = "[a-z2-7]{25}[aeimquy4]"
"""16 bytes as base32: the last character carries three bits, so only eight of them can stand there."""

# An end is written \Z, never $: a dollar also matches before a trailing newline.
GoodRequestId = Annotated[RequestId, Meta(pattern=rf"^r-{_SPELLED}\Z")]
GoodBidId = Annotated[BidId, Meta(pattern=rf"^b-{_SPELLED}\Z")]
BidIdOrNone = Annotated[BidId, Meta(pattern=rf"^(b-{_SPELLED})?\Z")]
"""A bid id, or empty where a message may speak of no bid in particular."""
GoodAllocationId = Annotated[AllocationId, Meta(pattern=rf"^a-{_SPELLED}\Z")]
AllocationIdOrNone = Annotated[AllocationId, Meta(pattern=rf"^(a-{_SPELLED})?\Z")]
"""An allocation id, or empty where what is asked for is in none."""
GoodTabId = Annotated[TabId, Meta(pattern=rf"^t-{_SPELLED}\Z")]
TabIdOrNone = Annotated[TabId, Meta(pattern=rf"^(t-{_SPELLED})?\Z")]
"""A tab id, or empty where calls are free."""
GoodGrantId = Annotated[GrantId, Meta(pattern=rf"^g-{_SPELLED}\Z")]
GoodPeerId = Annotated[PeerId, Meta(pattern=r"^12D3KooW[1-9A-HJ-NP-Za-km-z]{44}\Z")]
Uuid = Annotated[str, Meta(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")]
GoodDigest = Annotated[Digest, Meta(pattern=r"^sha256:[0-9a-f]{64}\Z")]
DigestOrNone = Annotated[Digest, Meta(pattern=r"^(sha256:[0-9a-f]{64})?\Z")]
"""A digest, or empty where there may be nothing to name."""
MAX_PATH: Final = 1024
RelativePath = Annotated[
    str, Meta(pattern=r"^(?!/)(?!(?:[^/]*/)*\.\.?(?:/|\Z))[^\0/]+(?:/[^\0/]+)*\Z", min_length=1, max_length=MAX_PATH)
]
"""A path below a directory: no leading, doubled or trailing slash, no "." or ".." part, no NUL."""
PathOrNone = Annotated[
    str, Meta(pattern=r"^(?!/)(?!(?:[^/]*/)*\.\.?(?:/|\Z))(?:[^\0/]+(?:/[^\0/]+)*)?\Z", max_length=MAX_PATH)
]
"""The same, or empty where there may be none."""

Amount = Annotated[int, Meta(ge=0, le=MAX_QUANTITY)]
"""A quantity in the unit its field names; see `units`."""
GpuShare = Annotated[int, Meta(ge=0, le=GPU)]
GpuPart = Annotated[int, Meta(ge=1, le=GPU)]
Count = Annotated[int, Meta(ge=1, le=MAX_COUNT)]
Slot = Annotated[int, Meta(ge=0, lt=MAX_COUNT)]
"""Index of one of the allocations a request wants."""
ExitCode = Annotated[int, Meta(ge=-1, le=2**32 - 1)]

Word = Annotated[str, Meta(max_length=128)]
"""A name: of a model, a library, a label, an executor."""
MAX_LINE: Final = 500
Line = Annotated[str, Meta(max_length=MAX_LINE)]
"""One line for a person. Whoever has one cuts it when it is made (`cut_lines`): it is often put together from what others have said."""
Argument = Annotated[str, Meta(pattern=r"^[^\0]*\Z", max_length=32_768)]
"""An argument or environment value of a program. A NUL could not be passed to it."""
VariableName = Annotated[str, Meta(pattern=r"^[^\0=]+\Z", max_length=256)]
IDENTIFIER: Final = "[A-Za-z_][A-Za-z0-9_]{0,127}"
SecretName = Annotated[str, Meta(pattern=rf"^{IDENTIFIER}\Z")]
"""Names an environment variable as well as a file."""
Port = Annotated[int, Meta(ge=1, le=65_535)]
"""A TCP port."""
Address = Annotated[str, Meta(max_length=256)]
"""A multiaddr."""


def cut_lines(said: Struct, *names: str) -> None:
    """For `__post_init__`: cuts fields that are a `Line` and longer than one may be."""
    for name in names:
        line = getattr(said, name)
        if len(line) > MAX_LINE:
            force_setattr(said, name, line[: MAX_LINE - 1] + "…")
