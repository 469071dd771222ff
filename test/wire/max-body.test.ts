import assert from 'node:assert/strict'
import { test } from 'node:test'
import { valuesOf } from '../support/strict-reader.ts'
import { until } from '../support/until.ts'
import type { Connection } from './line.ts'
import { openConnection, reasonOf } from './line.ts'
import { openScripted, openWorldBefore } from './scripted-upstream.ts'
import type { WireWorld } from './world.ts'
import { openWireWorld } from './world.ts'

const most = 1000
const rules = [
  { id: 'open', match: { path: '/open/**' }, public: true, max_body: most },
  { id: 'none', match: { path: '/none' }, public: true, max_body: 0 },
  { id: 'orders', match: { path: '/orders/**' }, scopes: ['read'], max_body: most },
] as const

const counted = (bytes: number, path = '/open/a', lines = '') =>
  `POST ${path} HTTP/1.1\r\nHost: a.test\r\n${lines}Content-Length: ${bytes}\r\n\r\n`
const chunkedHead = 'POST /open/a HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n'
const chunk = (bytes: number) => `${bytes.toString(16)}\r\n${'x'.repeat(bytes)}\r\n`

/** Sends bytes, and tells status and reason of what comes. */
async function became(connection: Connection, bytes: string): Promise<readonly [number, string, string]> {
  await connection.write(bytes)
  const next = await connection.next('POST')
  assert.ok(next.kind === 'answer', JSON.stringify(next))
  assert.equal(next.interim, 0, 'a 100 for a body nobody wants')
  const closes = valuesOf(next.answer, 'connection').includes('close') ? 'closes' : 'stays'
  return [next.answer.status, reasonOf(next.answer), closes]
}

const tooLarge = [413, 'too_large'] as const
const fine = [200, 'ok', 'stays'] as const
const cases = [
  { name: 'a length at the limit', bytes: counted(most) + 'x'.repeat(most), wanted: fine },
  { name: 'a length one past it', bytes: counted(most + 1) + 'x'.repeat(most + 1), wanted: [...tooLarge, 'stays'] },
  { name: 'a length far past it', bytes: counted(10_000_000), wanted: [...tooLarge, 'closes'] },
  { name: 'a body that waits for a 100', bytes: counted(1e9, '/open/a', 'Expect: 100-continue\r\n'), wanted: tooLarge },
  { name: 'chunks at the limit', bytes: `${chunkedHead}${chunk(400).repeat(2)}${chunk(200)}0\r\n\r\n`, wanted: fine },
  {
    name: 'chunks one past it',
    bytes: `${chunkedHead}${chunk(400).repeat(2)}${chunk(201)}0\r\n\r\n`,
    wanted: tooLarge,
  },
  { name: 'one chunk past it', bytes: `${chunkedHead}${chunk(most + 1)}`, wanted: [...tooLarge, 'closes'] },
  { name: 'one chunk that is only begun', bytes: `${chunkedHead}fffff\r\n${'x'.repeat(most + 1)}`, wanted: tooLarge },
  { name: 'a byte where none may be', bytes: `${counted(1, '/none')}x`, wanted: tooLarge },
  { name: 'no body where none may be', bytes: 'GET /none HTTP/1.1\r\nHost: a.test\r\n\r\n', wanted: fine },
  {
    name: 'a body past the limit without a token',
    bytes: counted(most + 1, '/orders/7') + 'x'.repeat(most + 1),
    wanted: [401, 'token_missing', 'stays'],
  },
] as const

for (const { name, bytes, wanted } of cases)
  test(`max_body: ${name} is ${wanted[0]}, and what is refused is never whole at the upstream`, async () => {
    await using wire = await openWireWorld({ rules })
    using connection = await openConnection(wire.port)

    const [status, reason, closes] = await became(connection, bytes)

    assert.deepEqual([status, reason, closes].slice(0, wanted.length), wanted)
    assert.equal(wire.recorder.count(), status === 200 ? 1 : 0)
    await settle(wire, connection, closes)
  })

/** What comes next is served: on the same connection where it stays. */
async function settle(wire: WireWorld, connection: Connection, closes: string): Promise<void> {
  using other = await openConnection(wire.port)
  const before = wire.recorder.count()
  assert.deepEqual(await became(closes === 'stays' ? connection : other, `${counted(2)}ok`), fine)
  assert.equal(wire.recorder.count(), before + 1)
  for (let number = 0; number <= before; number += 1) wire.recorder.take(number)
  wire.assertBooks()
  if (closes === 'closes') assert.equal((await connection.next()).kind, 'closed')
}

test('max_body is refused with 413 where a length says so, counted as a denial, and otherwise ends an allowed request', async () => {
  await using wire = await openWireWorld({ rules })

  for (const bytes of [counted(most + 1), `${chunkedHead}${chunk(most + 1)}`]) {
    using connection = await openConnection(wire.port)
    await became(connection, bytes)
  }

  assert.deepEqual(wire.decisions(), { allowed: 1, denied: 1 })
  const rows = [...wire.world.app.counters()].filter(([series]) => series.includes('reason="too_large"'))
  assert.equal(
    rows.reduce((sum, [, value]) => sum + value, 0),
    1,
  )
})

test('max_body cuts the client off once an answer has begun, and lets the upstream go', async () => {
  await using upstream = await openScripted(() => {})
  upstream.onHead = (socket) => void socket.write('HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf', 'latin1')
  await using world = await openWorldBefore(upstream, {}, rules)
  using connection = await openConnection(world.app.ports.proxy)
  await connection.write(chunkedHead + chunk(1))
  await until(() => connection.socket.bytesRead > 0, 'the answer to begin')

  await connection.write(chunk(most))

  const next = await connection.next('POST')
  assert.ok(next.kind === 'closed' && next.rest.endsWith('half'), JSON.stringify(next))
  await until(() => upstream.connections().now === 0, 'the upstream to be let go')
  assert.equal(upstream.asked.length, 0)
})
