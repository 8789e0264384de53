"""`python -m dms.node`: see `dms.node.commands`."""

import sys

from dms import early

if __name__ == "__main__":
    early.leave_on_ctrl_c()
    from dms.node.commands import main  # most of the time until it runs goes here

    sys.exit(main())
