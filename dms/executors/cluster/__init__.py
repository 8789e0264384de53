"""A cluster behind one node: its engine (Slurm, Dask, Ray, HTCondor, Kubernetes) places our runner on its machines, in which is any node's sandbox.

::

    NODE                                        a machine of the cluster
    cluster ── engine: submit ───────────────▶  runner NAME ── executors.sandbox, executors.wasm
       │                                           │ claim, events, stdout, stderr
       ├── run ◀──────── SHARED/runs/NAME ─────────┤
       └── tethers ◀──────────── tether ───────────┘ tethered

    engine   the port: what any engine is asked, in five calls
    slurm    Slurm, by its command line
    dask     Dask, by its client; what its workers run is `dms.escort`
    ray      Ray, by the HTTP of its head
    htcondor HTCondor, by its own bindings: they are in a process of their own, `htcondor_bindings`, which `htcondor_client` asks
    kubernetes  Kubernetes, by its official client: kubernetes_pods are placed and tell how they go, kubernetes_nodes what there is
    engines  which of them is meant
    files    what the node and a runner say to each other: files of a directory that both see
    kinds    which kinds of tasks a runner runs
    runner   the program that is placed: it proves the machine, runs one task in a sandbox there, and says how it went
    own      directories of this user's alone, where others write beside them
    scratch  what it keeps on its machine, and what others left there
    tether   what leads into a run and out of it, by connections that its runner makes; tethers: at the node; tethered: in the runner
    gpus     how many GPUs an engine counts, what they are by proof, and which of them a runner was given
    handover how a task is given its secrets, which lie in no file
    run      one task, as the node follows it
    cluster  the executors that are offered, and what they share: the engine is asked for all runs at once

A task never comes near the engine: what is submitted is the runner and the name of a directory, and in the sandbox there is neither a network nor
the engine's socket. What leads into it, or out, is what leads into a sandbox of the node's own machine, joined to its node by the runner.

A run belongs to whoever first makes its `claim`: the runner, once; or the node, which takes it away from an engine that has not started it. So an
engine that starts a job again starts nothing twice.
"""
