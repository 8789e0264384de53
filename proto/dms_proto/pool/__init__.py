"""The pool of warm containers: what is slow to start is kept running, so that a call need not wait for it.

::

    a user's service ──▶ virtual container ──points to──▶ container ──is──▶ one process
                         one per user and service         as many virtual ones share it as the rules say
                         no process, made in no time      slow to start, of one image

A **call** goes to an idle container of its image, else to the one with the shortest queue, else to a new one. The new one is admitted by its size
before anything is created or evicted: what cannot fit is refused with the reason and the nearest change, and disturbs nobody.

==============  ============================================================================================
`records`       the control blocks: all that is known of a container and of a virtual one
`placement`     which container gets a call, with scores and reasons, computed again from its record
`admission`     whether a new container fits by its real size, and which ones would have to go for it
`tiers`         who may make whose containers go; what is kept for those who pay
`thrash`        what is not evicted since it would be back at once
`replacement`   which goes first: FIFO, LRU, LFU, Clock
`optimum`       reference strings replayed over frames, by a strategy and by one that knows the future: for measuring
`state`         stimuli, events, effects, the state; stream "pool"
`fold`          the state after an event
`machine`       the decisions, and the table
==============  ============================================================================================

Calls live as long as the connection they came by, and are not written down; what they add to the control blocks is. All calls of one batch are
written as one event before any of them is delivered, so that the counters are exact after a ``kill -9``.
"""
