from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import dms.net
from dms.net.config import MAX_FRAME, NetConfig
from dms.net.counters import NAMES, Counters
from dms_proto.errors import UserError

KEY = bytes(32)


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"private_key": bytes(31)}, "private_key"),
        ({"private_key": KEY, "listen": ("/ip4/127.0.0.1/udp/1",)}, "listen"),
        ({"private_key": KEY, "listen": ("/ip4/127.0.0.1/tcp/1", "/dns4/here/tcp/1")}, "listen"),
        ({"private_key": KEY, "listen": ()}, "listen"),
        ({"private_key": KEY, "announce": ("here:4001",)}, "announce"),
        ({"private_key": KEY, "bootstrap": ("/ip4/127.0.0.1/tcp/1",)}, "bootstrap"),
        ({"private_key": KEY, "bootstrap": ("/ip4/127.0.0.1/tcp/1/p2p/nobody",)}, "bootstrap"),
        ({"private_key": KEY, "queue_bytes": MAX_FRAME}, "queue_bytes"),
    ],
)
def test_a_value_that_could_only_fail_later_is_refused_by_its_field(wrong: dict[str, object], field: str) -> None:
    with pytest.raises(UserError, match=field) as caught:
        NetConfig(**wrong)  # type: ignore[arg-type]
    assert caught.value.code == "bad_config"


def test_counting_something_unlisted_is_a_defect() -> None:
    with pytest.raises(KeyError):
        Counters().add("unlisted")


def test_every_counter_that_is_counted_is_listed() -> None:
    source = "\n".join(path.read_text() for path in Path(dms.net.__file__).parent.rglob("*.py"))
    unused = [name for name in NAMES if source.count(f'"{name}"') < 2]
    assert unused == []


def test_the_client_brings_neither_trio_nor_libp2p_into_the_node() -> None:
    code = "import sys, dms.net.client; print([m for m in ('trio', 'libp2p', 'multiaddr') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_the_network_process_loads_nothing_it_does_not_need() -> None:
    code = (
        "import sys; from dms.net.guards import lean; lean.install(); import dms.net.service;"
        "heavy = ('aioquic', 'OpenSSL', 'dns', 'Crypto', 'coincurve', 'prometheus_client', 'httpx', 'requests', 'zeroconf', 'psutil');"
        "print([m for m in heavy if m in sys.modules and '_Placeholder' not in type(sys.modules[m]).__name__])"
    )
    out = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_another_libp2p_is_refused() -> None:
    code = (
        "from dms.net.guards import lean; lean.LIBP2P_VERSION = '0.9.0'\n"
        "try: lean.install()\nexcept ImportError as error: print(error)"
    )
    out = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert "made for libp2p 0.9.0" in out.stdout
