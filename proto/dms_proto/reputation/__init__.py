"""What a requester thinks of a provider, from its own evidence only: nobody's word counts but what it has itself seen.

::

    AttemptEnded, ResultJudged, … ──▶ Evidence of one provider ──▶ Standing: a score and its summands
                                            ▲ less, the more other identities of its source have earned (`Record`)
"""

from __future__ import annotations

from dms_proto.reputation.evidence import HALF_LIFE_MS, NOTHING_KNOWN, POINTS, Evidence, Kind, noted
from dms_proto.reputation.record import SOURCE_POINTS, Record
from dms_proto.reputation.sources import source_of
from dms_proto.reputation.standing import FULL, NEWCOMER, Standing, Summand, standing

__all__ = [
    "FULL",
    "HALF_LIFE_MS",
    "NEWCOMER",
    "NOTHING_KNOWN",
    "POINTS",
    "SOURCE_POINTS",
    "Evidence",
    "Kind",
    "Record",
    "Standing",
    "Summand",
    "noted",
    "source_of",
    "standing",
]
