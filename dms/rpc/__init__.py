"""The local JSON-RPC: methods, transports, clients.

::

    api/          NodeApi: every method with its parameters, result and description; the types are the reference
    jsonrpc       requests and responses of JSON-RPC 2.0, as data
    registry      the table of methods, read off NodeApi
    dispatcher    bytes in, bytes out; the one place where errors become responses
    session       one connection: its subscriptions and what it may send
    openrpc       the document `rpc.discover` returns
    unix          newline-delimited JSON on an owner-only Unix socket
    token         the bearer tokens of HTTP: one that opens everything, one that only looks
    exposure      where HTTP may listen, and with what
    http          POST /rpc and WebSocket /ws on loopback, behind a bearer token; imports aiohttp only when used
    client        synchronous, for the command line: sockets and json, nothing else
    async_client  for programs and tests
    feed          updates with increasing ids, kept for those who come back

`api` knows no transport, `dispatcher` no socket, and importing this package imports none of them.
"""

from __future__ import annotations
