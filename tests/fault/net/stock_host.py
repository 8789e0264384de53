"""libp2p 0.8.1 as it comes, explicit Noise and yamux, with pubsub: what the fault tests compare with. Prints its address; ends with stdin."""

from __future__ import annotations

import sys

import trio
from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_x25519_key_pair
from libp2p.custom_types import TProtocol
from libp2p.pubsub.gossipsub import GossipSub
from libp2p.pubsub.pubsub import Pubsub
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.security.noise.transport import Transport
from libp2p.tools.anyio_service import background_trio_service
from multiaddr import Multiaddr


async def main() -> None:
    keys = create_new_key_pair()
    host = new_host(key_pair=keys, sec_opt={NOISE: Transport(keys, noise_privkey=create_x25519_key_pair().private_key)})
    router = GossipSub([TProtocol("/meshsub/1.1.0")], 6, 4, 12, heartbeat_interval=1)
    pubsub = Pubsub(host, router)
    port = sys.argv[1] if len(sys.argv) > 1 else "0"
    listen = Multiaddr(f"/ip4/127.0.0.1/tcp/{port}")
    async with host.run([listen]), background_trio_service(pubsub), background_trio_service(router):
        await pubsub.wait_until_ready()
        await pubsub.subscribe("market")
        print(host.get_addrs()[0] if host.get_addrs() else "not listening", flush=True)
        await trio.sleep_forever()


trio.run(main)
