// A peer of a swarm in JavaScript, written from docs/protocol.md: it relays what is gossiped, says that it is alive, and
// asks who dials it for its swarm. It holds no records, so it answers to a sync that it is busy.
//
//     node peer.mjs SWARM_ID [aside]
//
// With "aside" it is in nobody's mesh: what it hears and passes on goes by IHAVE and IWANT alone. One line of JSON for
// each thing that happens; ends with its standard input.

import './node20.mjs'

import { yamux } from '@chainsafe/libp2p-yamux'
import { publicKeyFromRaw } from '@libp2p/crypto/keys'
import { gossipsub } from '@libp2p/gossipsub'
import { identify } from '@libp2p/identify'
import { noise } from '@libp2p/noise'
import { tcp } from '@libp2p/tcp'
import { decode, encode } from '@msgpack/msgpack'
import { createHash } from 'node:crypto'
import { createLibp2p } from 'libp2p'

const swarmId = process.argv[2]
const topic = `waggle/${swarmId}`
const say = (event, fields = {}) => console.log(JSON.stringify({ event, ...fields }))

// docs/protocol.md, "Records"
async function open (wire) {
  const [version, kind, swarm, author, body, signature] = decode(wire)
  const signed = Buffer.concat([Buffer.from('waggle-record'), Buffer.from([version, kind]), swarm, author, body])
  const id = createHash('sha256').update(signed).digest('hex')
  const valid = await publicKeyFromRaw(author).verify(signed, signature)
  return { id, kind, valid, swarm: Buffer.from(swarm).toString('hex'), statement: decode(body) }
}

// docs/protocol.md, "Gossip": both sides name a message alike, or neither knows what it has of what the other offers
const messageId = ({ topic, data }) =>
  createHash('sha256').update(topic).update(Buffer.from([0])).update(data).digest()

// docs/protocol.md, "Streams": frames of four bytes of length, big-endian, and a msgpack array
const frame = (fields) => {
  const body = encode(fields)
  const length = Buffer.alloc(4)
  length.writeUInt32BE(body.length)
  return Buffer.concat([length, body])
}

async function * frames (stream) {
  let held = Buffer.alloc(0)
  for await (const piece of stream) {
    held = Buffer.concat([held, piece.subarray()])
    while (held.length >= 4 && held.length >= 4 + held.readUInt32BE(0)) {
      const end = 4 + held.readUInt32BE(0)
      yield decode(held.subarray(4, end))
      held = held.subarray(end)
    }
  }
}

const mesh = process.argv[3] === 'aside' ? { D: 0, Dlo: 0, Dhi: 0, Dscore: 0, Dout: 0 } : {}

const node = await createLibp2p({
  addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
  transports: [tcp()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()],
  services: {
    identify: identify(),
    pubsub: gossipsub({
      globalSignaturePolicy: 'StrictSign', allowPublishToZeroTopicPeers: true, msgIdFn: messageId, ...mesh
    })
  }
})

node.addEventListener('peer:identify', ({ detail }) => {
  say('identified', { peer: detail.peerId.toString(), agent: detail.agentVersion, protocols: detail.protocols.sort() })
})

node.services.pubsub.addEventListener('message', async ({ detail }) => {
  const { id, kind, valid, swarm, statement } = await open(detail.data)
  say('record', { id, kind, valid, swarm, text: statement.text ?? null })
})

await node.handle('/waggle/sync/2', async (stream) => {
  for await (const [word, swarm] of frames(stream)) {
    say('sync', { word, swarm: Buffer.from(swarm).toString('hex') })
    stream.send(frame(['busy']))
    await stream.close()
    return
  }
})

await node.handle('/waggle/alive/1', async (stream) => {
  const timer = setInterval(() => stream.send(frame(['alive'])), 5000)
  try {
    for await (const [word] of frames(stream)) say(word)
  } catch {} finally {
    clearInterval(timer)
  }
})

node.addEventListener('peer:connect', async ({ detail }) => {
  const stream = await node.dialProtocol(detail, '/waggle/hello/1')
  for await (const [word, swarm, name] of frames(stream)) {
    say(word, { swarm: Buffer.from(swarm).toString('hex'), name })
    return
  }
})

node.services.pubsub.subscribe(topic)
say('listening', { address: node.getMultiaddrs()[0].toString() })
process.stdin.resume()
process.stdin.on('end', () => process.exit(0))
