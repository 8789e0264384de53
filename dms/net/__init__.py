"""The network: libp2p in a process of its own, and its client in the node.

::

    node process (asyncio)                        network process (trio + libp2p), `python -m dms.net`
    ┌────────────────────────┐   socket pair      ┌──────────────────────────────────────────────────┐
    │ client.NetworkProcess  │◄── pipe.py ───────►│ bridge ── service ─┬ peers ── link   /dms/frames/1 │
    │   the `Network` port   │  length + msgpack  │                    ├ gossip          /meshsub/1.1.0│
    │   starts, supervises,  │  request ids       │                    ├ blobs           /dms/blob/1   │
    │   restarts the process │  credit            │                    ├ dialer, mdns                  │
    └────────────────────────┘                    │                    └ host, on guards/ around libp2p│
                                                  └──────────────────────────────────────────────────┘

`config`, `pipe`, `launching` and `client` import neither trio nor libp2p, so the node can import them. Everything else runs in the network process
only. `guards/` holds one file for each family of faults of libp2p 0.8.1; each says what the stock library does and what is done about it.
"""
