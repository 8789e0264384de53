"""Prints the path of a usable `uv`, fetching it from the package index into .tools/ when the machine has none.

uv can override one pin of libp2p (pyproject.toml, [tool.uv]), which pip cannot; so the whole set-up goes through it.
Runs on any Python >= 3.11 with nothing installed. Tries, in order: uv on PATH, this Python's pip, the pip of a fresh venv.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

TOOLS = Path(__file__).resolve().parent.parent / ".tools"
UV = TOOLS / "bin" / "uv"


def main() -> int:
    if sys.version_info < (3, 11):
        print(f"make: dms needs Python 3.11 or newer, this is {sys.version.split()[0]}", file=sys.stderr)
        print("  way out: install a newer python3, or run `make PYTHON=/path/to/python3.12 ...`", file=sys.stderr)
        return 1
    found = shutil.which("uv")
    if found:
        print(found)
        return 0
    if not UV.exists():
        error = install_with([sys.executable, "-m", "pip"]) and install_with_venv_pip()
        if error:
            print(f"make: could not fetch uv from the package index: {error}", file=sys.stderr)
            print(
                "  way out: `apt-get install python3-pip` (or your system's package of pip), or install uv",
                file=sys.stderr,
            )
            return 1
    print(UV)
    return 0


def install_with(pip: list[str]) -> str:
    """Returns an empty string on success, else what went wrong."""
    done = subprocess.run(
        [*pip, "install", "--quiet", "--target", str(TOOLS), "uv"], capture_output=True, text=True, check=False
    )
    return "" if done.returncode == 0 and UV.exists() else done.stderr.strip()[-400:] or "pip installed no uv"


def install_with_venv_pip() -> str:
    venv = TOOLS / "venv"
    done = subprocess.run([sys.executable, "-m", "venv", str(venv)], capture_output=True, text=True, check=False)
    return (
        install_with([str(venv / "bin" / "python"), "-m", "pip"])
        if done.returncode == 0
        else (done.stdout + done.stderr).strip()[-400:]
    )


if __name__ == "__main__":
    sys.exit(main())
