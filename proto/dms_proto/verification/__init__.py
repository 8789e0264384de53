"""Whether a stranger's answer is right, and whether its machine is what it says: decisions only, no I/O, no chance of its own.

===============  ==============================================================================
`policy`         how a job's results are checked, and when one more check, or a canary, is due
`comparing`      which results a comparator is asked about, and which are the same answer
`quorum`         whose result is accepted, and who was wrong
`spot_check`     a claimed benchmark against what was measured
`spot_work`      what is measured
===============  ==============================================================================
"""

from __future__ import annotations
