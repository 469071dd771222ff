import assert from 'node:assert/strict'
import { once } from 'node:events'
import { Socket } from 'node:net'
import { after, test } from 'node:test'
import { copiedBytes } from '../../src/http1/exchange.ts'
import { createMessageWriter } from '../../src/http1/message-writer.ts'
import type { UnreadBytes } from '../../src/http1/unread-bytes.ts'
import { boundUnread, createUnreadBytes, leastUnreadBytes, unreadBytes } from '../../src/http1/unread-bytes.ts'
import { until } from '../support/until.ts'
import { openPair } from './pair.ts'
import { get, reply, serve } from './served.ts'

const turnsEnd = () => new Promise(setImmediate)
after(() => assert.equal(unreadBytes(), 0, 'something stayed counted'))

/** One whose bytes wait until it is told otherwise. */
type Client = UnreadBytes & { waiting: number | undefined; readonly say: (bytes: number) => Client }

function answer(expelled: string[], name: string): Client {
  const unread = createUnreadBytes(
    1000,
    () => client.waiting,
    () => void expelled.push(name),
  )
  const client: Client = {
    ...unread,
    waiting: undefined,
    say(bytes) {
      client.waiting = (client.waiting ?? 0) + bytes
      unread.add(bytes)
      return client
    },
  }
  return client
}

test('boundUnread() bounds what all may have to send: at least 24 MiB', () => {
  assert.equal(leastUnreadBytes, 24 * 1_048_576)
})

test('createUnreadBytes() expels who has taken nothing for longest, in a turn of its own, and as many as are too many', async () => {
  boundUnread(0)
  const expelled: string[] = []
  const quarter = leastUnreadBytes / 4 - 1000
  const clients = ['1', '2', '3', '4'].map((name) => answer(expelled, name).say(quarter))
  await turnsEnd()
  assert.deepEqual([expelled, unreadBytes()], [[], leastUnreadBytes])

  const last = answer(expelled, '5').say(quarter + 1)
  assert.deepEqual(expelled, [])
  await turnsEnd()

  assert.deepEqual(expelled, ['1', '2'])
  for (const each of [...clients, last]) each.clear()
  assert.equal(unreadBytes(), 0)
})

test('createUnreadBytes() passes over who has taken some of it meanwhile, once, and who has taken all', async () => {
  boundUnread(0)
  const expelled: string[] = []
  const quarter = leastUnreadBytes / 4 - 1000
  const [all, some, none, other] = ['all', 'some', 'none', 'other'].map((name) => answer(expelled, name).say(quarter))
  assert.ok(all && some && none && other)
  all.waiting = undefined
  some.say(1000)
  some.waiting = quarter

  other.say(quarter + 1)
  await turnsEnd()
  assert.deepEqual(expelled, [])
  other.say(quarter - leastUnreadBytes / 16)
  await turnsEnd()
  assert.deepEqual(expelled, ['none'])
  other.waiting = undefined
  const late = answer(expelled, 'late').say(leastUnreadBytes - quarter)
  await turnsEnd()

  assert.deepEqual(expelled, ['none', 'some'])
  for (const each of [all, some, none, other, late]) each.clear()
})

test('createUnreadBytes() expels nobody for what others have taken, however much that was and whoever stands before them', async () => {
  boundUnread(0)
  const expelled: string[] = []
  const none = answer(expelled, 'none').say(50_000)
  const others = Array.from({ length: 10 }, (_, at) => answer(expelled, String(at)))

  for (let bytes = 0; bytes < 3 * leastUnreadBytes; bytes += 50_000)
    for (const each of others) {
      each.waiting = undefined
      each.say(50_000)
    }
  for (const each of others) each.say(2_400_000)
  for (const each of others) each.waiting = 10
  others[0]?.say(leastUnreadBytes - 200_000)
  await turnsEnd()

  assert.deepEqual(expelled, [])
  assert.equal(unreadBytes(), 51_000 + 1000 + 10 + leastUnreadBytes - 200_000 + 9 * 1010)
  for (const each of [none, ...others]) each.clear()
})

test('createUnreadBytes() expels no slow reader for those who take nothing, however many these are', async () => {
  boundUnread(0)
  const expelled: string[] = []
  const slow = answer(expelled, 'slow').say(50_000)
  slow.waiting = undefined
  slow.clear()
  slow.say(50_000)
  const others: Client[] = []
  // As many as make room are a sixteenth of all: a connection that takes nothing is there for sixteen of these.
  const turn = async () => {
    for (let bytes = 0; bytes < leastUnreadBytes; bytes += 50_000) others.push(answer(expelled, 'other').say(49_000))
    await turnsEnd()
  }

  for (let at = 0; at < 20; at += 1) await turn()

  assert.deepEqual([expelled.length > 8000, expelled.includes('slow')], [true, false])
  for (const each of [slow, ...others]) each.clear()
})

test('createUnreadBytes() expels who has taken something longest ago, and not who has just come, where all have', async () => {
  boundUnread(0)
  const expelled: string[] = []
  const [one, two] = ['one', 'two'].map((name) => answer(expelled, name).say(10))
  for (const each of [one, two]) {
    each?.clear()
    each?.say(leastUnreadBytes / 2 - 1010)
  }

  const late = answer(expelled, 'late').say(50_000)
  await turnsEnd()

  assert.deepEqual(expelled, ['one'])
  for (const each of [one, two, late]) each?.clear()
})

test('boundUnread() lets all have more where there is more', async () => {
  const expelled: string[] = []
  boundUnread(2 * leastUnreadBytes)
  const one = answer(expelled, 'one').say(leastUnreadBytes)
  const other = answer(expelled, 'other').say(leastUnreadBytes - 2000)
  await turnsEnd()
  assert.deepEqual(expelled, [])
  other.say(1)
  await turnsEnd()
  assert.deepEqual(expelled, ['one'])
  one.clear()
  other.clear()
})

for (const by of ['direct writes', 'a stream, as under TLS'] as const)
  for (const size of [100, copiedBytes + 1])
    test(`createMessageWriter() counts answers of ${size} bytes that wait, by ${by}, and tells when they are too many`, async () => {
      boundUnread(0)
      await using pair = await openPair()
      if (by !== 'direct writes') Object.setPrototypeOf(pair.near, Object.create(Socket.prototype))
      let expelled = 0
      const writer = createMessageWriter(pair.near, undefined, () => (expelled += 1))
      while (writer.hasRoom()) {
        writer.begin('x'.repeat(100), false)
        writer.write(Buffer.alloc(size))
        writer.end([])
        await turnsEnd()
      }
      const counted = unreadBytes()

      const other = answer([], 'other').say(leastUnreadBytes)
      await turnsEnd()

      assert.ok(counted > size + 100 && counted < 1_000_000, String(counted))
      assert.equal(expelled, 1)
      other.clear()
    })

test('createServerConnection() is reset while others have too much to send, and counts nothing any more, where nobody reads its answers', async () => {
  boundUnread(0)
  await using it = await serve((connection) => reply(connection, 'a'.repeat(50_000)), { reads: false })
  const gone = once(it.near, 'close')
  it.send(get('/a').repeat(500))
  await until(() => unreadBytes() > 0, 'an answer that waits')
  assert.equal(it.near.destroyed, false)

  const other = answer([], 'other').say(leastUnreadBytes)

  await gone
  other.clear()
  assert.equal(unreadBytes(), 0)
  // What the system had is gone, too.
  const [error] = await once(it.client.resume(), 'error')
  assert.equal(error.code, 'ECONNRESET')
})

test('createServerConnection() counts nothing of an answer that waited, once its client has left', async () => {
  boundUnread(0)
  await using it = await serve((connection) => reply(connection, 'a'.repeat(50_000)), { reads: false })
  it.send(get('/a').repeat(500))
  await until(() => unreadBytes() > 0, 'an answer that waits')

  it.client.destroy()

  await until(() => unreadBytes() === 0, 'nothing that is counted')
})

for (const by of ['direct writes', 'a stream, as under TLS'] as const)
  test(`createMessageWriter() counts nothing of an answer that was taken, by ${by}`, async () => {
    boundUnread(0)
    await using pair = await openPair()
    if (by !== 'direct writes') Object.setPrototypeOf(pair.near, Object.create(Socket.prototype))
    const writer = createMessageWriter(pair.near, undefined, () => assert.fail('expelled'))
    while (writer.hasRoom()) {
      writer.begin('x'.repeat(100), false)
      writer.write(Buffer.alloc(60_000))
      writer.end([])
      await turnsEnd()
    }
    assert.ok(unreadBytes() > 0)

    pair.far.resume()

    await until(() => unreadBytes() === 0, 'nothing that is counted')
    assert.equal(pair.near.destroyed, false)
  })

test('openTunnel() ends while others have too much to send, where nobody reads what comes', async () => {
  boundUnread(0)
  await using it = await serve((connection) => connection.switchProtocols([]), { reads: false })
  it.send(get('/a'))
  await it.tells('request GET /a')
  while (it.connection.write(Buffer.alloc(60_000)));
  assert.equal(it.near.destroyed, false)

  const other = answer([], 'other').say(leastUnreadBytes)

  await it.tells('gone')
  other.clear()
})

test('createServerConnection() counts nothing of answers that leave at once', async () => {
  boundUnread(0)
  await using it = await serve((connection) => reply(connection, 'answered'))

  it.send(get('/1') + get('/2'))

  await it.receive(/answered.*answered$/s)
  assert.equal(unreadBytes(), 0)
})
