"""Prices: what the node's own history says about them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from dms.cli.blocks import Block, Line, Table
from dms.cli.views.words import clock
from dms.rpc.api.market import PriceSuggestion
from dms_proto.capability import Price
from dms_proto.market.price_history import PRESENT
from dms_proto.units import CREDIT, format_count, format_credits

_SETTINGS: Final = (
    ("price_start", "start"),
    ("price_cpu_core", "cpu_core_hour"),
    ("price_memory_gib", "memory_gib_hour"),
    ("price_disk_gib", "disk_gib_hour"),
    ("price_gpu", "gpu_hour"),
)
"""Settings of the section `provider`, and the part of the tariff that each sets."""


def suggestion(said: PriceSuggestion) -> Iterator[Block]:
    """The history in three lines, the tariffs side by side, and what to do."""
    history = said.history
    asked = history.won + history.lost + history.too_dear
    newest = " (the newest; there were more)" if said.is_cut else ""
    yield Line(f"{format_count(asked, 'request')} since {clock(said.since)} that this node could have done{newest}")
    yield Line(f"{history.won} won, {history.lost} lost to others, {history.too_dear} declined for the price alone")
    if history.too_dear:
        yield Line(f"those declined would have paid {format_credits(history.forgone)}, for one allocation each")
    if asked:
        yield Table(
            ("SETTING", "PRESENT", "1 OF 4 PAYS LESS", "HALF PAY", "1 OF 4 PAYS MORE", "SUGGESTED"),
            [
                (
                    f"provider.{setting}",
                    *(_amount(tariff, part) for tariff in _tariffs(said)),
                )
                for setting, part in _SETTINGS
            ],
        )
    yield Line(history.why, "good" if history.factor == PRESENT else "warn")
    if history.factor != PRESENT:
        yield Line("set them in config.toml, in the home that `dms status` shows, and start the node anew", "dim")


def _tariffs(said: PriceSuggestion) -> tuple[Price, ...]:
    return (said.present, *(said.present.scaled(factor) for factor in said.history.quartiles), said.suggested)


def _amount(tariff: Price, part: str) -> str:
    return f"{getattr(tariff, part) / CREDIT:.6f}".rstrip("0").rstrip(".")
