"""Jobs in containers, by an engine that speaks Docker's API: podman or Docker, rootless where there is a choice.

::

    engine        which engine answers, what it is, and everything that is asked of it
    config        the container of one job, as the engine is told it: pure
    filter        the sandbox's system call filter, as engines read it: pure
    faults        what an engine's refusal means for a job: pure
    images        images are brought, kept within bounds, and removed: only those that were brought here
    memory_files  a job's secrets, in memory, where the container sees them
    run           one container, from its creation (or adoption) to the last byte of its output
    warden        a small process that ends overdue containers while no node is there
    probe         what this engine really holds, tried on an image made of this machine's own shell
    executor      the port

The engine keeps what a run needs to outlive the node: the container, its output, and labels that say whose it is and when it must be over.
"""
