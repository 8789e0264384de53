"""What `dms node capability` shows of GPUs: what is reserved of each, and what is used."""

from __future__ import annotations

from dms.cli.blocks import Table
from dms.cli.views.node import capability
from dms.rpc.api.status import CapabilityStatus, GpuFigures
from dms_proto.capability import NOTHING, Gpu, Resources
from dms_proto.units import GIB


def test_what_is_reserved_of_a_gpu_stands_beside_what_is_used() -> None:
    whole = (
        Gpu("0", "nvidia", "A100", 40 * GIB),
        Gpu("1", "nvidia", "A100", 40 * GIB),
        Gpu("MIG-1", "nvidia", "1g", GIB),
    )
    left = (Gpu("0", "nvidia", "A100", 30 * GIB, 500), whole[2])
    figures = (GpuFigures("0", 43, 12 * GIB, 1), GpuFigures("MIG-1", None, 0, 0))
    shown = capability(
        CapabilityStatus(
            Resources(gpus=whole), Resources(gpus=left), NOTHING, NOTHING, Resources(gpus=left), gpus=figures
        )
    )
    (table,) = (block for block in shown if isinstance(block, Table) and block.headers[0] == "GPU")
    assert [row[3:] for row in table.rows] == [
        ("0.5, 10 GiB", "43 %, 1 process", "12 GiB"),
        ("1, 40 GiB", "not told", ""),
        ("0, 0 B", "0 processes", "0 B"),
    ]
