"""What the machine is, how fast it is, what others use of it, and what to offer.

::

    cgroups     limits of the container or unit around this process
    facts       cores, memory, disk, kernel, load: within those limits
    gpu         devices found, opened and named, or why not; gpu_simulated: invented ones for tests
    kernels     the arithmetic the benchmark times
    benchmark   a score in at most 10 s, in a process of its own
    pressure    how much less can be offered because other programs use the machine: pure
    own_use     what is ours, by the process tree
    monitor     samples every few seconds and tells the ledger
    capability  the proposal: what to register by default

Importing this package loads none of it, and psutil and NVML are loaded by the call that needs them.
"""

from __future__ import annotations
