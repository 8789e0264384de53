"""`python -m dms.comparing`: see `worker`."""

from __future__ import annotations

from dms.comparing.worker import main

main()
