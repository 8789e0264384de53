"""The arithmetic the benchmark times: kernels in compiled code, single-threaded, that together look like work and not like one instruction.

The first is the round of a spot check, and the score is its rate: what cannot be checked does not count for it. The others tell the owner what the
core is good at. They were chosen by repeatability (measured spread of repeat runs below 2 % on a quiet machine; a pure Python loop has 13 to 25 %):
two reward instruction-set extensions, two are plain integer arithmetic, one is memory, one is branches and cache.

=============  ========  ==============================================================================  =========
kernel         unit      what it stands for                                                              reference
=============  ========  ==============================================================================  =========
chain          1/s       a round of a spot check: hashing and integer multiplication by turns              82.6
sha256         MB/s      hashing; SHA extensions where there are any                                      1 843
aes256gcm      MB/s      encryption; AES and carry-less multiply extensions                              17 050
sha512         MB/s      64-bit integer arithmetic without extensions                                     1 066
modexp         1/s       2048-bit modular power: integer multiplication                                   6 169
zlib           MB/s      compression: branches, table look-ups, first-level cache                            34.8
memory         MB/s      copying 64 MiB, read and write counted: the path to memory                      38 080
=============  ========  ==============================================================================  =========

The reference column is one core of the machine this was developed on (AMD EPYC, family 26 model 2 (Zen 5), 2.6 GHz, in a virtual machine with
two cores; Python 3.11, OpenSSL 3), mean of six runs. It only fixes the scale: 1000 thousandths is that core. Changing a kernel or a reference
makes scores incomparable, so it raises `benchmark.VERSION`.
"""

from __future__ import annotations

import hashlib
import time
import zlib
from collections.abc import Callable
from typing import Any, Final

import msgspec

from dms_proto.verification.spot_work import ROUND, ROUND_US

MB: Final = 10**6
_BLOCK: Final = 1 << 20
_COPY: Final = 64 << 20
"""Larger than the last-level cache of most machines, so that copying reaches memory."""


class Kernel(msgspec.Struct, frozen=True):
    """One thing to time.

    Attributes:
        name: key of the result.
        unit: of the rate.
        reference: rate of the reference core.
        scale: units of work in one `unit` (10^6 bytes in a megabyte).
        prepare: makes the buffers and gives the function to call; that returns the work it did.
    """

    name: str
    unit: str
    reference: float
    scale: int
    prepare: Callable[[], Callable[[], int]]


def rate(work: Callable[[], int], seconds: float) -> float:
    """Work per second of this thread's CPU time, measured until `seconds` of it have passed.

    CPU time, not wall time: on a machine shared with others the wall measures the neighbours.
    """
    done, start = 0, time.thread_time()
    while True:
        done += work()
        passed = time.thread_time() - start
        if passed >= seconds:
            return done / passed


def _chain() -> Callable[[], int]:
    program: dict[str, Any] = {}
    exec(ROUND, program)  # noqa: S102 - our own text: to the letter what a spot check runs
    a_round, state = program["a_round"], bytes(32)

    def work() -> int:
        a_round(state)
        return 1

    return work


def _sha256() -> Callable[[], int]:
    block = _pattern(_BLOCK)

    def work() -> int:
        hashlib.sha256(block).digest()
        return len(block)

    return work


def _sha512() -> Callable[[], int]:
    block = _pattern(_BLOCK)

    def work() -> int:
        hashlib.sha512(block).digest()
        return len(block)

    return work


def _aes256gcm() -> Callable[[], int]:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - this process may only want the table

    cipher, block, nonce = AESGCM(bytes(32)), _pattern(_BLOCK), bytes(12)

    def work() -> int:
        cipher.encrypt(nonce, block, None)
        return len(block)

    return work


def _modexp() -> Callable[[], int]:
    modulus, base = (1 << 2047) + 1_234_567, (1 << 2000) + 987

    def work() -> int:
        pow(base, 196_611, modulus)
        return 1

    return work


def _zlib() -> Callable[[], int]:
    text = b"".join(hashlib.sha256(number.to_bytes(2, "little")).hexdigest().encode() for number in range(4000))

    def work() -> int:
        zlib.compress(text, 6)
        return len(text)

    return work


def _memory() -> Callable[[], int]:
    source, target = bytearray(_COPY), memoryview(bytearray(_COPY))

    def work() -> int:
        target[:] = source
        return 2 * _COPY

    return work


def _pattern(size: int) -> bytes:
    return bytes(range(256)) * (size // 256)


CHAIN: Final = Kernel("chain", "1/s", 1_000_000 / ROUND_US, 1, _chain)
SHA256: Final = Kernel("sha256", "MB/s", 1_843, MB, _sha256)
KERNELS: Final = (
    CHAIN,
    SHA256,
    Kernel("aes256gcm", "MB/s", 17_050, MB, _aes256gcm),
    Kernel("sha512", "MB/s", 1_066, MB, _sha512),
    Kernel("modexp", "1/s", 6_169, 1, _modexp),
    Kernel("zlib", "MB/s", 34.8, MB, _zlib),
    Kernel("memory", "MB/s", 38_080, MB, _memory),
)
