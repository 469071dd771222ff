// An upstream that answers before it has the whole request, and closes: what it said counts, as far as it is whole.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { test } from 'node:test'
import { connect, createSecureContext, TLSSocket } from 'node:tls'
import { poolLimits, upstreamOptions } from '../../src/gates/options.ts'
import type { Deadline } from '../../src/http1/deadlines.ts'
import type { AnswerEvents, UpstreamExchange, UpstreamRequest } from '../../src/http1/exchange.ts'
import { createUpstreamConnection } from '../../src/http1/upstream-connection.ts'
import { createAuthority, skipWithoutOpenssl as skip } from '../support/certificates.ts'
import { settle, until } from '../support/until.ts'
import type { Pair } from './pair.ts'
import { openPair } from './pair.ts'

import { plain } from './upstream-peer.ts'

const posted = { ...plain, method: 'POST', framing: 10_000_000, repeatable: false } as const
const nothing = () => {}

/** A connection to `far`, and all that it tells. */
async function openUpstream(opening: Promise<Pair> = openPair()) {
  const pair = await opening
  const told: string[] = []
  let exchange: UpstreamExchange | undefined
  let nowMs = 0
  const watched: Deadline[] = []
  const connection = createUpstreamConnection(
    (received) => ({ socket: pair.near.on('data', received), ready: 'connect' }),
    poolLimits(upstreamOptions.parse({})),
    { nowMs: () => nowMs, watch: (deadline) => void watched.push(deadline), unwatch: nothing },
    {
      connected: nothing,
      answered: nothing,
      idle: () => told.push('idle'),
      failed: (problem, { isUnlucky, isUnsent }) =>
        told.push(`${isUnlucky ? 'unlucky ' : ''}${isUnsent ? 'unsent ' : ''}${problem}`),
      closed: () => told.push('closed'),
    },
  )
  pair.near.emit('connect')
  const events: AnswerEvents = {
    opened(opened) {
      exchange = opened
    },
    head: ({ status }) => void told.push(`${status}`),
    data: (bytes) => void told.push(bytes.toString('latin1')),
    end: () => void told.push('end'),
    flush: nothing,
    drained: nothing,
    failed: (problem) => void told.push(`failed ${problem}`),
    switched: () => assert.fail(),
  }
  return {
    ...pair,
    told,
    send: (request: UpstreamRequest = posted) => connection.send(request, events),
    write: (bytes = 60_000) => exchange?.write(Buffer.alloc(bytes, 'x')),
    flush: () => exchange?.flush(),
    finish: () => exchange?.end([]),
    pass: (ms: number) => {
      nowMs += ms
    },
    deadlineMs: () => (watched[0]?.atMs ?? 0) - nowMs,
    expire: () => watched[0]?.expire(),
    /** Resolves once so many things were told. */
    tells: (count: number) =>
      until(
        () => told.length >= count,
        () => `${count} things in ${told.join(', ')}`,
      ),
  }
}

/** The same under TLS: what is written at the far end is on its way at once, and then only the connection below it ends. */
async function openTlsPair(): Promise<Pair> {
  using authority = createAuthority()
  const { cert, key } = authority.issue('app', { names: 'DNS:app.test' })
  const below = await openPair()
  const far = new TLSSocket(below.far, { isServer: true, secureContext: createSecureContext({ cert, key }) })
  const near = connect({ socket: below.near, ca: authority.ca, servername: 'app.test' })
  near.on('error', nothing)
  far.on('error', nothing)
  await once(near, 'secureConnect')
  await settle()
  return { ...below, near, far: Object.assign(far, { resetAndDestroy: () => below.far.resetAndDestroy() }) }
}

/** One that has answered before. */
async function openServed() {
  const it = await openUpstream()
  it.send(plain)
  await settle()
  it.far.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok', 'latin1')
  await it.tells(4)
  assert.deepEqual(it.told.splice(0), ['200', 'ok', 'idle', 'end'])
  return it
}

/** One that is gone in the middle of a request, which only a write has been told of. */
async function openDeaf() {
  const it = await openUpstream()
  it.send()
  it.write()
  await settle()
  it.far.resetAndDestroy()
  it.write()
  return it
}

const spoken = [
  {
    says: 'a whole answer',
    text: 'HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno',
    told: ['413', 'no', 'closed', 'end'],
  },
  {
    says: 'a whole answer in chunks',
    text: 'HTTP/1.1 413 No\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n',
    told: ['413', 'no', 'closed', 'end'],
  },
  // It refuses nothing, and might be followed by another: only the write says that there is nobody to follow it.
  {
    says: 'a whole answer that refuses nothing',
    text: 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok',
    told: ['200', 'ok', 'closed', 'end'],
  },
  {
    says: 'a part of an answer',
    text: 'HTTP/1.1 413 No\r\nContent-Length: 9\r\n\r\nno',
    told: ['413', 'no', 'closed', 'failed reset'],
  },
  {
    says: 'an answer that would end with the connection',
    text: 'HTTP/1.1 413 No\r\n\r\nno',
    told: ['413', 'no', 'closed', 'failed reset'],
  },
  { says: 'half of a head', text: 'HTTP/1.1 413 No\r\nConte', told: ['closed', 'reset'] },
  { says: 'nothing', text: '', told: ['closed', 'reset'] },
] as const
for (const { says, text, told } of spoken)
  for (const isWhole of [false, true])
    for (const by of ['TCP', 'TLS'] as const)
      test(`createUpstreamConnection() takes ${says} of an upstream that is gone when ${isWhole ? 'the last' : 'more'} of a request is written by ${by}`, {
        skip: by === 'TLS' && skip,
      }, async () => {
        await using it = await openUpstream(by === 'TLS' ? openTlsPair() : openPair())
        it.send()
        it.write()
        await settle()

        if (text !== '') it.far.write(text, 'latin1')
        it.far.resetAndDestroy()
        // Not read yet: the write is told that the connection is no more.
        it.write()
        if (isWhole) it.finish()
        await it.tells(told.length)

        assert.deepEqual(it.told, told)
        assert.equal(it.near.destroyed, true)
      })

test('createUpstreamConnection() takes nothing for an answer to a request of which it has not written a byte', async () => {
  await using it = await openServed()

  // Had enough of waiting, say; it comes in the turn in which somebody asks.
  it.far.write('HTTP/1.1 408 Request Timeout\r\nContent-Length: 2\r\n\r\nno', 'latin1')
  it.send(plain)
  await it.tells(2)

  assert.deepEqual(it.told, ['closed', 'unlucky unsent reset'])
})

for (const { what, request } of [
  { what: 'a request without a body', request: plain },
  { what: 'a request with an empty body', request: { ...posted, framing: 0 } },
  { what: 'a request of whose body a little is there', request: posted },
  { what: 'a request of whose body much is there', request: posted },
])
  test(`createUpstreamConnection() takes no answer to ${what} from an upstream that was gone before it`, async () => {
    await using it = await openServed()

    await new Promise(setImmediate)
    // What is written in this turn is told that the connection is no more, before anything is read.
    setImmediate(() => {
      it.far.write('HTTP/1.1 408 Request Timeout\r\nContent-Length: 2\r\n\r\nno', 'latin1')
      it.far.resetAndDestroy()
      if (what.endsWith('much is there')) it.write()
    })
    it.send(request)
    if (what.endsWith('little is there')) {
      it.write(10)
      it.flush()
    }
    await it.tells(2)

    assert.deepEqual(it.told, ['closed', 'unlucky reset'])
  })

test('createUpstreamConnection() takes all of an answer whose beginning it has read when more of the request is written', async () => {
  await using it = await openUpstream()
  it.send()
  it.write()
  await settle()
  it.far.write('HTTP/1.1 413 No\r\nContent-Length: 4\r\n\r\nno', 'latin1')
  await it.tells(2)

  it.far.write('no', 'latin1')
  it.far.resetAndDestroy()
  it.write()
  await it.tells(5)

  assert.deepEqual(it.told, ['413', 'no', 'no', 'closed', 'end'])
})

test('createUpstreamConnection() gives an upstream that reads no more no time for what still comes of a request, nor for the client', async () => {
  await using it = await openDeaf()
  const before = it.deadlineMs()
  it.pass(1000)
  it.write()
  assert.equal(it.deadlineMs(), before - 1000)

  // Reading would tell; where it does not (half of a Unix socket can be shut), time does.
  it.pass(before)
  it.expire()
  assert.deepEqual(it.told, ['closed', 'timeout'])
})

test('createUpstreamConnection() gives an upstream that reads no more no time for the end of a request', async () => {
  await using it = await openDeaf()
  const before = it.deadlineMs()
  it.pass(1000)
  it.finish()

  assert.equal(it.deadlineMs(), before - 1000)
})
