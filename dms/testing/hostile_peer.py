"""A libp2p peer that does as a test says: it connects properly and then sends what no honest peer would.

It runs trio in a worker thread, so a test on asyncio can attack a network process with ``await attack(address, play)``. A play is an async
function that gets a `Visit` and gives whatever the test wants to know.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, TypeVar

import trio
from libp2p.abc import INetStream
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.custom_types import TProtocol
from libp2p.network.connection.swarm_connection import SwarmConn
from libp2p.network.stream.net_stream import NetStream
from libp2p.peer.id import ID
from libp2p.protocol_muxer.exceptions import MultiselectClientError
from libp2p.protocol_muxer.multiselect_communicator import MultiselectCommunicator
from libp2p.pubsub.pb import rpc_pb2
from libp2p.stream_muxer.exceptions import MuxedConnError, MuxedStreamError
from libp2p.utils import encode_delim
from libp2p.utils.varint import encode_uvarint

from dms.net import frames
from dms.net.config import FRAMES_PROTOCOL, NETWORK_VERSION, NetConfig
from dms.net.counters import Counters
from dms.net.frames import Greeting, Kind
from dms.net.guards.crashes import Handler
from dms.net.guards.dialing import dial_peer
from dms.net.guards.yamux import SafeYamux, YamuxHooks, connection_under
from dms.net.guards.yamux_stream import SafeStream, stream_under
from dms.net.host import Host
from dms.net.pipe import Splitter
from dms_proto.messages import AnyMessage
from dms_proto.wire import Envelope, read_frame

GOSSIP_PROTOCOL: Final = "/meshsub/1.1.0"
PATIENCE_S: Final = 20.0
CLOSED: Final = (MuxedStreamError, MuxedConnError, MultiselectClientError)
"""How the victim's refusal shows here."""

Result = TypeVar("Result")


class Visit:
    """A connection to the victim.

    Attributes:
        host: our host.
        yamux: the connection; `raw` sends anything on it.
    """

    def __init__(self, host: Host, connection: SwarmConn) -> None:
        self.host = host
        self.connection = connection
        self.yamux: SafeYamux = connection_under(connection)

    async def open(self, protocol: str) -> SafeStream:
        """A stream of `protocol`, negotiated."""
        stream: NetStream = await self.host.open_stream(self.connection, protocol)
        return stream_under(stream)

    async def greeted(self) -> SafeStream:
        """A frame stream on which the victim has welcomed us."""
        stream = await self.open(FRAMES_PROTOCOL)
        await stream.write(frames.greeting(Kind.HELLO, Greeting(NETWORK_VERSION, "hostile")))
        splitter = Splitter()
        while not (items := splitter.feed(await stream.read())):
            pass
        assert items[0][:1] == bytes([Kind.WELCOME])
        return stream

    def raw(self, data: bytes) -> None:
        """Sends bytes as if the multiplexer had made them."""
        self.yamux._append(data)
        self.yamux.flush()

    async def until_closed(self) -> None:
        """Waits until the victim closes the connection."""
        with trio.fail_after(PATIENCE_S):
            await self.yamux.event_closed.wait()

    async def until_reset(self, stream: SafeStream) -> None:
        """Waits until the victim ends a stream."""
        with trio.fail_after(PATIENCE_S), suppress(*CLOSED):
            while True:
                await stream.read()


async def until(condition: Callable[[], object]) -> None:
    """Waits for what a victim does or tells meanwhile; the connection stays open."""
    with trio.fail_after(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - another process tells
            await trio.sleep(0.02)


async def welcome(net_stream: INetStream) -> None:
    """Lets the victim take us for up, so that it reads our frames."""
    stream = stream_under(net_stream)
    await stream.read()
    await stream.write(frames.greeting(Kind.WELCOME, Greeting(NETWORK_VERSION, "hostile")))
    await trio.sleep_forever()


class Ear:
    """What the victim says, as an honest peer hears it: its streams are welcomed, its pings answered, its frames kept until they are asked for."""

    def __init__(self, most: int = 1_000) -> None:
        """`most`: frames kept; what comes beyond is let go."""
        self._heard, self._frames = trio.open_memory_channel[bytes](most)

    async def serve(self, net_stream: INetStream) -> None:
        """Serves a frame stream that the victim opened."""
        stream, splitter = stream_under(net_stream), Splitter()
        while True:
            for body in splitter.feed(await stream.read()):
                match body[0]:
                    case Kind.HELLO:
                        await stream.write(frames.greeting(Kind.WELCOME, Greeting(NETWORK_VERSION, "hostile")))
                    case Kind.PING:
                        await stream.write(frames.item(Kind.PONG, body[1:]))
                    case Kind.FRAME:
                        with suppress(trio.WouldBlock):
                            self._heard.send_nowait(body[1:])

    async def message(self) -> AnyMessage:
        """The next message; whatever is none is passed over."""
        while not isinstance(opened := read_frame(await self._frames.receive()), Envelope):
            pass
        return opened.message


def agree_and_send(data: bytes) -> Handler:
    """Sends `data` in one write with the last word of a frame stream's negotiation: all of it is there when the victim takes up the stream."""

    async def serve(net_stream: INetStream) -> None:
        communicator = MultiselectCommunicator(net_stream)
        await communicator.write(await communicator.read())
        protocol = await communicator.read()
        if protocol == FRAMES_PROTOCOL:
            await net_stream.write(encode_delim(protocol.encode()) + data)
            await trio.sleep_forever()

    return serve


async def attack(
    address: str,
    play: Callable[[Visit], Awaitable[Result]],
    private_key: bytes = b"",
    answer: Handler = welcome,
    serve: Handler | None = None,
) -> Result:
    """Connects to `address` (ending in /p2p/PEER) and plays; for tests on asyncio.

    `answer` serves the frame stream the victim opens; `serve`, if given, serves all streams instead, from before their negotiation.
    """
    return await asyncio.to_thread(trio.run, visit, address, play, private_key, answer, serve)


async def visit(
    address: str,
    play: Callable[[Visit], Awaitable[Result]],
    private_key: bytes = b"",
    answer: Handler = welcome,
    serve: Handler | None = None,
    *,
    patience_s: float = 3 * PATIENCE_S,
) -> Result:
    """`attack` for trio. `patience_s`: longest that a play takes."""
    config = NetConfig(private_key=private_key or os.urandom(32), listen=("/ip4/127.0.0.1/tcp/0",))
    host = Host(config, Counters(), YamuxHooks())
    host.set_stream_handler(TProtocol(FRAMES_PROTOCOL), answer)
    if serve is not None:
        host.swarm.set_stream_handler(host.crashes.guard_handler("hostile", serve))
    async with host.run():
        connection = await dial_peer(host.swarm, address.rpartition("/p2p/")[2], [address], PATIENCE_S)
        with trio.fail_after(patience_s):
            return await play(Visit(host, connection))


# ------------------------------------------------------------------------------------------------------- gossip bytes


def rpc(message: rpc_pb2.RPC | bytes) -> bytes:
    """The bytes of a gossip RPC on its stream; `message` may be anything."""
    body = message if isinstance(message, bytes) else message.SerializeToString()
    return encode_uvarint(len(body)) + body


def published(topic: str, **fields: Any) -> bytes:
    """One message with any fields."""
    return rpc(rpc_pb2.RPC(publish=[rpc_pb2.Message(topicIDs=[topic], **fields)]))


def signed(topic: str, data: bytes) -> bytes:
    """A message as an honest peer publishes it."""
    keys = create_new_key_pair()
    author = ID.from_pubkey(keys.public_key).to_bytes()
    message = rpc_pb2.Message(data=data, topicIDs=[topic], from_id=author, seqno=os.urandom(8))
    message.signature = keys.private_key.sign(b"libp2p-pubsub:" + message.SerializeToString())
    message.key = keys.public_key.serialize()
    return rpc(rpc_pb2.RPC(publish=[message]))
