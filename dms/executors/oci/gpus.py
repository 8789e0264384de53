"""GPUs in containers, by the Container Device Interface (CDI): files on this machine say what each device is and what a container needs for it.

The files are written by the vendor's tool (`nvidia-ctk cdi generate`). A device that no file names cannot be shown to a container here. An engine
that reads them is told the device's name. For one that is too old the node does what the file says: device nodes, variables and mounts; a file that
wants more, such as programs to be run (NVIDIA's does), needs a newer engine.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import yaml

from dms.hardware.gpu_types import FoundGpu
from dms_proto.errors import MachineError

KINDS: Final = {"nvidia": "nvidia.com/gpu", "amd": "amd.com/gpu", "intel": "intel.com/gpu"}
MAX_BYTES: Final = 4 << 20
_FILES: Final = (".yaml", ".yml", ".json")


class DeviceNode(msgspec.Struct, frozen=True, rename="camel"):
    """`path` in the container is `host_path` here, or the same path."""

    path: str
    host_path: str = ""
    permissions: str = "rwm"


class Mount(msgspec.Struct, frozen=True, rename="camel"):
    """`container_path` shows what is here at `host_path`; the node binds it read-only, whatever the options say."""

    host_path: str
    container_path: str


class Edits(msgspec.Struct, frozen=True, rename="camel"):
    """What a container needs for a device. `hooks`, `additional_gids`, `intel_rdt` and `net_devices` are for engines alone."""

    env: tuple[str, ...] = ()
    device_nodes: tuple[DeviceNode, ...] = ()
    mounts: tuple[Mount, ...] = ()
    hooks: tuple[Any, ...] = ()
    additional_gids: tuple[int, ...] = ()
    intel_rdt: dict[str, Any] = {}
    net_devices: tuple[Any, ...] = ()

    @property
    def for_engines_alone(self) -> bool:
        """Whether something stands there that the node cannot do itself."""
        return bool(self.hooks or self.additional_gids or self.intel_rdt or self.net_devices)


class Devices(msgspec.Struct, frozen=True):
    """How the engine is told of a job's devices: by their CDI names, or by what the files say of them."""

    names: tuple[str, ...] = ()
    nodes: tuple[DeviceNode, ...] = ()
    mounts: tuple[Mount, ...] = ()
    variables: dict[str, str] = {}


class _Device(msgspec.Struct, frozen=True, rename="camel"):
    name: str
    container_edits: Edits = Edits()


class _File(msgspec.Struct, frozen=True, rename="camel"):
    kind: str
    devices: tuple[_Device, ...] = ()
    container_edits: Edits = Edits()


class _Entry(NamedTuple):
    """A device as a file describes it: its own edits, and those for all devices of the file."""

    path: Path
    edits: tuple[Edits, Edits]


def devices_of(gpus: Sequence[FoundGpu], places: Sequence[Path], *, knows_cdi: bool) -> Devices:
    """What the engine is to be told. Invented devices need nothing.

    Args:
        gpus: those that were given.
        places: where the files lie.
        knows_cdi: whether the engine reads them itself.

    Raises:
        MachineError: `sandbox_failed`: a device has no file, or its file wants more than this engine can.
    """
    real = [gpu for gpu in gpus if not gpu.simulated]
    described = _described(places) if real else {}
    names = [_name(gpu, described, places) for gpu in real]
    return Devices(tuple(names)) if knows_cdi else _done_here([described[name] for name in names])


def _name(gpu: FoundGpu, described: dict[str, _Entry], places: Sequence[Path]) -> str:
    device = gpu.offer.device if gpu.offer is not None else ""
    kind = KINDS.get(gpu.vendor, "")
    # What lasts goes first: numbers count anew when a device is added.
    for name in (f"{kind}={word}" for word in (gpu.uuid, device) if word):
        if name in described:
            return name
    raise MachineError(
        "sandbox_failed",
        f"GPU {device or gpu.model} cannot be shown to a container: no CDI file in {', '.join(map(str, places))} names it",
        hint="for NVIDIA: nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml",
    )


def _done_here(entries: Sequence[_Entry]) -> Devices:
    for entry in entries:
        if any(part.for_engines_alone for part in entry.edits):
            raise MachineError(
                "sandbox_failed",
                f"GPUs cannot be shown to containers: {entry.path} wants more than this engine can do",
                hint="podman 5 and Docker 25 read such files themselves",
            )
    edits = [part for entry in entries for part in entry.edits]
    pairs = (pair.partition("=") for part in edits for pair in part.env)
    return Devices(
        nodes=tuple(dict.fromkeys(node for part in edits for node in part.device_nodes)),
        mounts=tuple(dict.fromkeys(mount for part in edits for mount in part.mounts)),
        variables={name: value for name, _, value in pairs},
    )


def _described(places: Sequence[Path]) -> dict[str, _Entry]:
    """The devices that files describe, by name. In a later place a name counts for more, as for the engines."""
    return {name: entry for place in places for path in _files(place) for name, entry in _read(path)}


def _files(place: Path) -> Iterator[Path]:
    for path in sorted(place.glob("*")) if place.is_dir() else ():
        if path.suffix in _FILES and path.stat().st_size <= MAX_BYTES:
            yield path


def _read(path: Path) -> Iterator[tuple[str, _Entry]]:
    try:
        found = msgspec.convert(yaml.safe_load(path.read_bytes()), _File)  # JSON is YAML
    except (OSError, yaml.YAMLError, msgspec.ValidationError):
        return
    for device in found.devices:
        yield f"{found.kind}={device.name}", _Entry(path, (found.container_edits, device.container_edits))
