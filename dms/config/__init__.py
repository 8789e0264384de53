"""Configuration: where a node keeps its files, what it was told to do, and who it is.

::

    paths      Home: the directory of one node and every file name below it
    settings   Config: the sections and fields, each with unit, default and consequence
    loading    config.toml and DMS_… variables -> Config, or a bad_config error naming file, line and field
    reference  the fields as data: for the reference page and the template file
    migrations older files, step by step, to the newest version
    identity   the Ed25519 key of the node and the names that follow from it
    key_file   how a private file is written; the key as PKCS#8
    passphrase where the passphrase of a protected key comes from
    export     the identity as one encrypted file

Importing this package imports none of them: the command line wants a socket path within milliseconds, not a schema or a crypto library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from dms.config.identity import Identity
    from dms.config.loading import load_config
    from dms.config.paths import Home, resolve_home
    from dms.config.settings import Config

__all__ = ["Config", "Home", "Identity", "load_config", "resolve_home"]

_WHERE: Final = {
    "Config": "dms.config.settings",
    "Home": "dms.config.paths",
    "Identity": "dms.config.identity",
    "load_config": "dms.config.loading",
    "resolve_home": "dms.config.paths",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_WHERE[name]), name)
