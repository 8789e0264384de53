"""Can others reach this node: judged from what it announces, and from whether anybody ever connected to it. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from dms.net.addresses import scope
from dms.rpc.api.events import Check, Finding
from dms_proto.ids import PeerId, short
from dms_proto.scope import Scope
from dms_proto.units import format_count

NAME = "reach"
FORWARD = "forward the port and set network.announce"


def judge(announced: Sequence[str], reached_by: str, connected: int) -> Check:
    """The doctor's word on it.

    Args:
        announced: the multiaddrs told to others.
        reached_by: a peer that connected to this node since it started; empty: none did.
        connected: peers connected now, whoever dialled.
    """
    scopes = [found for address in announced if (found := scope(address)) is not None]
    if not scopes:
        return Check(NAME, Finding.SKIP, "no internet address is announced", "see the check ports")
    seen = (
        f"{short(PeerId(reached_by))} connected to it" if reached_by else "nobody has connected to it since it started"
    )
    match max(scopes):
        case Scope.MACHINE:
            evidence = f"only a loopback address is announced: other machines cannot connect; {seen}"
            return Check(NAME, Finding.WARN, evidence, "listen on /ip4/0.0.0.0/tcp/PORT: set network.listen")
        case Scope.LOCAL:
            evidence = f"only private addresses are announced: peers outside the local network cannot connect; {seen}"
            return Check(NAME, Finding.PASS, evidence) if reached_by else Check(NAME, Finding.WARN, evidence, FORWARD)
        case Scope.INTERNET if reached_by:
            return Check(NAME, Finding.PASS, f"a public address or a name is announced; {seen}")
        case Scope.INTERNET if connected:
            dialled = format_count(connected, "peer")
            evidence = f"a public address or a name is announced, but {seen}, with {dialled} that it dialled"
            return Check(
                NAME, Finding.WARN, evidence, "let the port through firewall and router; check network.announce"
            )
    return Check(NAME, Finding.SKIP, "no peer is connected, so nobody tried", "dms join INVITATION")
