"""What the node tells its operator: log lines and counters. Nothing here leaves the machine.

::

    logs      set-up of `logging`: one line per record, text or JSON, rotated by size
    counters  counts by name and reason, and histograms; in the process, read by status
"""

from __future__ import annotations
