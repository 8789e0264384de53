from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dms.net.mdns import findings
from dms_proto.ids import peer_id_of

ANN, BOB = peer_id_of(bytes(32)), peer_id_of(b"b" * 32)


def test_addresses_of_an_announcement_are_grouped_by_peer() -> None:
    text = {
        b"dnsaddr": f"/ip4/10.0.0.1/tcp/1/p2p/{ANN}".encode(),
        b"dnsaddr1": f"/ip4/10.0.0.2/tcp/1/p2p/{ANN}".encode(),
        b"dnsaddr2": f"/ip4/10.0.0.3/tcp/1/p2p/{BOB}".encode(),
    }
    assert findings(text) == [
        (ANN, (f"/ip4/10.0.0.1/tcp/1/p2p/{ANN}", f"/ip4/10.0.0.2/tcp/1/p2p/{ANN}")),
        (BOB, (f"/ip4/10.0.0.3/tcp/1/p2p/{BOB}",)),
    ]


@given(st.dictionaries(st.sampled_from([b"dnsaddr", b"dnsaddr1", b"other"]), st.none() | st.binary(max_size=400)))
def test_anything_else_is_left_out(text: dict[bytes, bytes | None]) -> None:
    assert findings(text) == []
