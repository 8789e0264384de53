"""Which nodes a small real market has, and how they differ. `dms devnet` and docker-compose.yml build the same one."""

from __future__ import annotations

from typing import Any, Final

import msgspec


class NodeSpec(msgspec.Struct, frozen=True):
    """One node.

    Attributes:
        name: of the node, its home's directory and its container.
        role: "bootstrap" is where the others join; "provider" runs work; "requester" only asks.
        settings: what its config.toml says beyond the defaults, by "section.field", written as in the file.
    """

    name: str
    role: str
    settings: dict[str, Any] = {}


def _provider(name: str, cpu: str, memory: str, price_per_core: float, room: str) -> NodeSpec:
    settings = {
        "provider.cpu": cpu,
        "provider.memory": memory,
        "provider.disk": "2GiB",
        "provider.price_cpu_core": price_per_core,
        "node.labels": {"room": room},
    }
    return NodeSpec(name, "provider", settings)


TOPOLOGY: Final = (
    NodeSpec("bootstrap", "bootstrap", {"provider.enabled": False}),
    _provider("provider-1", "1", "512MiB", 0.01, "attic"),
    _provider("provider-2", "1", "1GiB", 0.02, "cellar"),
    _provider("provider-3", "0.5", "512MiB", 0.005, "attic"),
    NodeSpec("requester", "requester", {"provider.enabled": False}),
)
"""Three providers of different size and price, one that only asks, one that only introduces them to each other."""


def providers(topology: tuple[NodeSpec, ...] = TOPOLOGY) -> tuple[NodeSpec, ...]:
    """The nodes that run work."""
    return tuple(spec for spec in topology if spec.role == "provider")
