"""Where what starts a job says why its command could not be executed: in memory, and never more than a few bytes.

Code of the job's image runs before that starter has let go of it, so whatever it is, it is in a stranger's hands: a file on the node's disk would be
outside of the job's disk limit, and as long as its holder likes. This one can be neither longer nor shorter than it was made.
"""

from __future__ import annotations

import fcntl
import os
from typing import Final

BYTES: Final = 4096
_SEALS: Final = fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL


class Outcome:
    """Of one run. It goes with the node that made it."""

    def __init__(self) -> None:
        """Makes it.

        Raises:
            OSError: no memory, or too many descriptors.
        """
        self.descriptor = os.memfd_create("dms-result", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.descriptor, BYTES)
        fcntl.fcntl(self.descriptor, fcntl.F_ADD_SEALS, _SEALS)

    def read(self) -> bytes:
        """What was said by now."""
        return os.pread(self.descriptor, BYTES, 0).rstrip(b"\0")

    def close(self) -> None:
        """Lets go of it."""
        os.close(self.descriptor)
