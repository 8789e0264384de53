"""Packages with plug-ins, as an installer leaves them in a directory of `sys.path`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def install_package(  # noqa: PLR0917 - what a package is
    where: Path, name: str, version: str, group: str, points: Mapping[str, str], module: str, source: str
) -> None:
    """Installs a package of one module: the module, and what is known of the package beside it.

    Args:
        where: a directory of `sys.path`.
        name: of the package.
        version: of the package.
        group: of its entry points.
        points: what they name, ``module:attribute``, by their names.
        module: its name.
        source: its text.
    """
    known = where / f"{name.replace('-', '_')}-{version}.dist-info"
    known.mkdir(parents=True)
    (known / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    listed = "\n".join(f"{point} = {target}" for point, target in points.items())
    (known / "entry_points.txt").write_text(f"[{group}]\n{listed}\n")
    (where / f"{module}.py").write_text(source)
