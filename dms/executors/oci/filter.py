"""The sandbox's system call filter as engines read it: the rules are those of `sandbox.seccomp`, in the engines' JSON. Pure.

It takes the place of the engine's own filter, so that the same calls are refused whatever engine and version runs a job. Only calls of the machine's
own architecture pass: with another one's numbers a filter would be gone around.
"""

from __future__ import annotations

import errno
import functools
from typing import Any, Final

import msgspec

from dms.executors.sandbox import seccomp

_ALLOW: Final = "SCMP_ACT_ALLOW"
_ERRNO: Final = "SCMP_ACT_ERRNO"
_EQUAL: Final = "SCMP_CMP_EQ"
_DIFFERENT: Final = "SCMP_CMP_NE"
_GREATER: Final = "SCMP_CMP_GT"
_MASKED: Final = "SCMP_CMP_MASKED_EQ"


@functools.cache
def profile() -> str:
    """The filter, in JSON."""
    rules = [
        _refuse((*seccomp.DENIED, *seccomp.NEWER)),  # an engine passes over names it does not know
        _refuse(seccomp.ABSENT, error=errno.ENOSYS),
        *(_refuse(("clone",), _masked(0, flag, flag)) for flag in seccomp.NAMESPACE_FLAGS[1:]),
        *(_refuse(("ioctl",), _masked(1, 0xFFFFFFFF, request)) for request in (seccomp.TIOCSTI, seccomp.TIOCLINUX)),
        *_sockets(),
    ]
    return msgspec.json.encode({"defaultAction": _ALLOW, "syscalls": rules}).decode()


def _sockets() -> list[dict[str, Any]]:
    """As in the sandbox: UNIX, TCP, UDP and route netlink only, and pairs of UNIX sockets."""
    known = (seccomp.UNIX, seccomp.INET, seccomp.INET6, seccomp.NETLINK)
    others = [family for family in range(seccomp.MAX_FAMILY + 1) if family not in known]
    rules = [_refuse(("socket",), _compare(0, _EQUAL, family)) for family in others]
    rules += [
        _refuse(("socket",), _compare(0, _GREATER, seccomp.MAX_FAMILY)),
        _refuse(("socketpair",), _compare(0, _DIFFERENT, seccomp.UNIX)),
        _refuse(("socket",), _compare(0, _EQUAL, seccomp.NETLINK), _compare(2, _DIFFERENT, 0)),
    ]
    for family in (seccomp.INET, seccomp.INET6):
        ours = _compare(0, _EQUAL, family)
        for kind in (seccomp.SOCK_RAW, seccomp.SOCK_PACKET):
            rules.append(_refuse(("socket",), ours, _masked(1, seccomp.SOCK_TYPE_MASK, kind)))
        for protocol in range(1, seccomp.UDP):
            if protocol != seccomp.TCP:
                rules.append(_refuse(("socket",), ours, _compare(2, _EQUAL, protocol), error=errno.EPROTONOSUPPORT))
        rules.append(_refuse(("socket",), ours, _compare(2, _GREATER, seccomp.UDP), error=errno.EPROTONOSUPPORT))
    return rules


def _refuse(names: tuple[str, ...], *arguments: dict[str, Any], error: int = errno.EPERM) -> dict[str, Any]:
    return {"names": list(names), "action": _ERRNO, "errnoRet": error, "args": list(arguments)}


def _compare(index: int, how: str, value: int) -> dict[str, Any]:
    return {"index": index, "value": value, "valueTwo": 0, "op": how}


def _masked(index: int, mask: int, value: int) -> dict[str, Any]:
    return {"index": index, "value": mask, "valueTwo": value, "op": _MASKED}
