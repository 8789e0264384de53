"""A kind of task: the most frequent words of texts, by nothing but what every Linux machine has."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from dms.kinds import Fields, Kind

PROGRAM = 'cat -- "$@" | tr -cs "[:alpha:]" "\\n" | sort | uniq -c | sort -rn | head -n "$MOST"'


class Parameters(msgspec.Struct, frozen=True):
    """What a person gives."""

    texts: Annotated[tuple[str, ...], Meta(description="Text files, which are sent along.", min_length=1)]
    most: Annotated[int, Meta(description="How many words are listed.", ge=1, le=1000)] = 10


def job(given: Parameters) -> Fields:
    """The job that does it: fields of a job document."""
    return {
        "command": ["sh", "-c", PROGRAM, "word-count", *given.texts],
        "inputs": given.texts,
        "env": {"MOST": str(given.most)},
        "resources": {"memory": "64MiB"},
    }


KIND = Kind("The most frequent words of texts.", Parameters, job)
