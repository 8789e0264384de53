"""Unpacks HTCondor's daemons into .tools/htcondor, for the tests of clusters: on any release of Debian.

Debian 13 has HTCondor, older ones do not. Its packages and the libraries that they need are fetched by apt from where this machine has its own, with
lists and a cache apart, so nothing of this machine's is touched and no right is needed; and the programs are told to take their libraries from beside
them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

SUITE: Final = "trixie"
KEYRING: Final = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
PLACE: Final = Path(__file__).resolve().parent.parent / ".tools" / "htcondor"
_TOLD: Final = ("patchelf", "condor")
"""What is fetched by name; the rest is what these need."""
_NEEDED: Final = ("condor_", "lib", "patchelf_")
"""How the names begin of packages that are unpacked: the others' scripts and documents are of no use here."""


def main() -> int:
    """Unpacks it, unless it is there."""
    if PLACE.exists():
        return 0
    missing = [program for program in ("apt-get", "dpkg-deb") if shutil.which(program) is None]
    if missing or not KEYRING.exists():
        print(f"HTCondor cannot be unpacked here: there is no {', '.join(missing) or KEYRING}", file=sys.stderr)
        return 1
    archive = archive_of_debian()
    if not archive:
        print(
            "HTCondor cannot be unpacked here: apt has no list of a Debian; apt-get update fetches it", file=sys.stderr
        )
        return 1
    PLACE.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=PLACE.parent, prefix=".htcondor-") as work:
        root = Path(work) / "root"
        for package in fetched(Path(work), archive):
            if package.name.startswith(_NEEDED):
                subprocess.run(["dpkg-deb", "--extract", package, root], check=True)
        tell_libraries(root)
        root.rename(PLACE)
    return 0


def archive_of_debian() -> str:
    """Where this machine has its own packages from; empty: it is told of none."""
    wanted = ("Created-By: Packages", "Origin: Debian", "Label: Debian", "Component: main")
    found = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)", *wanted], capture_output=True, text=True, check=True
    )
    return next(iter(found.stdout.split()), "")


def fetched(work: Path, archive: str) -> list[Path]:
    """The packages, fetched into a directory that is apt's alone."""
    for name in ("state/lists/partial", "cache/archives/partial"):
        (work / name).mkdir(parents=True)
    (work / "status").touch()
    (work / "sources.list").write_text(f"deb [signed-by={KEYRING}] {archive} {SUITE} main\n")
    settings = {
        "Dir::Etc::SourceList": work / "sources.list",
        "Dir::Etc::SourceParts": "-",
        "Dir::State": work / "state",
        "Dir::State::Status": work / "status",
        "Dir::Cache": work / "cache",
        "Acquire::Languages": "none",
        "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled": "false",
        "APT::Install-Recommends": "false",
        "APT::Sandbox::User": "",
    }
    (work / "apt.conf").write_text("".join(f'{name} "{value}";\n' for name, value in settings.items()))
    for command in (("update",), ("install", "--yes", "--download-only", *_TOLD)):
        environment = {**os.environ, "APT_CONFIG": str(work / "apt.conf")}
        subprocess.run(["apt-get", "-qq", *command], env=environment, check=True, stdout=subprocess.DEVNULL)
    return sorted((work / "cache" / "archives").glob("*.deb"))


def tell_libraries(root: Path) -> None:
    """Has each program load its libraries, the C library among them, from beside it, once it is in its place."""
    (loader,) = (root / "usr" / "lib64").glob("ld-linux-*")
    (libraries,) = (root / "usr" / "lib").glob("*-linux-gnu")
    there = [PLACE / path.relative_to(root) for path in (loader, libraries, libraries.parent)]
    told = ["--set-interpreter", there[0], "--force-rpath", "--set-rpath", f"{there[1]}:{there[2]}"]
    for program in [each for where in ("bin", "sbin", "libexec/condor") for each in (root / "usr" / where).iterdir()]:
        if program.name.startswith("condor_") and not program.is_symlink() and is_program(program):
            patchelf = [loader, "--library-path", libraries, root / "usr" / "bin" / "patchelf"]
            subprocess.run([*patchelf, *told, program], check=True)


def is_program(file: Path) -> bool:
    """Whether a file is in the format of programs."""
    with file.open("rb") as opened:
        return opened.read(4) == b"\x7fELF"


if __name__ == "__main__":
    sys.exit(main())
