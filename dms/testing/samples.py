"""One message of each kind with all defaults (`LEAST`) and one with none (`FULL`): what the golden vectors say, and input for fuzz and bench."""

from __future__ import annotations

from typing import Final

from dms_proto import ids
from dms_proto.accounts.iou import signed
from dms_proto.capability import Capability, ExecutorOffer, Gpu, Isolation, JobClass, Meter, Price, Resources
from dms_proto.egress import Egress
from dms_proto.grants.revocations import revoke
from dms_proto.images import Pull
from dms_proto.lineage import succeed
from dms_proto.messages import (
    AllocationMessage,
    AllocationStatus,
    AnyMessage,
    Award,
    Bid,
    BidRequest,
    Cancel,
    Clause,
    Closing,
    Commit,
    CommitAck,
    CommitRefusal,
    CommitRefused,
    DataMark,
    DatasetHeld,
    DatasetWanted,
    Decline,
    GrantGiven,
    GrantWanted,
    Hello,
    Holders,
    HoldersWanted,
    Invocation,
    InvocationAck,
    Iou,
    KnownPeer,
    Phase,
    Pricing,
    Probe,
    Receipt,
    Refusal,
    Release,
    Resize,
    Resized,
    Rival,
    SealedBid,
    Serve,
    TabSigned,
    TabStated,
    TabTerms,
    TabWanted,
)
from dms_proto.units import GIB, MIB, MINUTE
from dms_proto.wire import Signer
from dms_proto.work import DatasetInput, Ending, EndReason, Input, Limits, Output, Task, Usage

REQUESTER: Final = Signer(b"\x01" * 32)
PROVIDER: Final = Signer(b"\x02" * 32)
STRANGER: Final = Signer(b"\x03" * 32)
NOW: Final = 1_700_000_000_000
TOPIC: Final = "dms/requests/1"

_FIRST: Final = Signer(b"\x04" * 32)
"""The requester, before its key was replaced."""
_UUID: Final = ids.uuid_of(_FIRST.public_key)
REQUEST: Final = ids.request_id(b"a request's entropy")
BID: Final = ids.bid_id(REQUEST, PROVIDER.peer_id, 0)
ALLOCATION: Final = ids.allocation_id(BID, 0)
ALLOCATION_2: Final = ids.allocation_id(BID, 3)
TAB: Final = ids.tab_id(b"a tab, for calls that cost")
DIGEST: Final = ids.digest_of(b"content")
SEAL: Final = ids.digest_of(b"a seal")

_GPU: Final = Gpu(device="0", vendor="nvidia", model="H200", memory_bytes=8 * GIB, milli=500)
_FULL_RESOURCES: Final = Resources(2_000, 4 * GIB, 10 * GIB, (_GPU,))
_PRICE: Final = Price(start=100, cpu_core_hour=20_000, memory_gib_hour=1_000, disk_gib_hour=10, gpu_hour=900_000)
_OFFER: Final = ExecutorOffer(
    name="sandbox",
    version="0.11.0",
    isolation=Isolation.NAMESPACES,
    limits=("cpu", "memory", "processes", "wall"),
    meter=Meter.EXACT,
)
_CAPABILITY: Final = Capability(
    resources=_FULL_RESOURCES,
    architecture="x86_64",
    cpu_score=1_150,
    executors=(_OFFER,),
    libraries=("numpy==2.1.0", "torch"),
    labels={"zone": "b", "owner": "münchen"},
    country="DE",
    relayed=True,
    job_classes=(JobClass.BATCH, JobClass.INTERACTIVE),
    max_wall_ms=60 * MINUTE,
    price=_PRICE,
)
_ADDRESSES: Final = ("/ip4/192.0.2.1/tcp/4001", "/dns4/node.example/tcp/4001")
_MARK: Final = DataMark(bytes(range(16)), 5 * MIB)
_TERMS: Final = TabTerms(
    TAB,
    "command/echo",
    REQUESTER.peer_id,
    PROVIDER.peer_id,
    Resources(500, 64 * MIB, 16 * MIB),
    _PRICE,
    5_000_000,
    10 * MINUTE,
)
_USAGE: Final = Usage(wall_ms=1_500, cpu_us=1_200_000, memory_peak_bytes=64 * MIB, fuel=77, meter=Meter.EXACT)
_TASK: Final = Task(
    executor="wasm",
    command=("--verbose", "in.txt"),
    module="job.wasm",
    environment={"B": "2", "A": "1"},
    inputs=(Input("job.wasm", DIGEST, 7), Input("bin/tool", DIGEST, 7, executable=True)),
    outputs=("out/*.txt",),
    resources=Resources(1_000, 256 * MIB),
    limits=Limits(wall_ms=MINUTE, grace_ms=500, log_bytes=MIB, processes=16, fuel=10**9),
)

LEAST: Final[tuple[AnyMessage, ...]] = (
    BidRequest(REQUEST, 0, Capability(), 1, 1, 0, 0, 0),
    Bid(REQUEST, 0, 0, BID, Capability(), 1, Price(), 0, NOW, 0),
    SealedBid(REQUEST, 0, 0, BID, SEAL, 0, NOW, 0),
    Closing(REQUEST, 0, (SEAL,)),
    Decline(REQUEST, 0, (Clause("memory", "12 GiB", "8 GiB free of 16 GiB"),)),
    Commit(REQUEST, BID, (0,)),
    CommitAck(REQUEST, BID, (ALLOCATION,)),
    CommitRefused(REQUEST, BID, CommitRefusal.UNKNOWN_BID),
    Release(REQUEST),
    Invocation(REQUEST, ALLOCATION, Task("sandbox")),
    InvocationAck(REQUEST, ALLOCATION),
    AllocationStatus(REQUEST, ALLOCATION, 0, Phase.COMMITTED),
    AllocationMessage(REQUEST, ALLOCATION, "want:stdout", 0),
    Cancel(REQUEST, ALLOCATION),
    Resize(REQUEST, ALLOCATION, 1, Resources(), 0),
    Resized(REQUEST, ALLOCATION, 1, DIGEST),
    Receipt(REQUEST, ALLOCATION, EndReason.CANCELLED, Usage(), 0),
    Iou(REQUESTER.peer_id, PROVIDER.peer_id, 1, 0, b""),
    GrantWanted(b"g"),
    GrantGiven(b"g"),
    HoldersWanted(REQUEST, ALLOCATION),
    Holders(REQUEST, ALLOCATION),
    Serve(REQUEST, PROVIDER.peer_id, (_MARK,)),
    DatasetWanted(REQUEST, _MARK.mark),
    DatasetHeld(REQUEST, 0),
    TabWanted(TAB, "command/echo", 0),
    TabStated(TAB, 0, ids.Digest("")),
    TabSigned(TAB, 0, DIGEST, 0),
    Hello(1, "", NOW, "", "", (), Capability()),
    Probe(0),
    Refusal("rate"),
)
"""One of each kind, with every field that has a default left at it."""

FULL: Final[tuple[AnyMessage, ...]] = (
    BidRequest(
        REQUEST, 2, _CAPABILITY, 10_000, 5, 2**32, 5_000_000, 1_000, 60_000, 7, dry_run=True, reply_to=_ADDRESSES
    ),
    Bid(REQUEST, 2, 1, BID, _CAPABILITY, 4, _PRICE, 123_456, NOW + 5_000, 5_000),
    SealedBid(REQUEST, 2, 1, BID, SEAL, 5_000_000, NOW + 5_000, 5_000),
    Closing(REQUEST, 2, (SEAL, DIGEST)),
    Decline(
        REQUEST,
        2,
        (
            Clause("memory", "12 GiB", "8 GiB free of 16 GiB", "8 GiB", passing=True),
            Clause("price", "0.02 credits", "0.05 credits", "0.05 credits"),
        ),
    ),
    Commit(REQUEST, BID, (0, 3), (_TASK, Task("sandbox", ("true",))), DIGEST),
    CommitAck(REQUEST, BID, (ALLOCATION, ALLOCATION_2), 2_000, DIGEST),
    CommitRefused(REQUEST, BID, CommitRefusal.EXPIRED, "valid until 2 s ago"),
    Release(REQUEST, BID),
    Invocation(REQUEST, ALLOCATION, _TASK),
    InvocationAck(REQUEST, ALLOCATION, "the allocation was released"),
    AllocationStatus(
        REQUEST,
        ALLOCATION,
        9,
        Phase.ENDED,
        _USAGE,
        Ending(EndReason.OUT_OF_MEMORY, 137, "256 MiB allowed, 257 MiB wanted", _USAGE),
        (Output("out/a.txt", DIGEST, 7),),
        (70_000, 12),
        1_234,
    ),
    AllocationMessage(REQUEST, ALLOCATION, "stdout", 65_536, b"\x00\xffbytes, not text\n"),
    Cancel(REQUEST, ALLOCATION_2),
    Resize(REQUEST, ALLOCATION, 2, Resources(1_500, 2 * GIB, 0, (Gpu(memory_bytes=8 * GIB, milli=500),)), 9_000),
    Resized(REQUEST, ALLOCATION, 2, DIGEST, 61_000, (Clause("cpu", "4 cores", "2 cores", "2 cores", passing=True),)),
    Receipt(REQUEST, ALLOCATION, EndReason.COMPLETED, _USAGE, 1_234, DIGEST, (70_000, 12)),
    signed(REQUESTER, PROVIDER.peer_id, 3, 1_234_567),
    GrantWanted(PROVIDER.public_key + b"a grant in its sent form"),
    GrantGiven(PROVIDER.public_key + b"a grant in its sent form"),
    HoldersWanted(REQUEST, ALLOCATION_2),
    Holders(REQUEST, ALLOCATION, (KnownPeer(STRANGER.peer_id, _ADDRESSES), KnownPeer(PROVIDER.peer_id, ()))),
    Serve(REQUEST, STRANGER.peer_id, (_MARK, DataMark(bytes(16), 2**40))),
    DatasetWanted(REQUEST, bytes(16)),
    DatasetHeld(REQUEST, 70_000),
    TabWanted(TAB, "command/echo", 5_000_000),
    TabStated(TAB, 7, DIGEST, 12, 3_400, 56_000, is_over=True, offer=_TERMS, said="it was not used any more"),
    TabSigned(TAB, 7, DIGEST, 56_000),
    Hello(
        1,
        "dms 0.1.0",
        NOW,
        _UUID,
        "attic",
        _ADDRESSES,
        _CAPABILITY,
        (KnownPeer(STRANGER.peer_id, ("/ip4/192.0.2.3/tcp/4001",)),),
        accepts_work=False,
        successions=(succeed(_FIRST, REQUESTER, _UUID, NOW - 1_000),),
    ),
    Probe(2**53, reply=True, now=NOW),
    Refusal("expired", "00112233445566778899aabbccddeeff", "expired 31000 ms ago"),
)
"""One of each kind, with every field given that the first version had."""

_RIVAL: Final = Rival(STRANGER.peer_id, ids.bid_id(REQUEST, STRANGER.peer_id, 0), 200_000, 1_000, DIGEST, b"\x05" * 32)

SEALED: Final[tuple[AnyMessage, ...]] = (
    BidRequest(REQUEST, 0, Capability(), 1, 1, 0, 0, 0, pricing=Pricing.SECOND_PRICE),
    Bid(REQUEST, 2, 1, BID, Capability(), 1, Price(), 123_456, NOW + 5_000, 5_000, b"\x06" * 32),
    Commit(REQUEST, BID, (0,), terms=DIGEST, award=Award(199_999, _RIVAL)),
    CommitRefused(REQUEST, BID, CommitRefusal.PRICE_UNPROVEN, "rival_unlisted"),
)
"""Of the kinds that second prices added something to, one each."""

GUARDED: Final[tuple[AnyMessage, ...]] = (
    Hello(
        1,
        "",
        NOW,
        "",
        "",
        (),
        Capability(),
        anchors=(PROVIDER.peer_id, STRANGER.peer_id),
        revoked=(revoke(STRANGER, ids.grant_id(b"sample"), NOW + 1),),
    ),
    CommitRefused(REQUEST, BID, CommitRefusal.NOT_GRANTED, "the grant g-abc is revoked"),
)
"""Of the kinds that grants added something to, one each."""

DELEGATED: Final[tuple[AnyMessage, ...]] = (
    Hello(
        1,
        "",
        NOW,
        "",
        "",
        (),
        Capability(),
        revoked=(
            revoke(STRANGER, ids.grant_id(b"sample"), NOW + 1, PROVIDER.public_key + b"a grant in its sent form"),
        ),
    ),
)
"""Of the kind that tells what delegators have revoked, one."""

RENAMED: Final[tuple[AnyMessage, ...]] = (
    Hello(
        1,
        "",
        NOW,
        "",
        "",
        (),
        Capability(),
        revoked=(
            revoke(
                REQUESTER,
                ids.grant_id(b"sample"),
                NOW + 1,
                PROVIDER.public_key + b"a grant in its sent form",
                (succeed(_FIRST, REQUESTER, _UUID, NOW - 1_000),),
            ),
        ),
    ),
)
"""Of the kind that tells what delegators have revoked whose key was replaced, one."""

FROZEN: Final[tuple[AnyMessage, ...]] = (
    AllocationStatus(
        REQUEST,
        ALLOCATION,
        2,
        Phase.RUNNING,
        _USAGE,
        frozen="other programs use 1.5 cores",
        evict_after_ms=600_000,
    ),
    Receipt(REQUEST, ALLOCATION, EndReason.EVICTED, _USAGE, 0),
)
"""Of the kinds that tell how an allocation goes and went: one that stands still, and one that gave way for good."""

LOGGED: Final[tuple[AnyMessage, ...]] = (
    AllocationStatus(
        REQUEST,
        ALLOCATION,
        9,
        Phase.ENDED,
        _USAGE,
        Ending(EndReason.COMPLETED, 0, usage=_USAGE),
        log_bytes=(7, 0),
        price=1_234,
        log_digests=(DIGEST, ids.Digest("")),
    ),
    Receipt(
        REQUEST,
        ALLOCATION,
        EndReason.COMPLETED,
        _USAGE,
        1_234,
        log_bytes=(7, 0),
        log_digests=(DIGEST, ids.Digest("")),
    ),
)
"""Of the kinds that state what a run has written, one each."""

REACHABLE: Final[tuple[AnyMessage, ...]] = (
    Invocation(REQUEST, ALLOCATION, Task("sandbox", ("serve",), ports=(8080, 65_535))),
)
"""Of the kind that says what a task lets in to, one."""

_CONTAINED_TASK: Final = Task(
    executor="oci",
    command=("tool", "--verbose"),
    resources=Resources(1_000, 256 * MIB),
    image=f"ghcr.io/lab/tool@{DIGEST}",
    pull=Pull.ALWAYS,
)
CONTAINED: Final[tuple[AnyMessage, ...]] = (
    Commit(REQUEST, BID, (0,), (_CONTAINED_TASK,), DIGEST),
    Invocation(REQUEST, ALLOCATION, _CONTAINED_TASK),
)
"""Of the kinds that carry a task, one each with a container image."""

_CHUNKED_TASK: Final = Task("sandbox", ("train",), inputs=(Input("data.bin", DIGEST, 5 * MIB, chunks=SEAL),))
CHUNKED: Final[tuple[AnyMessage, ...]] = (
    Commit(REQUEST, BID, (0,), (_CHUNKED_TASK,), DIGEST),
    Invocation(REQUEST, ALLOCATION, _CHUNKED_TASK),
    AllocationStatus(
        REQUEST,
        ALLOCATION,
        3,
        Phase.ENDED,
        ending=Ending(EndReason.COMPLETED, 0),
        outputs=(Output("model.bin", DIGEST, 5 * MIB, SEAL),),
    ),
)
"""Of the kinds that name files, one each with one that is verified chunk by chunk."""

_LEADING_OUT_TASK: Final = Task("sandbox", ("fetch",), egress=Egress(("pypi.org:443", "*.pythonhosted.org:443"), GIB))
LEADING_OUT: Final[tuple[AnyMessage, ...]] = (
    BidRequest(REQUEST, 0, Capability(egress=_LEADING_OUT_TASK.egress), 1, 1, 0, 0, 0),
    Commit(REQUEST, BID, (0,), (_LEADING_OUT_TASK,), DIGEST),
    Invocation(REQUEST, ALLOCATION, _LEADING_OUT_TASK),
)
"""A request for a way out, and of the kinds that carry a task, one each that has it."""

_READING_TASK: Final = Task("sandbox", ("train",), datasets=(DatasetInput("in/photos", DIGEST, 300, 5 * MIB),))
READING: Final[tuple[AnyMessage, ...]] = (
    Commit(REQUEST, BID, (0,), (_READING_TASK,), DIGEST),
    Invocation(REQUEST, ALLOCATION, _READING_TASK),
)
"""Of the kinds that carry a task, one each with a dataset."""

_HALFWAY_TASK: Final = Task("sandbox", ("train",), checkpoint="state")
CHECKPOINTED: Final[tuple[AnyMessage, ...]] = (
    Commit(REQUEST, BID, (0,), (_HALFWAY_TASK,), DIGEST),
    Invocation(REQUEST, ALLOCATION, _HALFWAY_TASK),
    AllocationStatus(
        REQUEST,
        ALLOCATION,
        4,
        Phase.ENDED,
        ending=Ending(EndReason.CHECKPOINTED, 85, "it goes on from state"),
        outputs=(Output("state/done", DIGEST, 1),),
    ),
    Receipt(REQUEST, ALLOCATION, EndReason.CHECKPOINTED, Usage(), 0, DIGEST),
)
"""Of the kinds that have to do with a checkpoint, one each."""

MARKED: Final[tuple[AnyMessage, ...]] = (
    BidRequest(REQUEST, 0, Capability(), 1, 1, 0, 0, 0, data=(_MARK,)),
    Bid(REQUEST, 0, 0, BID, Capability(), 1, Price(), 0, NOW, 0, held=3 * MIB),
)
"""Of the kinds that say what is read, and what is there, one each."""
