"""The market as pure machines: comparing, ranking, the auction, the offer book and the capacity ledger."""

from __future__ import annotations

import sys
from types import ModuleType

# `import cel` also imports that package's own command line, and with it typer, prompt_toolkit and rich: 150 ms and 19 MB that every `dms` command
# and the idle node would pay for. Nothing here uses it, so an empty module stands in its place.
sys.modules.setdefault("cel.cli", ModuleType("cel.cli"))
