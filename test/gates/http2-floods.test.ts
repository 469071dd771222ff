// Clients of the HTTP/2 front door that mean it ill: so much of it is borne, and no more.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { FrameClient } from '../support/h2-frames.ts'
import {
  codes,
  connectFrames,
  encodeFields,
  flags,
  frame,
  headers,
  outcomeOf,
  requestFields,
  reset,
  windowUpdate,
} from '../support/h2-frames.ts'
import { until } from '../support/until.ts'
import { openDoor, openUpstream } from './door.ts'
import { endOf, isGoaway, openPair, plain, settled, slow } from './http2-pair.ts'

test('serveHttp2() bears 300 requests taken back within a second, and aborts each at the upstream', async () => {
  await using pair = await openPair()
  using client = connectFrames(pair.port)

  for (let at = 0; at < 300; at += 1) {
    client.send(headers(1 + at * 2, slow))
    if (at % 20 === 19) await until(() => pair.door.decisions.length === at + 1, 'decisions')
    if (at % 20 === 19) for (let back = at - 19; back <= at; back += 1) client.send(reset(1 + back * 2, codes.cancel))
  }
  client.send(headers(601, plain))

  assert.equal(await outcomeOf(client, 601), '200')
  await until(() => pair.door.exchanges.length === 301, 'the end of all')
  assert.ok(pair.door.exchanges.slice(0, 300).every(({ status }) => status === 0))
  await until(() => pair.waiting.length === pair.aborted(), 'aborts')
})

for (const count of [350, 1000]) {
  test(`serveHttp2() ends the session of whoever takes back ${count} requests in a second (CVE-2023-44487)`, async () => {
    await using pair = await openPair()
    using client = connectFrames(pair.port)

    const flood: Buffer[] = []
    for (let at = 0; at < count; at += 1) flood.push(headers(1 + at * 2, slow), reset(1 + at * 2, codes.cancel))
    client.send(...flood)

    assert.equal(await endOf(client), codes.calm)
    await until(() => pair.door.door.connections() === 0, 'the connection to be gone')
    assert.ok(pair.door.decisions.length <= 302, `${pair.door.decisions.length} requests were judged`)
    await until(() => pair.waiting.length === pair.aborted(), 'aborts')
  })
}

test('serveHttp2() goes on after hundreds of answers that a client has called off before it took them', async () => {
  await using pair = await openPair()
  // RFC 9113 §6.5.2: SETTINGS_INITIAL_WINDOW_SIZE, 0. So all that is answered waits.
  using client = connectFrames(pair.port, Buffer.of(0, 4, 0, 0, 0, 0))
  let stream = 1
  for (let round = 0; round < 3; round += 1) {
    const ids = Array.from({ length: 90 }, (_, at) => stream + at * 2)
    stream += 180
    client.send(...ids.map((id) => headers(id, requestFields('/big'))))
    for (const id of ids) await client.frame((each) => each.type === 'headers' && each.stream === id)
    client.send(...ids.map((id) => reset(id, codes.cancel)))
    // 300 in a second are borne.
    await sleep(1010)
  }

  client.send(headers(stream, plain), windowUpdate(stream, 1000))

  assert.equal(await outcomeOf(client, stream), '200')
})

for (const { answer, method, window } of [
  { answer: 'an answer that waits', method: 'GET', window: 0 },
  // Its stream has ended for us when it is taken back, and only the sending is left.
  { answer: 'an answer that is a head only', method: 'HEAD', window: 65_535 },
]) {
  test(`serveHttp2() ends the session of a client that reads nothing and takes ${answer} back, however slowly`, async (context) => {
    let nowMs = 5000
    context.mock.method(performance, 'now', () => nowMs)
    await using upstream = await openUpstream((_, response) => {
      for (const name of ['x-a', 'x-b', 'x-c', 'x-d']) response.setHeader(name, 'a'.repeat(12_000))
      response.end('ok')
    })
    await using door = await openDoor(upstream.port)
    // RFC 9113 §6.5.2: SETTINGS_INITIAL_WINDOW_SIZE.
    const settings = Buffer.of(0, 4, 0, 0, 0, 0)
    settings.writeUInt32BE(window, 2)
    using client = connectFrames(door.door.port, settings)
    await settled(client)
    client.socket.pause()
    let stream = 1
    for (let round = 0; round < 20 && door.door.connections() > 0; round += 1) {
      const ids = Array.from({ length: 90 }, (_, at) => stream + at * 2)
      stream += 180
      client.send(...ids.map((id) => headers(id, requestFields('/a', [], method))))
      // Not 300 in a second, for us.
      await sleep(500)
      nowMs += 1000
      client.send(...ids.map((id) => reset(id, codes.cancel)))
    }

    assert.equal(door.door.connections(), 0)
    assert.ok(door.decisions.length > 200, 'frames that can wait do')
  })
}

test('serveHttp2() judges nothing that comes behind the request too many that was taken back', async (context) => {
  // The second in which they are counted does not pass.
  context.mock.method(performance, 'now', () => 5000)
  await using pair = await openPair()
  using client = connectFrames(pair.port)
  await settled(client)
  const takeBack = (at: number) => [headers(1 + at * 2, slow), reset(1 + at * 2, codes.cancel)]
  for (let from = 0; from < 300; from += 50) {
    client.send(...Array.from({ length: 50 }, (_, at) => takeBack(from + at)).flat())
    await until(() => pair.door.exchanges.length === from + 50, 'the end of fifty')
  }

  client.send(...takeBack(300), headers(603, plain), headers(605, plain))

  assert.equal(await endOf(client), codes.calm)
  assert.equal(pair.door.decisions.length, 301)
})

/** What makes a server reset a stream that it serves (CVE-2025-8671), `stream` being open and its request under way. */
const provoked: readonly { readonly how: string; readonly frames: (stream: number) => Buffer }[] = [
  { how: 'a window of more than 2^31', frames: (stream) => windowUpdate(stream, 2 ** 31 - 1) },
  { how: 'DATA on a stream that the client has ended', frames: (stream) => frame('data', 0, stream, 'x') },
  { how: 'HEADERS on a stream that the client has ended', frames: (stream) => headers(stream, [['x-a', 'b']]) },
]
for (const { how, frames } of provoked) {
  test(`serveHttp2() ends the session of whoever provokes resets with ${how}`, async () => {
    await using pair = await openPair()
    using client = connectFrames(pair.port)
    await settled(client)

    for (let at = 0; at < 302; at += 1) client.send(headers(1 + at * 2, slow), frames(1 + at * 2))

    assert.notEqual(await endOf(client), codes.noError)
    assert.ok(pair.door.decisions.length <= 302)
    await until(() => pair.waiting.length === pair.aborted(), 'aborts')
  })
}

test('serveHttp2() ends the session of whoever breaks more than 300 bodies in a second, and not before', async () => {
  await using pair = await openPair()
  using client = connectFrames(pair.port)
  await settled(client)
  const post = requestFields('/slow', [], 'POST')
  const spoil = (stream: number) => client.send(headers(stream, post, false), headers(stream, [['x-a', ' spaced']]))

  client.send(windowUpdate(0, 1_000_000))
  for (let from = 0; from < 300; from += 50) {
    const batch = Array.from({ length: 50 }, (_, at) => 1 + (from + at) * 2)
    for (const stream of batch) spoil(stream)
    for (const stream of batch) assert.equal(await outcomeOf(client, stream), '400 request_malformed')
  }
  spoil(601)

  assert.equal(await endOf(client), codes.calm)
  await until(() => pair.waiting.length === pair.aborted(), 'aborts')
})

test('serveHttp2() bears a client that stops each of 600 bodies whose refusal it has: what others ask goes on', async () => {
  await using pair = await openPair()
  using client = connectFrames(pair.port)
  const refused = requestFields('/a%2Fb', [], 'POST')
  client.send(windowUpdate(0, 1_000_000))
  const stream = (at: number) => 1 + at * 2

  for (let from = 0; from < 600; from += 50) {
    const batch = Array.from({ length: 50 }, (_, at) => from + at)
    for (const at of batch) client.send(headers(stream(at), refused, false))
    for (const at of batch) assert.equal(await outcomeOf(client, stream(at)), '400 path_rejected')
    for (const at of batch) client.send(reset(stream(at), codes.noError))
  }
  client.send(headers(stream(600), plain))

  assert.equal(await outcomeOf(client, stream(600)), '200')
})

test('serveHttp2() lets a session send a mebibyte before it has to wait, whatever its streams', async () => {
  await using pair = await openPair()
  using client = connectFrames(pair.port)

  await settled(client)

  const more = client.frames.find(({ type, stream }) => type === 'window_update' && stream === 0)
  assert.equal(more?.payload.readUInt32BE(0), 1_048_576 - 65_535)
})

/** A head in so many frames. */
function inFrames(stream: number, continuations: number): Buffer {
  const block = encodeFields(plain)
  const rest = Array.from({ length: continuations }, (_, at) => {
    const isEnd = at === continuations - 1
    return frame('continuation', isEnd ? flags.endHeaders : 0, stream, isEnd ? block.subarray(20) : '')
  })
  return Buffer.concat([frame('headers', flags.endStream, stream, block.subarray(0, 20)), ...rest])
}

test('serveHttp2() reads a head of 8 CONTINUATION frames', async () => {
  await using pair = await openPair()
  using client = connectFrames(pair.port)

  client.send(inFrames(1, 8))

  assert.equal(await outcomeOf(client, 1), '200')
})

test('serveHttp2() ends the session for a head of 9 CONTINUATION frames', async () => {
  await using pair = await openPair()
  using client = connectFrames(pair.port)

  client.send(inFrames(1, 9))

  await client.closed
  assert.equal(pair.door.decisions.length, 0)
})

const floods = [
  { what: 'SETTINGS', payload: frame('settings', 0, 0, ''), bears: 500 },
  { what: 'PING', payload: frame('ping', 0, 0, 'x'.repeat(8)), bears: 500 },
] as const
for (const { what, payload, bears } of floods) {
  test(`serveHttp2() answers ${bears} ${what}, and ends the session of whoever sends a lot and reads nothing`, async () => {
    await using pair = await openPair()
    using patient = connectFrames(pair.port)
    patient.send(Buffer.concat(Array.from({ length: bears }, () => payload)))
    patient.send(headers(1, plain))
    assert.equal(await outcomeOf(patient, 1), '200')
    using rude = connectFrames(pair.port)
    await settled(rude)
    rude.socket.pause()

    const many = Buffer.concat(Array.from({ length: 10_000 }, () => payload))
    let isCut = false
    rude.socket.on('error', () => {
      isCut = true
    })
    for (let sent = 0; sent < 300 && !isCut && pair.door.door.connections() > 1; sent += 1) {
      rude.send(many)
      await sleep(2)
    }

    await until(() => pair.door.door.connections() === 1, 'the flood to be cut off')
  })
}

test('serveHttp2() bears 2000 empty frames, and ends the session of whoever goes on so', async () => {
  await using pair = await openPair()
  using client = connectFrames(pair.port)
  const thousand = Buffer.concat(Array.from({ length: 1000 }, () => frame('data', 0, 1, '')))
  client.send(headers(1, requestFields('/a', [], 'POST'), false), thousand, thousand)
  await settled(client)

  // What nghttp2 bears at once, and what it forgets meanwhile.
  for (let sent = 0; sent < 10; sent += 1) client.send(thousand)

  assert.equal(await endOf(client), codes.calm)
  await until(() => pair.door.exchanges.length === 1, 'its end')
})

const tooLong = [['content-length', '1']] as const
const longer = (stream: number) => frame('data', flags.endStream, stream, 'ab')
/** What is wrong with a message, and costs its stream; `behind` is sent once there is an answer. */
const wrong: readonly {
  readonly what: string
  readonly frames: (stream: number) => readonly Buffer[]
  readonly behind?: (stream: number) => Buffer
}[] = [
  {
    what: 'bodies that are longer than their length',
    frames: (stream) => [headers(stream, requestFields('/slow', tooLong, 'POST'), false), longer(stream)],
  },
  {
    what: 'such bodies behind the refusal of their requests',
    frames: (stream) => [headers(stream, requestFields('/a%2Fb', tooLong, 'POST'), false)],
    behind: longer,
  },
  { what: 'heads that HTTP/2 has not', frames: (stream) => [headers(stream, [...plain, ['X-A', 'b']])] },
]

/** Sends fifty such messages, beginning with a stream; resolves once all of that is over. */
async function sendWrong(
  client: FrameClient,
  { frames, behind }: (typeof wrong)[number],
  first: number,
): Promise<void> {
  const ids = Array.from({ length: 50 }, (_, at) => first + at * 2)
  client.send(...ids.flatMap(frames))
  for (const id of ids) await client.stream(id)
  if (behind !== undefined) client.send(...ids.map(behind))
  await settled(client)
}

for (const each of wrong) {
  test(`serveHttp2() bears 1200 ${each.what} in the life of a session, 300 in a second`, async (context) => {
    let nowMs = 5000
    context.mock.method(performance, 'now', () => nowMs)
    await using pair = await openPair()
    using client = connectFrames(pair.port)
    client.send(windowUpdate(0, 1_000_000), headers(1, slow))
    await settled(client)

    for (let sent = 0, stream = 3; sent < 1200; sent += 50, stream += 102) {
      if (sent % 300 === 0) nowMs += 1000
      await sendWrong(client, each, stream)
      client.send(headers(stream + 100, plain))
      assert.equal(await outcomeOf(client, stream + 100), '200')
    }
    pair.waiting[0]?.end('ok')

    assert.equal(await outcomeOf(client, 1), '200')
    assert.ok(!client.frames.some(isGoaway))
  })
}

for (const each of wrong.slice(1)) {
  test(`serveHttp2() says goodbye to whoever sends 350 ${each.what} in a second, and ends what is under way`, async (context) => {
    context.mock.method(performance, 'now', () => 5000)
    await using pair = await openPair()
    using client = connectFrames(pair.port)
    client.send(windowUpdate(0, 1_000_000), headers(1, slow))
    await settled(client)
    for (let sent = 0; sent < 300; sent += 50) await sendWrong(client, each, 3 + sent * 2)
    client.send(headers(603, plain))
    assert.equal(await outcomeOf(client, 603), '200')
    assert.ok(!client.frames.some(isGoaway))

    await sendWrong(client, each, 605)
    // With it those are counted that nobody was told of.
    client.send(headers(705, plain))

    assert.equal((await client.frame(isGoaway)).payload.readUInt32BE(4), codes.noError)
    pair.waiting[0]?.end('ok')
    assert.equal(await outcomeOf(client, 1), '200')
    assert.equal(await endOf(client), codes.noError)
  })
}
