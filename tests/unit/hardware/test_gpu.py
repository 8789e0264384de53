"""Detection on trees of files shaped like the sysfs of real machines, and a scripted NVML that behaves like the driver's library."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dms.hardware.gpu import detect
from dms.hardware.gpu_nvml import normal_address
from dms_proto.units import GIB


class Tree:
    """A sysfs and a /dev made of real files."""

    def __init__(self, root: Path) -> None:
        self.sysfs, self.dev = root / "sys", root / "dev"
        (self.dev / "dri").mkdir(parents=True)

    def device(self, address: str, vendor: str, device: str, class_: str, driver: str = "", **files: str) -> Tree:
        path = self.sysfs / "bus/pci/devices" / address
        path.mkdir(parents=True)
        for name, text in {"vendor": vendor, "device": device, "class": class_, **files}.items():
            (path / name).write_text(text + "\n")
        if driver:
            (self.sysfs / "bus/pci/drivers" / driver).mkdir(parents=True, exist_ok=True)
            (path / "driver").symlink_to(self.sysfs / "bus/pci/drivers" / driver)
        return self

    def render(self, address: str, node: str) -> Tree:
        (self.sysfs / "bus/pci/devices" / address / "drm" / node).mkdir(parents=True)
        (self.sysfs / "bus/pci/devices" / address / "drm" / "card0").mkdir(parents=True)
        return self

    def nodes(self, *names: str) -> Tree:
        for name in names:
            (self.dev / name).touch()
        return self


class NVMLError(Exception):
    """As pynvml's."""


@dataclass
class Card:
    name: str
    bus: str
    memory: int
    minor: int
    prohibited: bool = False
    mig: list[tuple[str, str, int]] | None = None
    broken: bool = False


@dataclass
class ScriptedNvml:
    """The part of pynvml that is used, answering from a list of cards as the library does (bytes for text, errors as exceptions)."""

    cards: list[Card] = field(default_factory=list)
    init_error: str = ""
    open_count: int = 0
    NVMLError = NVMLError
    NVML_COMPUTEMODE_PROHIBITED = 2
    NVML_DEVICE_MIG_ENABLE = 1
    NVML_GPU_INSTANCE_PROFILE_COUNT = 6

    def nvmlInit(self) -> None:
        if self.init_error:
            raise NVMLError(self.init_error)
        self.open_count += 1

    def nvmlShutdown(self) -> None:
        self.open_count -= 1

    def nvmlSystemGetDriverVersion(self) -> bytes:
        return b"550.54.15"

    def nvmlDeviceGetCount(self) -> int:
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Card:
        return self.cards[index]

    def nvmlDeviceGetName(self, handle: Any) -> bytes:
        return (handle.name if isinstance(handle, Card) else handle[1]).encode()

    def nvmlDeviceGetPciInfo(self, card: Card) -> SimpleNamespace:
        return SimpleNamespace(busId=card.bus.encode())

    def nvmlDeviceGetMinorNumber(self, card: Card) -> int:
        if card.broken:
            raise NVMLError("GPU is lost")
        return card.minor

    def nvmlDeviceGetComputeMode(self, card: Card) -> int:
        return 2 if card.prohibited else 0

    def nvmlDeviceGetMigMode(self, card: Card) -> tuple[int, int]:
        if "GTX" in card.name:
            raise NVMLError("Not Supported")
        return (0, 0) if card.mig is None else (1, 1)

    def nvmlDeviceGetMaxMigDeviceCount(self, card: Card) -> int:
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, card: Card, index: int) -> tuple[str, str, int]:
        assert card.mig is not None
        if index % 2:  # gaps, as between instances of different sizes
            raise NVMLError("Not Found")
        if index // 2 >= len(card.mig):
            raise NVMLError("Not Found")
        return card.mig[index // 2]

    def nvmlDeviceGetMemoryInfo(self, handle: Any) -> SimpleNamespace:
        return SimpleNamespace(total=handle.memory if isinstance(handle, Card) else handle[2])

    def nvmlDeviceGetUUID(self, handle: Any) -> str:
        return f"GPU-{handle.bus}" if isinstance(handle, Card) else str(handle[0])

    def nvmlDeviceGetAttributes(self, handle: tuple[str, str, int]) -> SimpleNamespace:
        slices = re.search(r"(\d)g\.", handle[1])
        if slices is None:
            raise NVMLError("Not Supported")
        return SimpleNamespace(computeInstanceSliceCount=int(slices[1]))

    def nvmlDeviceGetGpuInstanceProfileInfo(self, card: Card, profile: int) -> SimpleNamespace:
        if profile == 5:
            raise NVMLError("Not Supported")
        return SimpleNamespace(sliceCount=(1, 2, 3, 4, 7)[profile])

    def nvmlDeviceGetGpuInstanceId(self, handle: tuple[str, str, int]) -> int:
        return int(handle[0][-1], 16) + 1  # "MIG-aa" is instance 11

    def nvmlDeviceGetComputeInstanceId(self, handle: tuple[str, str, int]) -> int:
        return 0


A100 = Card("NVIDIA A100-SXM4-40GB", "00000000:3B:00.0", 40 * GIB, 0)
GTX = Card("NVIDIA GeForce GTX 1080", "00000000:AF:00.0", 8 * GIB, 1)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def missing() -> Any:
    raise ImportError("No module named 'pynvml'")


def never() -> Any:
    raise AssertionError("NVML was asked for on a machine without an NVIDIA device")


def two_cards(tree: Tree) -> Tree:
    tree.device("0000:3b:00.0", "0x10de", "0x20b0", "0x030200", "nvidia")
    return tree.device("0000:af:00.0", "0x10de", "0x1b80", "0x030000", "nvidia")


def test_a_machine_without_gpu_offers_none_and_asks_no_library(tree: Tree) -> None:
    tree.device("0000:00:02.0", "0x1234", "0x1111", "0x030000").device("0000:00:03.0", "0x10de", "0x0fb0", "0x040300")
    found = detect(tree.sysfs, tree.dev, never)
    assert found.gpus == ()
    assert [(probe.name, probe.ok) for probe in found.probes] == [("pci", False)]


def test_without_sysfs_nothing_is_found_and_nothing_raises(tmp_path: Path) -> None:
    assert detect(tmp_path / "no", tmp_path / "no", never).offers == ()


def test_nvidia_cards_are_offered_whole_with_name_and_memory(tree: Tree) -> None:
    nvml = ScriptedNvml([A100, GTX])
    two_cards(tree).nodes("nvidiactl", "nvidia0", "nvidia1")
    found = detect(tree.sysfs, tree.dev, lambda: nvml)
    assert [(gpu.device, gpu.model, gpu.memory_bytes, gpu.milli) for gpu in found.offers] == [
        ("0", "NVIDIA A100-SXM4-40GB", 40 * GIB, 1000),
        ("1", "NVIDIA GeForce GTX 1080", 8 * GIB, 1000),
    ]
    assert [gpu.pci for gpu in found.gpus] == ["0000:3b:00.0", "0000:af:00.0"]
    assert nvml.open_count == 0


def test_without_driver_each_card_is_named_with_reason_and_remedy(tree: Tree) -> None:
    two_cards(tree)
    for loader in (missing, lambda: ScriptedNvml(init_error="NVML Shared Library Not Found")):
        found = detect(tree.sysfs, tree.dev, loader)
        assert found.offers == ()
        assert [gpu.pci for gpu in found.gpus] == ["0000:3b:00.0", "0000:af:00.0"]
        assert all("pynvml" in gpu.problem or "driver" in gpu.problem for gpu in found.gpus)
        assert all("install the NVIDIA driver" in gpu.hint for gpu in found.gpus)
        assert ("nvml", False) in [(probe.name, probe.ok) for probe in found.probes]


def test_a_card_whose_node_cannot_be_opened_is_not_offered(tree: Tree) -> None:
    two_cards(tree).nodes("nvidiactl", "nvidia0")
    found = detect(tree.sysfs, tree.dev, lambda: ScriptedNvml([A100, GTX]))
    assert [gpu.device for gpu in found.offers] == ["0"]
    assert "nvidia1 does not exist" in found.gpus[1].problem
    assert found.gpus[1].hint


def test_a_card_that_is_on_the_bus_but_not_in_this_container_is_named(tree: Tree) -> None:
    two_cards(tree).nodes("nvidiactl", "nvidia1")
    found = detect(tree.sysfs, tree.dev, lambda: ScriptedNvml([GTX]))
    assert [gpu.device for gpu in found.offers] == ["0"]
    assert [(gpu.pci, "container" in gpu.problem) for gpu in found.gpus if gpu.offer is None] == [
        ("0000:3b:00.0", True)
    ]


def test_a_card_the_bus_does_not_show_is_offered_when_it_can_be_opened(tree: Tree) -> None:
    tree.nodes("nvidiactl", "nvidia0")
    assert len(detect(tree.sysfs, tree.dev, lambda: ScriptedNvml([A100])).offers) == 1


def test_in_mig_mode_the_instances_are_offered_and_never_the_card(tree: Tree) -> None:
    split = Card(
        A100.name,
        A100.bus,
        A100.memory,
        0,
        mig=[("MIG-aa", "A100 MIG 3g.20gb", 20 * GIB), ("MIG-bb", "A100 MIG 1g.5gb", 5 * GIB)],
    )
    tree.device("0000:3b:00.0", "0x10de", "0x20b0", "0x030200", "nvidia").nodes("nvidiactl", "nvidia0")
    found = detect(tree.sysfs, tree.dev, lambda: ScriptedNvml([split]))
    assert [(gpu.device, gpu.memory_bytes) for gpu in found.offers] == [("MIG-aa", 20 * GIB), ("MIG-bb", 5 * GIB)]


@pytest.mark.parametrize(
    ("name", "memory", "part"),
    [
        ("A100 MIG 1g.5gb", 5 * GIB, 143),  # one of seven slices of compute, one of eight of memory
        ("A100 MIG 1g.10gb", 10 * GIB, 250),  # twice the memory
        ("A100 MIG 7g.40gb", 40 * GIB, 1000),
        ("A100", 10 * GIB, 250),  # a driver that tells of memory only
    ],
)
def test_an_instance_is_the_part_of_its_card_that_it_takes_most_of(
    tree: Tree, name: str, memory: int, part: int
) -> None:
    split = Card(A100.name, A100.bus, 40 * GIB, 0, mig=[("MIG-aa", name, memory)])
    tree.device("0000:3b:00.0", "0x10de", "0x20b0", "0x030200", "nvidia").nodes("nvidiactl", "nvidia0")
    (offered,) = detect(tree.sysfs, tree.dev, lambda: ScriptedNvml([split])).offers
    assert offered.part == part


def test_a_card_is_opened_by_its_own_node_and_those_of_the_driver(tree: Tree) -> None:
    two_cards(tree).nodes("nvidiactl", "nvidia0", "nvidia1")
    found = detect(tree.sysfs, tree.dev, lambda: ScriptedNvml([A100, GTX]))
    shared = ["nvidiactl", "nvidia-uvm", "nvidia-uvm-tools"]
    assert [gpu.uuid for gpu in found.gpus] == ["GPU-00000000:3B:00.0", "GPU-00000000:AF:00.0"]
    assert [gpu.nodes for gpu in found.gpus] == [
        tuple((f"{tree.dev}/{name}", f"/dev/{name}") for name in (*shared, own)) for own in ("nvidia0", "nvidia1")
    ]


def test_an_instance_is_opened_by_the_nodes_that_stand_for_its_rights(tree: Tree, tmp_path: Path) -> None:
    places = {"gi11/access": 101, "gi11/ci0/access": 102, "gi12/access": 111}
    for place, number in places.items():
        file = tmp_path / "proc/driver/nvidia/capabilities/gpu0/mig" / place
        file.parent.mkdir(parents=True)
        file.write_text(f"DeviceFileMinor: {number}\nDeviceFileMode: 292\nDeviceFileModify: 1\n")
    split = Card(A100.name, A100.bus, 1, 0, mig=[("MIG-aa", "A100 MIG 3g.20gb", 20 * GIB), ("MIG-bb", "A100", GIB)])
    tree.device("0000:3b:00.0", "0x10de", "0x20b0", "0x030200", "nvidia").nodes("nvidiactl", "nvidia0")
    found = detect(tree.sysfs, tree.dev, lambda: ScriptedNvml([split]), tmp_path / "proc")
    own = [[inside for _, inside in gpu.nodes][3:] for gpu in found.gpus]
    assert own == [
        ["/dev/nvidia0", "/dev/nvidia-caps/nvidia-cap101", "/dev/nvidia-caps/nvidia-cap102"],
        ["/dev/nvidia0", "/dev/nvidia-caps/nvidia-cap111"],
    ]
    assert [gpu.uuid for gpu in found.gpus] == ["MIG-aa", "MIG-bb"]


def test_mig_mode_without_instances_offers_nothing_and_says_what_to_do(tree: Tree) -> None:
    tree.nodes("nvidiactl", "nvidia0")
    found = detect(tree.sysfs, tree.dev, lambda: ScriptedNvml([Card(A100.name, A100.bus, 1, 0, mig=[])]))
    assert found.offers == ()
    assert "no instance" in found.gpus[0].problem
    assert "nvidia-smi mig" in found.gpus[0].hint


def test_a_card_set_aside_by_its_owner_is_not_offered(tree: Tree) -> None:
    tree.nodes("nvidiactl", "nvidia0")
    found = detect(tree.sysfs, tree.dev, lambda: ScriptedNvml([Card(A100.name, A100.bus, 1, 0, prohibited=True)]))
    assert found.offers == ()
    assert "Prohibited" in found.gpus[0].problem


def test_a_card_that_fell_off_the_bus_does_not_take_the_others_with_it(tree: Tree) -> None:
    nvml = ScriptedNvml([Card(A100.name, A100.bus, 1, 0, broken=True), GTX])
    tree.nodes("nvidiactl", "nvidia0", "nvidia1")
    found = detect(tree.sysfs, tree.dev, lambda: nvml)
    assert [gpu.device for gpu in found.offers] == ["1"]
    assert "GPU is lost" in found.gpus[0].problem
    assert nvml.open_count == 0


def amd(tree: Tree, driver: str = "amdgpu", memory: str = str(64 * GIB)) -> Tree:
    files = {"mem_info_vram_total": memory, "product_name": "AMD Instinct MI210"} if memory else {}
    return tree.device("0000:83:00.0", "0x1002", "0x740f", "0x038000", driver, **files)


def test_an_amd_card_is_offered_with_the_memory_its_driver_tells(tree: Tree) -> None:
    amd(tree).render("0000:83:00.0", "renderD128").nodes("kfd", "dri/renderD128")
    (offer,) = detect(tree.sysfs, tree.dev, never).offers
    assert (offer.device, offer.vendor, offer.model, offer.memory_bytes) == (
        "amd0",
        "amd",
        "AMD Instinct MI210",
        64 * GIB,
    )


def test_an_amd_card_is_opened_by_its_render_node_and_the_drivers(tree: Tree) -> None:
    amd(tree).render("0000:83:00.0", "renderD128").nodes("kfd", "dri/renderD128")
    (gpu,) = detect(tree.sysfs, tree.dev, never).gpus
    assert [inside for _, inside in gpu.nodes] == ["/dev/dri/renderD128", "/dev/kfd"]


@pytest.mark.parametrize(
    ("driver", "memory", "render", "nodes", "says"),
    [
        ("", "", False, (), "no driver"),
        ("radeon", "", True, ("kfd", "dri/renderD128"), "radeon does not tell its memory"),
        ("amdgpu", "1024", False, ("kfd",), "no render node"),
        ("amdgpu", "1024", True, ("kfd",), "renderD128 does not exist"),
        ("amdgpu", "1024", True, ("dri/renderD128",), "kfd does not exist"),
    ],
)
def test_an_amd_card_that_cannot_be_used_says_why(
    tree: Tree, driver: str, memory: str, render: bool, nodes: tuple[str, ...], says: str
) -> None:
    amd(tree, driver, memory).nodes(*nodes)
    if render:
        tree.render("0000:83:00.0", "renderD128")
    found = detect(tree.sysfs, tree.dev, never)
    assert found.offers == ()
    assert says in found.gpus[0].problem


def test_graphics_inside_a_processor_are_not_offered(tree: Tree) -> None:
    tree.device("0000:00:02.0", "0x8086", "0x9a49", "0x030000", "i915").render("0000:00:02.0", "renderD128")
    found = detect(tree.sysfs, tree.dev, never)
    assert found.offers == ()
    assert "shares the machine's memory" in found.gpus[0].problem


def test_a_discrete_intel_card_is_offered_with_the_memory_of_its_tile(tree: Tree) -> None:
    tree.device("0000:03:00.0", "0x8086", "0xe20b", "0x030000", "xe").render("0000:03:00.0", "renderD128")
    tile = tree.sysfs / "bus/pci/devices/0000:03:00.0/tile0"
    tile.mkdir()
    (tile / "physical_vram_size_bytes").write_text("0x300000000\n")
    (offer,) = detect(tree.sysfs, tree.nodes("dri/renderD128").dev, never).offers
    assert (offer.device, offer.memory_bytes) == ("intel0", 12 * GIB)


def test_every_device_has_a_name_of_its_own(tree: Tree) -> None:
    two_cards(amd(tree).render("0000:83:00.0", "renderD128"))
    tree.nodes("kfd", "dri/renderD128", "nvidiactl", "nvidia0", "nvidia1")
    names = [gpu.device for gpu in detect(tree.sysfs, tree.dev, lambda: ScriptedNvml([A100, GTX])).offers]
    assert sorted(names) == ["0", "1", "amd0"]


def test_nvmls_spelling_of_an_address_becomes_that_of_sysfs() -> None:
    assert normal_address("00000000:3B:00.0") == "0000:3b:00.0"
