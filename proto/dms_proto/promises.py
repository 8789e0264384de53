"""Which events somebody relies on, by kind: the log keeps them, and the simulator forgets the others, by the same table."""

from __future__ import annotations

from typing import Final

PROMISES: Final = frozenset(
    {
        "RequestOpened",
        "AwardMade",
        "AttemptEnded",
        "ResultJudged",
        "BenchmarkChecked",
        "RequestEnded",
        "CancelRequested",
        "AllocationCancelRequested",
        "AllocationResized",
        "ReservationWidened",
        "ResizeRequested",
        "SizeChanged",
        "BidMade",
        "BidCommitted",
        "AllocationInvoked",
        "AllocationEnded",
        "CommandAdmitted",
        "CapabilityRegistered",
        "PolicyChanged",
        "PreferencesChanged",
        "PaymentBooked",
        "LimitSet",
        "DebtLimitSet",
        "IouKept",
        "DisputeSettled",
        "IouGiven",
        "AnchorAdded",
        "AnchorRemoved",
        "GrantRevoked",
        "ServiceInstalled",
        "ServiceOffered",
        "ServiceWithdrawn",
        "ServiceRemoved",
        "TabAgreed",
        "TabTaken",
        "SumStated",
        "SumSigned",
        "SumAnswered",
    }
)
"""Kinds on which somebody relies from the moment they are told: written durably *before* the effects are performed. The others are written
in the same order and at most one group commit later; if they are lost with the machine, the worst is that something is asked or told twice."""

WRITTEN_FIRST: Final = PROMISES | {
    "AllocationReady",
    "ContainerAdmitted",
    "VirtualOpened",
    "HitsCounted",
    "CallBegun",
    "CallBilled",
}
"""Kinds written before their effects are performed. Work is handed to the executor once: whoever finds this event after a restart looks for
the run instead of starting another. It need not survive the machine, which the run does not survive either. So with containers, whose names are
never given twice; and a call is counted before it is delivered, so that the death of the process costs no count."""
