"""What a file proves."""

from __future__ import annotations

import msgspec

from dms.audit.faults import Fault
from dms_proto.capability import Price, Resources
from dms_proto.ids import AllocationId, BidId, Digest, PeerId, RequestId, TabId
from dms_proto.work import NO_LOGS, EndReason, Logs, Usage


class Run(msgspec.Struct, frozen=True):
    """One allocation, as both sides have signed it.

    Attributes:
        allocation_id: its id.
        slot: index of the job's count.
        reason: how it ended, as its provider states; None if no such statement is there.
        usage: likewise.
        claimed: micro-credits the provider states as owed.
        confirmed: micro-credits the requester's receipt confirms; None without a receipt.
        disputed: where receipt and statement differ, one line each; or where the provider claims more than was agreed.
        logs: what it has written, as its provider states.
    """

    allocation_id: AllocationId
    slot: int
    reason: EndReason | None = None
    usage: Usage = Usage()
    claimed: int = 0
    confirmed: int | None = None
    disputed: tuple[str, ...] = ()
    logs: Logs = NO_LOGS


class Agreed(msgspec.Struct, frozen=True):
    """One agreement.

    Attributes:
        bid_id: the bid that was taken.
        provider: who has promised to run it.
        requester: who has promised to pay.
        terms: digest of what both have signed.
        is_acknowledged: the provider has signed it too.
        price: micro-credits per allocation at most.
        because: how a second price came about; empty where the bid's own price is paid.
        limits: what each allocation may use, apart from GPUs.
        wall_ms: the longest run.
        valid_until: Unix ms by the provider's clock until which the bid was binding.
        runs: what became of each slot.
    """

    bid_id: BidId
    provider: PeerId
    requester: PeerId
    terms: Digest
    is_acknowledged: bool
    price: int
    limits: Resources
    wall_ms: int
    valid_until: int
    runs: tuple[Run, ...]
    because: str = ""


class TabSum(msgspec.Struct, frozen=True):
    """A sum of a tab: all that its calls had come to.

    Attributes:
        number: of the sum.
        calls, ran_ms: calls that ran to their end, and how long they were at work, as the provider states.
        claimed: micro-credits that it states as owed in all.
        confirmed: micro-credits in all that the caller owes; None: it has not answered.
    """

    number: int
    calls: int
    ran_ms: int
    claimed: int
    confirmed: int | None = None

    @property
    def stated(self) -> tuple[int, int, int]:
        """Price, calls and time, as the provider states."""
        return self.claimed, self.calls, self.ran_ms

    @property
    def is_disputed(self) -> bool:
        """Whether the caller owes less than was claimed."""
        return self.confirmed is not None and self.confirmed < self.claimed


class AgreedTab(msgspec.Struct, frozen=True):
    """A tab: the running account of one node's calls of a service at another.

    Attributes:
        tab_id: its name.
        provider: who is paid.
        caller: who pays.
        service: that is called.
        terms: digest of what both have signed.
        resources: what a container of the service holds.
        tariff: prices for that, while calls are at work.
        max_price: micro-credits in all at most.
        sums: in order; each holds those before it.
        over: why no more calls are made on it; empty: none was written down.
    """

    tab_id: TabId
    provider: PeerId
    caller: PeerId
    service: str
    terms: Digest
    resources: Resources
    tariff: Price
    max_price: int
    sums: tuple[TabSum, ...]
    over: str = ""

    @property
    def confirmed(self) -> int:
        """Micro-credits that are owed in all."""
        return next((each.confirmed for each in reversed(self.sums) if each.confirmed is not None), 0)


class Shown(msgspec.Struct, frozen=True):
    """A log that was shown with the file.

    Attributes:
        name: of the log's file, as it was given.
        bytes: how many it has.
        digest: of them; empty if there are none.
        of: the allocations whose provider states exactly this, each with the stream: `ALLOCATION stdout`. None: nobody has signed it.
    """

    name: str
    bytes: int
    digest: Digest
    of: tuple[str, ...]


class Report(msgspec.Struct, frozen=True):
    """What checking a file has shown.

    Attributes:
        sound: nothing is wrong with it.
        job: whose events these are, a job or a tab; empty if the file does not say.
        exporter: whose log they are from; likewise.
        exported_at: Unix ms.
        events: how many it holds.
        frames: how many signed frames in them prove something.
        agreements: what they prove.
        faults: everything wrong, in the order of the file.
        shown: the logs that were shown with it.
        compared_by: what said which results are the same answer, with its version, where bytes do not tell: the word of the exporter, nobody else's.
        tabs: the tab that the file is about, if it is about one.
    """

    sound: bool
    job: RequestId
    exporter: PeerId
    exported_at: int
    events: int
    frames: int
    agreements: tuple[Agreed, ...]
    faults: tuple[Fault, ...]
    shown: tuple[Shown, ...] = ()
    compared_by: tuple[str, ...] = ()
    tabs: tuple[AgreedTab, ...] = ()
