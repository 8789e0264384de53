"""How packages of Python are named where machines offer libraries and jobs ask for them."""

from __future__ import annotations

import re


def library_of(name: str, version: str = "") -> str:
    """A package, at any version or at one. `Scikit_Learn` and `scikit-learn` are one name."""
    normal = re.sub(r"[-_.]+", "-", name).lower()
    return f"{normal}=={version}" if version else normal


def library_wanted(requirement: str) -> str:
    """The library that "name" or "name==version" means."""
    name, _, version = requirement.partition("==")
    return library_of(name.strip(), version.strip())
