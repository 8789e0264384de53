"""The local interfaces of a running node: `LocalApi` answers every method of `dms.rpc.api.NodeApi`, one file per group."""

from __future__ import annotations

from dms.node.api.local import LocalApi

__all__ = ["LocalApi"]
