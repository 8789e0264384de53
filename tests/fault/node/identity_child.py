"""A process that dies at each step of writing an identity, one home after another.

Arguments: the action, a home to begin with, a directory for copies of it. For each step a fork works on a copy and kills itself with SIGKILL
just before the step: an opened, linked, renamed or removed file of the home. It ends with the copy on which the action ran to its end.
"""

import os
import shutil
import signal
import sys
from itertools import count
from pathlib import Path

from dms.config import identity
from dms.config.export import read, restore
from dms.config.key_file import Passphrase
from dms.config.paths import Home

STEPS = {"open", "os.link", "os.rename", "os.remove"}
SECRET = Passphrase(b"open sesame", "the test")


def restored(home):
    restore(home, read((home.root.parent / "export.json").read_bytes(), "export"), [SECRET])


ACTIONS = {
    "create": identity.create,
    "protect": lambda home: identity.protect(home, identity.load(home), SECRET),
    "rotate": lambda home: identity.rotate(home, 1_700_000_000_000),
    "restore": restored,
}


def die_at(step, root):
    """From now on the process ends just before the `step`-th change or read below `root`."""
    steps = count(1)

    def hook(event, arguments):
        if event in STEPS and str(arguments[0]).startswith(root) and next(steps) == step:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def main(action, begin, copies):
    for step in count(1):
        copy = Path(copies) / str(step)
        shutil.copytree(begin, copy, dirs_exist_ok=True)
        child = os.fork()
        if not child:
            die_at(step, str(copy))
            ACTIONS[action](Home(copy))
            os._exit(0)
        if not os.waitpid(child, 0)[1]:
            return


main(*sys.argv[1:])
