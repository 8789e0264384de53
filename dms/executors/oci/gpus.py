"""GPUs in containers, by the names of the Container Device Interface: files on this machine say what each device is, and engines read them.

The files are written by the vendor's tool (`nvidia-ctk cdi generate`). A device that no file names cannot be shown to a container here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from dms_proto.capability import Gpu

KINDS: Final = {"nvidia": "nvidia.com/gpu", "amd": "amd.com/gpu", "intel": "intel.com/gpu"}
MAX_BYTES: Final = 4 << 20


def names_of(gpus: Sequence[Gpu], places: Sequence[Path]) -> tuple[tuple[str, ...], str]:
    """The CDI names of devices, and why one of them has none.

    Args:
        gpus: with the devices that were assigned.
        places: where the files lie.
    """
    if not gpus:
        return (), ""
    known, wanted = set(described(places)), tuple(f"{KINDS.get(gpu.vendor, '')}={gpu.device}" for gpu in gpus)
    for gpu, name in zip(gpus, wanted, strict=True):
        if name not in known:
            return (
                (),
                f"GPU {gpu.device} cannot be shown to a container: no CDI file in {', '.join(map(str, places))} names it",
            )
    return wanted, ""


def described(places: Sequence[Path]) -> Iterator[str]:
    """The names of all devices that files describe."""
    for place in places:
        for path in sorted(place.glob("*")) if place.is_dir() else ():
            if path.suffix in (".yaml", ".yml", ".json") and path.stat().st_size <= MAX_BYTES:
                yield from _names(path)


def _names(path: Path) -> Iterator[str]:
    try:
        found: Any = yaml.safe_load(path.read_bytes())  # JSON is YAML
        for device in found["devices"]:
            yield f"{found['kind']}={device['name']}"
    except (OSError, yaml.YAMLError, LookupError, TypeError):
        return
