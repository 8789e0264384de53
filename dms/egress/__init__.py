"""The way out of a job: a proxy through which it connects to what it asks for and its provider's owner allows. A process for each run that may.

::

    in the sandbox                     outside
    program ── 127.0.0.1:PORT ── proxy ── name, address ──▶ elsewhere
               a socket of the job's network, which a starter inside opened, and handed out before the program began

    proxy      decides on each connection, carries its bytes          asked    what a program asks of it, as HTTP says it
    meter      what went through, and what was refused, in a file     starting its start, from the node

The sandbox has no network but its own loopback, as any other. The listening socket is the one thing of it that the proxy has; the connections it
accepts there are its own, so nothing that the job does to its ends changes them. Proxy, run and file outlive the node together.
"""
