"""The descriptors that a program is started with: the words that stand for them in its command, and who goes on beside it at the other end of some.

Whoever starts it, as a sandbox or as a container, opens one for each word that `wanted` gives, and says by `filled` as which number it is found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from dms.egress.proxy import Bounds
from dms.egress.starting import ProxyProcess
from dms.executors.sandbox.keeper import KeeperProcess
from dms.executors.sandbox.program import Program
from dms.executors.settings import ExecutorSettings

RESULT: Final = "{result}"
DOOR: Final = "{door}"
EXEC: Final = "{exec}"
EGRESS: Final = "{egress}"
NAMES: Final = "{names}"


def wanted(program: Program) -> tuple[str, ...]:
    """The words that stand for descriptors in its command."""
    wants = {
        RESULT: program.judge is not None,
        DOOR: program.opens_door,
        EXEC: program.opens_exec,
        EGRESS: bool(program.egress.destinations),
        NAMES: bool(program.ways),
    }
    return tuple(word for word, is_wanted in wants.items() if is_wanted)


def filled(command: Sequence[str], descriptors: Mapping[str, int]) -> list[str]:
    """The command with its descriptors in the first place that names each: what the job's own arguments say is left as it is."""
    filled = list(command)
    for word, descriptor in descriptors.items():
        filled[filled.index(word)] = str(descriptor)
    return filled


class Outside(msgspec.Struct, frozen=True):
    """What who goes on beside a run, outside, has of it. All descriptors stay the caller's.

    Attributes:
        name: of the run.
        run: pidfd of its outer process.
        log: descriptor of the job's standard error.
        uid: who the job is on this machine; 0: the node's own user.
        settings: of all executors.
    """

    name: str
    run: int
    log: int
    uid: int
    settings: ExecutorSettings

    def proxy(self, program: Program, meter: int) -> ProxyProcess:
        """Starts what leads it out; `meter`: descriptor of the file that says how much went through.

        Raises:
            OSError: it cannot be started.
        """
        bounds = Bounds(program.egress, self.settings.egress, self.settings.egress_networks)
        complaints = self.settings.state_directory / "egress.log"
        return ProxyProcess(bounds, run=self.run, meter=meter, log=self.log, uid=self.uid, complaints=complaints)

    def keeper(self, program: Program) -> KeeperProcess:
        """Starts what keeps its names.

        Raises:
            OSError: it cannot be started.
        """
        state = self.settings.state_directory
        return KeeperProcess(self.name, program.ways, run=self.run, log=self.log, state=state)
