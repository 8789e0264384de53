"""One attempt to connect to one peer: all its addresses, no waiting, no memory of failures.

Stock faults: ``host.connect`` waits 250 ms even with one address, tries one address per transport, so a dead first address is a failure, and
then refuses to try the peer for 60 s. Names are resolved by a second DNS library that reads no /etc/hosts.

Remedy: addresses are tried in order, each started a moment after the one before or as soon as it failed; the first that is authenticated
wins. When to try again is decided elsewhere (`dms.net.dialer`).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

import trio
from libp2p.network.connection.swarm_connection import SwarmConn
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from dms.net.addresses import Target, parse
from dms.net.guards.swarm import GuardedSwarm
from dms_proto.scope import Scope, scope_of

HEAD_START_S: Final = 0.15
"""Head start of an address over the next one."""
MAX_ADDRESSES: Final = 16
"""Addresses tried for one peer, after names are resolved."""


class DialError(Exception):
    """No address led to the peer; the message says what each answered."""


async def dial_peer(
    swarm: GuardedSwarm, peer: str, addresses: Sequence[str], timeout_s: float, least: Scope = Scope.MACHINE
) -> SwarmConn:
    """A new connection with `peer`.

    Args:
        swarm: where it is registered.
        peer: who must be there, base58.
        addresses: multiaddrs.
        timeout_s: for each address.
        least: what has a narrower scope is not tried, whatever name leads there.

    Raises:
        DialError: none worked.
    """
    answers: dict[str, str] = {}
    found: list[SwarmConn] = []

    async def attempt(address: str, failed: trio.Event) -> None:
        """Tries one address; the winner ends the race."""
        try:
            with trio.fail_after(timeout_s):
                connection = await swarm._dial_addr_single_attempt(Multiaddr(address), ID.from_base58(peer))
            assert isinstance(connection, SwarmConn)
            found.append(connection)
            race.cancel_scope.cancel()
        except trio.TooSlowError:
            answers[address] = f"no answer within {timeout_s:g} s"
        except Exception as error:  # noqa: BLE001 - the process edge: whoever listens there may answer anything
            answers[address] = _explain(error)
        failed.set()

    resolved = await _resolve(addresses, least, answers)
    async with trio.open_nursery() as race:
        for address in resolved:
            failed = trio.Event()
            race.start_soon(attempt, address, failed)
            with trio.move_on_after(HEAD_START_S):
                await failed.wait()
    if found:
        return found[0]
    raise DialError("; ".join(f"{address}: {answer}" for address, answer in answers.items()) or "no address is known")


def _explain(error: BaseException) -> str:
    """The innermost cause in a line: libp2p wraps it several times."""
    while True:
        if isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        elif (cause := error.__cause__ or error.__context__) is not None:
            error = cause
        else:
            break
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower()
    return str(error) or type(error).__name__


async def _resolve(addresses: Sequence[str], least: Scope, answers: dict[str, str]) -> list[str]:
    """Numeric multiaddrs without /p2p of that scope at least, each once, in order. Failures go into `answers`."""
    resolved: dict[str, None] = {}
    for address in addresses:
        try:
            target = parse(address)
            for ip in await _lookup(target):
                if scope_of(ip) >= least:
                    resolved[target.multiaddr(ip)] = None
                else:
                    answers[target.multiaddr(ip)] = "who named it is not in that network"
        except (ValueError, OSError) as error:
            answers[address] = str(error)
    return list(resolved)[:MAX_ADDRESSES]


async def _lookup(target: Target) -> list[str]:
    if target.family in ("ip4", "ip6"):
        return [target.host]
    family = {"dns4": trio.socket.AF_INET, "dns6": trio.socket.AF_INET6}.get(target.family, trio.socket.AF_UNSPEC)
    with trio.move_on_after(5):
        rows = await trio.socket.getaddrinfo(target.host, target.port, family, trio.socket.SOCK_STREAM)
        return [str(row[4][0]) for row in rows]
    raise OSError(f"{target.host}: the name was not resolved within 5 s")
