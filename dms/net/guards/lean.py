"""Importing only the part of libp2p that is used.

Stock fault: ``import libp2p`` loads QUIC, WebSocket, WebRTC, relay, DHT, TLS certificates, metrics servers and four cryptography
libraries: 90 MB of memory and 1-2.5 s, of which TCP + Noise + yamux + GossipSub need less than half.

Remedy: before the first import, packages whose ``__init__`` drags everything in are entered as bare packages (their submodules still
load normally), and modules that nothing here calls are replaced by placeholders. A placeholder can be imported from, constructed,
subclassed and named in ``except``; calling any method of it raises `UnavailableError`. The lists name private structure of one release, so
another version is refused.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Final

LIBP2P_VERSION: Final = "0.8.1"

_BARE: Final = ("libp2p", "libp2p.transport", "libp2p.rcmgr", "libp2p.tools.anyio_service")
"""Packages entered without running their ``__init__``."""

_ABSENT: Final = (
    "libp2p.crypto.rsa",  # node ids are Ed25519 only, so no other key type is ever accepted
    "libp2p.crypto.secp256k1",
    "libp2p.metrics",
    "libp2p.rcmgr.manager",
    "libp2p.security.insecure",
    "libp2p.security.pnet",
    "libp2p.security.secio",
    "libp2p.security.tls",
    "libp2p.transport.quic",
    "libp2p.tools.anyio_service.manager",
    "libp2p.utils.dns_utils",  # names are resolved by our own dialer
    "multiaddr.resolvers",
    "psutil",  # multiaddr lists interfaces with it; announced addresses are explicit here
)
"""Modules (with everything below them) that are replaced by placeholders."""


class UnavailableError(Exception):
    """A part of libp2p that this program leaves out was used."""


class _PlaceholderType(type):
    def __getattr__(cls, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)

        def unavailable(*_args: object, **_kwargs: object) -> object:
            raise UnavailableError(f"{cls.__name__}.{name} is left out of this program")

        return unavailable


class _PlaceholderError(UnavailableError, metaclass=_PlaceholderType):
    """Stands for any class: an exception type, so that it can also be named in ``except``."""

    def __init__(self, *_args: object, **_kwargs: object) -> None:
        super().__init__(f"{type(self).__name__} is left out of this program")

    def __getattr__(self, name: str) -> object:
        return getattr(type(self), name)


class _PlaceholderModule(types.ModuleType):
    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        value = _PlaceholderType(name, (_PlaceholderError,), {})
        setattr(self, name, value)
        return value


class _AbsentFinder(MetaPathFinder, Loader):
    """Answers imports of `_ABSENT` with placeholder modules."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> ModuleSpec | None:
        absent = any(fullname == name or fullname.startswith(name + ".") for name in _ABSENT)
        return ModuleSpec(fullname, self, is_package=True) if absent else None

    def create_module(self, spec: ModuleSpec) -> types.ModuleType:
        module = _PlaceholderModule(spec.name)
        module.__path__ = []
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        """A placeholder has no code."""


def install() -> None:
    """Prepares ``sys.modules`` so that libp2p's submodules load without the rest. Call once, before any import of libp2p.

    Raises:
        ImportError: libp2p is already imported, or is not the version these lists were made for.
    """
    if "libp2p" in sys.modules:
        raise ImportError("libp2p was imported before it could be prepared")
    if version("libp2p") != LIBP2P_VERSION:
        raise ImportError(f"dms.net is made for libp2p {LIBP2P_VERSION}, this is {version('libp2p')}")
    spec = find_spec("libp2p")
    assert spec is not None
    assert spec.submodule_search_locations
    root = Path(spec.submodule_search_locations[0])
    for name in _BARE:
        module = types.ModuleType(name)
        module.__path__ = [str(root.joinpath(*name.split(".")[1:]))]
        module.__file__ = str(root.joinpath(*name.split(".")[1:], "__init__.py"))
        sys.modules[name] = module
    sys.meta_path.insert(0, _AbsentFinder())
    _fill_bare_packages()


def _fill_bare_packages() -> None:
    """Gives the bare packages the few names that other modules take from them."""
    from libp2p.rcmgr.metrics import Direction  # noqa: PLC0415 - only possible once the packages are in place
    from libp2p.tools.anyio_service import api, trio_manager  # noqa: PLC0415
    from libp2p.tools.anyio_service.exceptions import LifecycleError  # noqa: PLC0415

    sys.modules["libp2p.rcmgr"].Direction = Direction  # type: ignore[attr-defined]
    service = sys.modules["libp2p.tools.anyio_service"]
    service.Service = api.Service  # type: ignore[attr-defined]
    service.TrioManager = trio_manager.TrioManager  # type: ignore[attr-defined]
    service.LifecycleError = LifecycleError  # type: ignore[attr-defined]
