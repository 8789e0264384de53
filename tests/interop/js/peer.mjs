// A js-libp2p peer that does what the test says: one JSON command per line on standard input, one JSON answer or event per line on standard
// output. It speaks /dms/frames/1 (see dms/net/frames.py) from the description alone, as another implementation would.
import { createInterface } from 'node:readline'

// js-libp2p asks for Node 22; on Node 20 this is all it lacks.
Promise.withResolvers ??= function () {
  let resolve, reject
  const promise = new Promise((res, rej) => { resolve = res; reject = rej })
  return { promise, resolve, reject }
}
const { createLibp2p } = await import('libp2p')
const { tcp } = await import('@libp2p/tcp')
const { noise } = await import('@libp2p/noise')
const { yamux } = await import('@libp2p/yamux')
const { identify } = await import('@libp2p/identify')
const { ping } = await import('@libp2p/ping')
const { gossipsub } = await import('@libp2p/gossipsub')
const { multiaddr } = await import('@multiformats/multiaddr')
const { encode, decode } = await import('@msgpack/msgpack')

const FRAMES = '/dms/frames/1'
const KIND = { frame: 0, hello: 1, welcome: 2, refused: 3, ping: 4, pong: 5, bye: 6 }
const say = (event) => process.stdout.write(JSON.stringify(event) + '\n')
const base64 = (bytes) => Buffer.from(bytes).toString('base64')

const node = await createLibp2p({
  addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
  transports: [tcp()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()],
  services: { identify: identify(), ping: ping(), pubsub: gossipsub({ allowPublishToZeroTopicPeers: true }) }
})

function item (kind, body) {
  const bytes = Buffer.alloc(5 + body.length)
  bytes.writeUInt32BE(1 + body.length, 0)
  bytes.writeUInt8(kind, 4)
  bytes.set(body, 5)
  return bytes
}

async function * items (stream) {
  let waiting = Buffer.alloc(0)
  for await (const chunk of stream) {
    waiting = Buffer.concat([waiting, chunk.subarray()])
    while (waiting.length >= 4 && waiting.length >= 4 + waiting.readUInt32BE(0)) {
      const end = 4 + waiting.readUInt32BE(0)
      yield { kind: waiting[4], body: waiting.subarray(5, end) }
      waiting = waiting.subarray(end)
    }
  }
}

const greeting = () => encode({ network: 'dms/1', agent: 'js', addresses: node.getMultiaddrs().map(String) })

await node.handle(FRAMES, async (stream, connection) => {
  const peer = connection.remotePeer.toString()
  for await (const { kind, body } of items(stream)) {
    if (kind === KIND.hello) {
      say({ event: 'hello', peer, ...decode(body) })
      stream.send(item(KIND.welcome, greeting()))
    } else if (kind === KIND.frame) {
      say({ event: 'frame', peer, frame: base64(body) })
    } else if (kind === KIND.ping) {
      stream.send(item(KIND.pong, body))
    } else if (kind === KIND.bye) {
      say({ event: 'bye', peer, ...decode(body) })
    }
  }
})
node.services.pubsub.addEventListener('message', ({ detail }) => {
  say({ event: 'gossip', topic: detail.topic, from: detail.from?.toString(), frame: base64(detail.data) })
})
node.services.pubsub.addEventListener('subscription-change', ({ detail }) => {
  say({ event: 'subscriptions', peer: detail.peerId.toString(), topics: detail.subscriptions.map((s) => s.topic) })
})

let connection, stream
const commands = {
  async dial ({ address }) {
    connection = await node.dial(multiaddr(address))
    return { peer: connection.remotePeer.toString() }
  },
  async identify () {
    const { agentVersion, protocols, listenAddrs } = await node.services.identify.identify(connection)
    return { agentVersion, protocols, addresses: listenAddrs.map(String) }
  },
  async ping () {
    return { ms: await node.services.ping.ping(connection.remotePeer) }
  },
  async open () {
    stream = await connection.newStream(FRAMES)
    stream.send(item(KIND.hello, greeting()))
    for await (const { kind, body } of items(stream)) {
      return { kind, ...decode(body) }
    }
  },
  async send ({ frame }) {
    const bytes = Buffer.from(frame, 'base64')
    if (!stream.send(item(KIND.frame, bytes))) await stream.onDrain()
    return {}
  },
  async subscribe ({ topic }) {
    node.services.pubsub.subscribe(topic)
    return {}
  },
  async publish ({ topic, frame }) {
    const { recipients } = await node.services.pubsub.publish(topic, Buffer.from(frame, 'base64'))
    return { recipients: recipients.length }
  },
  async hangup () {
    await connection.close()
    return {}
  },
  async stop () {
    await node.stop()
    return {}
  }
}

say({ event: 'ready', peer: node.peerId.toString(), addresses: node.getMultiaddrs().map(String) })
for await (const line of createInterface({ input: process.stdin })) {
  const { id, command, ...rest } = JSON.parse(line)
  commands[command](rest).then(
    (answer) => say({ id, ...answer }),
    (error) => say({ id, error: String(error?.stack ?? error) })
  )
}
process.exit(0)
