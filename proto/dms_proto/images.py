"""Names of container images. What is signed names an image by digest, so that what was agreed is what runs.

======================================  ====================================================================
`ghcr.io/lab/tool@sha256:…`             in a registry, by the digest of its manifest
`sha256:…`                              at the provider already, by its id: the digest of its configuration
`ghcr.io/lab/tool:1.4`                  by tag: it may mean something else tomorrow, and is never sent
======================================  ====================================================================
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Final

from msgspec import Meta

from dms_proto.units import MINUTE

PULL_MS: Final = 10 * MINUTE
"""How long a provider may take to bring an image; it is no part of a run's wall time."""
MAX_IMAGE: Final = 512
DEFAULT_REGISTRY: Final = "docker.io"
"""Where a name leads that names no registry."""
_DIGEST: Final = r"sha256:[0-9a-f]{64}"
_PART: Final = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
_NAME: Final = rf"(?:[A-Za-z0-9][A-Za-z0-9.-]*(?::[0-9]{{1,5}})?/)?{_PART}(?:/{_PART})*"
_TAG: Final = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_ANY: Final = re.compile(rf"(?:{_DIGEST}|(?P<name>{_NAME})(?P<tag>:{_TAG})?(?P<digest>@{_DIGEST})?)", re.ASCII)
"""The digest comes first: it could be read as a name with a tag, too."""

PinnedImage = Annotated[str, Meta(pattern=rf"^((?:{_NAME}@)?{_DIGEST})?\Z", max_length=MAX_IMAGE)]
"""An image by digest, or empty where a task has none."""
AnyImage = Annotated[str, Meta(max_length=MAX_IMAGE)]
"""As a person writes it, by tag too, or empty."""


class Pull(StrEnum):
    """When a provider fetches an image from its registry."""

    ALWAYS = "always"
    IF_NOT_PRESENT = "if-not-present"
    NEVER = "never"


def is_image(text: str) -> bool:
    """Whether it could name an image at all."""
    return len(text) <= MAX_IMAGE and _ANY.fullmatch(text) is not None


def pinned(text: str) -> str:
    """The image without its tag, if it has a digest; empty if it has none.

    Args:
        text: for which `is_image` holds.
    """
    found = _ANY.fullmatch(text)
    if found is None or (found["name"] and not found["digest"]):
        return ""
    return f"{found['name']}{found['digest']}" if found["name"] else text


def name_of(text: str) -> str:
    """The image's name without tag and digest; empty for one named by its id."""
    found = _ANY.fullmatch(text)
    return (found["name"] or "") if found else ""


def registry_of(text: str) -> str:
    """The registry an image comes from; empty for one named by its id."""
    name = name_of(text)
    first, slash, _ = name.partition("/")
    if not name:
        return ""
    return first if slash and ("." in first or ":" in first or first == "localhost") else DEFAULT_REGISTRY
