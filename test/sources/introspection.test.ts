import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate as nextTick } from 'node:timers/promises'
import fc from 'fast-check'
import { SecretRefused } from '../../src/io/files.ts'
import type { HttpCall, HttpReply } from '../../src/io/http-client.ts'
import { HttpCallFailed } from '../../src/io/http-client.ts'
import type { Introspection } from '../../src/sources/introspection.ts'
import { createIntrospection } from '../../src/sources/introspection.ts'
import { SourceFailed } from '../../src/sources/source-failed.ts'
import type { TestClock } from '../support/clock.ts'
import { createTestClock } from '../support/clock.ts'
import { createTestLog } from '../support/log.ts'

const ever = Number.NEGATIVE_INFINITY
const jsonType = { 'content-type': 'application/json' }

function reply(status: number, body: string, headers: Record<string, string> = jsonType): HttpReply {
  const from = 'https://issuer.test/introspect'
  return { from, status, header: (name) => headers[name], body: Buffer.from(body) }
}

const active = () => reply(200, '{"active":true,"sub":"alice"}')
const inactive = () => reply(200, '{"active":false}')

/** An introspection endpoint that a test scripts, and the gateway's end of it on a clock that stands still. */
type Setup = {
  readonly clock: TestClock
  readonly calls: HttpCall[]
  readonly results: string[]
  readonly seconds: number[]
  readonly events: string[]
  readonly doubts: () => number
  answer: () => HttpReply | Promise<HttpReply>
  secret: () => string
  endpoint: () => Promise<string>
  readonly introspection: Introspection
  readonly ask: (token?: string, afterMs?: number) => ReturnType<Introspection['ask']>
  readonly kind: (token?: string, afterMs?: number) => Promise<string>
}

function setup(): Setup {
  const clock = createTestClock()
  const calls: HttpCall[] = []
  const results: string[] = []
  const seconds: number[] = []
  const events: string[] = []
  let doubts = 0
  const it: Setup = {
    doubts: () => doubts,
    clock,
    calls,
    results,
    seconds,
    events,
    answer: active,
    secret: () => 's3cret:%',
    endpoint: async () => 'https://issuer.test/introspect',
    introspection: createIntrospection(
      { issuer: 'https://issuer.test', client_id: 'gate way' },
      {
        clock,
        async send(call, limits) {
          calls.push(call)
          assert.deepEqual(limits, { maxBodyBytes: 65_536, deadlineMs: 2000 })
          return await it.answer()
        },
        endpoint: () => it.endpoint(),
        doubt: () => {
          doubts += 1
        },
        secret: () => it.secret(),
        log: createTestLog((event, fields) => void events.push(`${event} ${JSON.stringify(fields)}`)),
        observe(result, took) {
          results.push(result)
          seconds.push(took)
        },
      },
    ),
    ask: (token = 'token', afterMs = ever) => it.introspection.ask(token, afterMs),
    kind: async (token?: string, afterMs?: number) => (await it.ask(token, afterMs)).kind,
  }
  return it
}

/** Answers that come when the test says so. */
function held() {
  const open: ((answer: HttpReply) => void)[] = []
  return {
    open,
    answer: () => new Promise<HttpReply>((resolve) => void open.push(resolve)),
  }
}

function timeout(): Promise<HttpReply> {
  return Promise.reject(
    new HttpCallFailed('timeout', 'Cannot POST https://issuer.test: no whole answer within 2000 ms'),
  )
}

test('introspection.ask() posts the token with our credentials, form-encoded, and reads the claims', async () => {
  const it = setup()
  const asked = it.clock.monotonicMs()

  const found = await it.ask('to+ken=')

  assert.ok(found.kind === 'answer' && found.answer.active)
  assert.equal(found.answer.claims.sub, 'alice')
  assert.equal(found.askedMs, asked)
  const [call] = it.calls
  assert.equal(call?.method, 'POST')
  assert.equal(call?.body, 'token=to%2Bken%3D&token_type_hint=access_token')
  assert.equal(call?.headers?.['content-type'], 'application/x-www-form-urlencoded')
  assert.equal(call?.headers?.['cache-control'], 'no-cache')
  assert.equal(call?.headers?.['authorization'], `Basic ${Buffer.from('gate+way:s3cret%3A%25').toString('base64')}`)
})

test('introspection.ask() asks once for 500 who have the same token, and separately for another', async () => {
  const it = setup()
  const slow = held()
  it.answer = slow.answer
  const asked = [...Array.from({ length: 500 }, () => it.kind()), it.kind('other')]
  await nextTick()
  assert.equal(it.calls.length, 2)
  for (const open of slow.open) open(active())

  assert.deepEqual(new Set(await Promise.all(asked)), new Set(['answer']))
  assert.equal(it.calls.length, 2)
})

test('introspection.ask() keeps issuers apart: the same token is asked about at both', async () => {
  const [one, other] = [setup(), setup()]
  other.answer = inactive

  const answers = await Promise.all([one.ask('same'), other.ask('same')])

  assert.deepEqual(
    answers.map((each) => each.kind === 'answer' && each.answer.active),
    [true, false],
  )
  assert.deepEqual([one.calls.length, other.calls.length], [1, 1])
})

test('introspection.ask() lets `always` join only a flight that started after the request arrived', async () => {
  const it = setup()
  const slow = held()
  it.answer = slow.answer
  const early = it.ask()
  it.clock.pass(10)
  // Arrived while the first was under way: what it asked may have been answered before.
  const late = it.ask('token', it.clock.monotonicMs())
  it.clock.pass(10)
  const joined = it.ask('token', it.clock.monotonicMs() - 15)
  await nextTick()
  assert.equal(it.calls.length, 2)
  slow.open[0]?.(active())
  slow.open[1]?.(inactive())

  const answers = await Promise.all([early, late, joined])
  assert.deepEqual(
    answers.map((each) => each.kind === 'answer' && each.answer.active),
    [true, false, false],
  )
})

test('introspection.ask() gives a flight of the very millisecond to nobody who arrived in it', async () => {
  const it = setup()
  const slow = held()
  it.answer = slow.answer
  const asked = [it.ask(), it.ask('token', it.clock.monotonicMs())]
  await nextTick()
  assert.equal(it.calls.length, 2)
  slow.open[0]?.(active())
  slow.open[1]?.(inactive())

  assert.deepEqual(
    (await Promise.all(asked)).map((each) => each.kind === 'answer' && each.answer.active),
    [true, false],
  )
})

test('introspection.ask() says active to nobody once a question that was asked later is answered with inactive', async () => {
  const it = setup()
  const slow = held()
  it.answer = slow.answer
  const early = it.ask()
  it.clock.pass(10)
  const late = it.ask('token', it.clock.monotonicMs() - 1)
  await nextTick()
  slow.open[1]?.(inactive())
  const last = await late
  slow.open[0]?.(active())

  assert.deepEqual(await early, last)
  assert.ok(last.kind === 'answer' && !last.answer.active)
})

test('introspection.ask() goes on when whoever asked first has left, for all who joined', async () => {
  const it = setup()
  const slow = held()
  it.answer = slow.answer
  const leader = Promise.race([it.ask(), Promise.reject(new Error('the client has left'))])
  await assert.rejects(leader, /has left/)
  const joined = it.kind()
  await nextTick()
  slow.open[0]?.(active())

  assert.equal(await joined, 'answer')
  assert.equal(it.calls.length, 1)
})

test('introspection.ask() keeps an inactive answer for five seconds, an active one not at all', async () => {
  const it = setup()
  await it.ask()
  await it.ask()
  assert.equal(it.calls.length, 2, 'an active answer becomes facts elsewhere')

  it.answer = inactive
  await it.ask()
  it.answer = active
  it.clock.pass(4999)
  const kept = it.ask()
  assert.ok(!(kept instanceof Promise) && kept.kind === 'answer' && !kept.answer.active)
  assert.equal(it.calls.length, 3)

  it.clock.pass(1)
  const fresh = await it.ask()
  assert.ok(fresh.kind === 'answer' && fresh.answer.active)
})

test('introspection.ask() keeps an inactive answer for five seconds from the question, however long the issuer took', async () => {
  const it = setup()
  it.answer = () => {
    it.clock.pass(1900)
    return inactive()
  }
  await it.ask()
  it.answer = active

  it.clock.pass(3099)
  const kept = await it.ask()
  assert.ok(kept.kind === 'answer' && !kept.answer.active)
  it.clock.pass(1)
  const fresh = await it.ask()
  assert.ok(fresh.kind === 'answer' && fresh.answer.active)
})

test('introspection.ask() does not answer `always` from what is kept', async () => {
  const it = setup()
  it.answer = inactive
  await it.ask()
  it.answer = active
  const found = await it.ask('token', it.clock.monotonicMs())

  assert.ok(found.kind === 'answer' && found.answer.active)
})

test('introspection.ask() keeps at most 10,000 inactive tokens: a flood of garbage pushes out only garbage', async () => {
  const it = setup()
  it.answer = inactive
  for (let at = 0; at < 10_100; at += 1) await it.ask(`garbage-${at}`)
  it.calls.length = 0

  await it.ask('garbage-10099')
  await it.ask('garbage-100')
  assert.equal(it.calls.length, 0)
  await it.ask('garbage-99')
  assert.equal(it.calls.length, 1)
})

test('introspection.ask() keeps at most 8 MiB of inactive tokens, however few of the longest that is', async () => {
  const it = setup()
  it.answer = inactive
  const tokenOf = (at: number) => `${at}`.padStart(4096, 'a')
  // Twice its length, as key and as what it is charged for, and 200 bytes for the entry.
  const most = Math.floor((8 * 1024 * 1024) / (200 + 2 * 4096))
  for (let at = 0; at <= most; at += 1) await it.ask(tokenOf(at))
  it.calls.length = 0

  await it.ask(tokenOf(most))
  await it.ask(tokenOf(1))
  assert.equal(it.calls.length, 0)
  await it.ask(tokenOf(0))
  assert.equal(it.calls.length, 1)
})

test('introspection.ask() takes of two answers that overlap the one that was asked for later', async () => {
  const it = setup()
  const slow = held()
  it.answer = slow.answer
  const early = it.ask()
  it.clock.pass(10)
  const late = it.ask('token', it.clock.monotonicMs() - 5)
  await nextTick()
  const isActive = async (asked: ReturnType<typeof it.ask>) => {
    const found = await asked
    return found.kind === 'answer' && found.answer.active
  }

  slow.open[1]?.(inactive())
  assert.equal(await isActive(late), false)
  // It was revoked between the two: what was true before is true no more.
  slow.open[0]?.(active())

  assert.equal(await isActive(early), false)
  assert.equal(it.calls.length, 2)
})

test('introspection.ask() gives the answer to a later question to who asked before, however many questions overlap', async () => {
  const it = setup()
  const slow = held()
  it.answer = slow.answer
  const scoped = (scope: string) => reply(200, JSON.stringify({ active: true, scope }))
  const scopeOf = async (asked: ReturnType<typeof it.ask>) => {
    const found = await asked
    return found.kind === 'answer' && found.answer.active && [...found.answer.claims.scopes].join(' ')
  }
  const asked = []
  for (let at = 0; at < 4; at += 1) {
    asked.push(it.ask('token', it.clock.monotonicMs()))
    it.clock.pass(10)
  }
  await nextTick()
  const [first, second, third, fourth] = asked
  assert.ok(first && second && third && fourth)

  slow.open[1]?.(scoped('second'))
  assert.equal(await scopeOf(second), 'second')
  slow.open[3]?.(reply(503, ''))
  assert.equal((await fourth).kind, 'unavailable')
  slow.open[2]?.(scoped('third'))
  assert.equal(await scopeOf(third), 'third')
  slow.open[0]?.(scoped('first'))

  assert.equal(await scopeOf(first), 'third')
})

test('introspection.ask() gives the answer to a later question to who asked before, and whose own question failed', async () => {
  const it = setup()
  const slow = held()
  it.answer = slow.answer
  const early = it.ask()
  it.clock.pass(10)
  const late = it.ask('token', it.clock.monotonicMs() - 5)
  await nextTick()

  slow.open[1]?.(inactive())
  await late
  slow.open[0]?.(reply(503, ''))

  assert.deepEqual(await early, await late)
  assert.deepEqual(it.results, ['inactive', 'unavailable'])
})

test('introspection.ask() knows what was answered later although a question before both has ended', async () => {
  const it = setup()
  const slow = held()
  it.answer = slow.answer
  const ask = () => it.ask('token', it.clock.monotonicMs())
  const first = ask()
  it.clock.pass(10)
  const second = ask()
  it.clock.pass(10)
  await nextTick()

  slow.open[0]?.(active())
  await first
  const third = ask()
  await nextTick()
  slow.open[2]?.(inactive())
  await third
  slow.open[1]?.(active())

  assert.deepEqual(await second, await third)
})

test('introspection.ask() forgets what it was told once no question about that token is under way', async () => {
  const it = setup()
  await it.ask()
  // So that whatever were kept would seem to be the later one.
  it.clock.pass(-10)

  it.answer = () => reply(200, '{"active":true,"sub":"bob"}')
  const found = await it.ask()

  assert.ok(found.kind === 'answer' && found.answer.active && found.answer.claims.sub === 'bob')
})

test('introspection.ask() keeps no inactive answer past an active one to a later question', async () => {
  const it = setup()
  it.answer = inactive
  await it.ask()
  it.clock.pass(10)
  it.answer = active
  await it.ask('token', it.clock.monotonicMs() - 5)

  const found = await it.ask()

  assert.ok(found.kind === 'answer' && found.answer.active)
})

test('introspection.ask() reads answers of 4096 JSON members, and none of 4097', async () => {
  const it = setup()
  // `active`, `groups` and what is in it.
  const answer = (members: number) => () =>
    reply(200, JSON.stringify({ active: true, groups: Array(members - 2).fill('group') }))

  it.answer = answer(4096)
  assert.equal(await it.kind(), 'answer')
  it.answer = answer(4097)
  assert.equal(await it.kind(), 'invalid')
})

const troubles: readonly { what: string; kind: string; answer: () => HttpReply | Promise<HttpReply> }[] = [
  { what: 'a status of 500', kind: 'unavailable', answer: () => reply(500, '{"active":false}') },
  { what: 'a status of 503', kind: 'unavailable', answer: () => reply(503, '') },
  { what: 'a status of 408', kind: 'unavailable', answer: () => reply(408, '') },
  { what: 'a deadline that passes', kind: 'unavailable', answer: timeout },
  { what: 'a status of 400', kind: 'invalid', answer: () => reply(400, '{"active":false}') },
  {
    what: 'a status of 401: our own credentials are wrong',
    kind: 'invalid',
    answer: () => reply(401, '{"active":false}'),
  },
  { what: 'a status of 404', kind: 'invalid', answer: () => reply(404, '{"active":false}') },
  { what: 'a status of 201', kind: 'invalid', answer: () => reply(201, '{"active":true}') },
  { what: 'a redirect', kind: 'invalid', answer: () => reply(302, '', { location: 'https://attacker.test' }) },
  { what: 'HTML', kind: 'invalid', answer: () => reply(200, '{"active":true}', { 'content-type': 'text/html' }) },
  { what: 'no media type', kind: 'invalid', answer: () => reply(200, '{"active":true}', {}) },
  {
    what: 'a signed answer',
    kind: 'invalid',
    answer: () => reply(200, 'e.e.e', { 'content-type': 'application/token-introspection+jwt' }),
  },
  { what: 'the string "true"', kind: 'invalid', answer: () => reply(200, '{"active":"true"}') },
  { what: 'the string "false"', kind: 'invalid', answer: () => reply(200, '{"active":"false"}') },
  { what: 'active: 1', kind: 'invalid', answer: () => reply(200, '{"active":1}') },
  { what: 'active: null', kind: 'invalid', answer: () => reply(200, '{"active":null}') },
  { what: 'no active', kind: 'invalid', answer: () => reply(200, '{}') },
  { what: 'active twice', kind: 'invalid', answer: () => reply(200, '{"active":false,"active":true}') },
  { what: 'an array', kind: 'invalid', answer: () => reply(200, '[{"active":true}]') },
  { what: 'half an answer', kind: 'invalid', answer: () => reply(200, '{"active":true') },
  { what: 'an exp that is text', kind: 'invalid', answer: () => reply(200, '{"active":true,"exp":"9"}') },
]
for (const { what, kind, answer } of troubles) {
  test(`introspection.ask() is ${kind} on ${what}: no verdict, and none is kept`, async () => {
    const it = setup()
    it.answer = answer
    assert.equal(await it.kind(), kind)
    assert.deepEqual(it.results, [kind])

    it.answer = active
    assert.equal(await it.kind(), 'answer')
    assert.deepEqual(
      it.events.map((line) => line.split(' ')[0]),
      ['introspection_failed', 'introspection_recovered'],
    )
  })
}

test('introspection.ask() says what is wrong once, and again after a minute of it', async () => {
  const it = setup()
  it.answer = () => reply(404, '')
  for (let at = 0; at < 125; at += 1) {
    await it.kind()
    it.clock.pass(1000)
  }

  assert.deepEqual(
    it.events.map((line) => line.split(' ')[0]),
    ['introspection_failed', 'introspection_failed', 'introspection_failed'],
  )
})

const told: readonly { answer: HttpReply; says: string }[] = [
  { answer: reply(503, ''), says: 'Cannot introspect at https://issuer.test/introspect: status is 503, wanted 200' },
  {
    answer: reply(401, '{"error":"invalid_client"}'),
    says: 'Cannot use introspection answer of https://issuer.test/introspect: status is 401 (invalid_client), wanted 200',
  },
  {
    answer: reply(404, ''),
    says: 'Cannot use introspection answer of https://issuer.test/introspect: status is 404, wanted 200',
  },
  {
    answer: reply(200, '\ufeff{"active":true}'),
    says: 'Cannot use introspection answer of https://issuer.test/introspect: Cannot parse JSON: no value at offset 0',
  },
]
for (const { answer, says } of told) {
  test(`introspection.state() says who answered what: ${says}`, async () => {
    const it = setup()
    it.answer = () => answer
    await it.ask()
    assert.equal(it.introspection.state().failure, says)
  })
}

const connectFailed = () =>
  Promise.reject(new HttpCallFailed('connect', 'Cannot POST https://issuer.test: ECONNREFUSED'))
const addresses: readonly { what: string; doubts: number; answer: () => HttpReply | Promise<HttpReply> }[] = [
  ...[301, 302, 303, 307, 308, 400, 401, 403, 404, 405, 410, 500, 502, 503].map((status) => {
    return { what: `a status of ${status}`, doubts: 1, answer: () => reply(status, '{}') }
  }),
  { what: 'a page in place of an answer', doubts: 1, answer: () => reply(200, '<html>') },
  { what: 'a connection that is refused', doubts: 1, answer: connectFailed },
  { what: 'a deadline that passes', doubts: 1, answer: timeout },
  ...(['reset', 'too_large', 'encoded', 'protocol'] as const).map((kind) => {
    const answer = () => Promise.reject(new HttpCallFailed(kind, 'Cannot POST https://issuer.test'))
    return { what: `no answer (${kind})`, doubts: 1, answer }
  }),
  ...[200, 408, 429].map((status) => {
    return { what: `a status of ${status}`, doubts: 0, answer: () => reply(status, '{"active":false}') }
  }),
]
for (const { what, doubts, answer } of addresses) {
  test(`introspection.ask() ${doubts === 1 ? 'doubts the address' : 'does not doubt the address'} on ${what}`, async () => {
    const it = setup()
    it.answer = answer
    await it.ask()
    assert.equal(it.doubts(), doubts)
  })
}

test('introspection.ask() never says active of a body that does not, whatever it is', async () => {
  await fc.assert(
    fc.asyncProperty(fc.oneof(fc.json(), fc.string(), fc.string({ unit: 'binary' })), async (body) => {
      const it = setup()
      it.answer = () => reply(200, body)
      const found = await it.ask()
      assert.ok(!(found.kind === 'answer' && found.answer.active) || /"active"\s*:\s*true/.test(body))
    }),
    { numRuns: 500 },
  )
})

test('introspection.ask() sends at most 64 at a time, lets 256 wait, and refuses the rest as overloaded', async () => {
  const it = setup()
  const slow = held()
  it.answer = slow.answer
  const asked = Array.from({ length: 330 }, (_, at) => it.kind(`t${at}`))
  await nextTick()
  assert.equal(it.calls.length, 64)
  assert.equal(it.introspection.state().inFlight, 64)
  // One after the other, and nobody more than there is room for.
  for (let at = 0; at < 320; at += 1) {
    slow.open[at]?.(active())
    await nextTick()
  }
  const kinds = await Promise.all(asked)

  assert.deepEqual(kinds.slice(0, 320), Array(320).fill('answer'))
  assert.deepEqual(kinds.slice(320), Array(10).fill('overloaded'))
  assert.equal(it.calls.length, 320)
  assert.equal(it.introspection.state().circuit, 'closed', 'our own queue says nothing about the issuer')
})

test('introspection.ask() refuses who has waited half a second as overloaded, without having asked', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const it = setup()
  it.answer = held().answer
  for (let at = 0; at < 64; at += 1) void it.ask(`t${at}`)
  const late = it.ask('late')
  await nextTick()
  t.mock.timers.tick(500)

  assert.deepEqual(await late, { kind: 'overloaded', retryAfterS: 1 })
  assert.equal(it.calls.length, 64)
})

test('introspection.state() and the log say that questions are refused for want of room, and for a minute that they were', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const it = setup()
  const slow = held()
  it.answer = slow.answer
  const asked = Array.from({ length: 64 }, (_, at) => it.kind(`t${at}`))
  await nextTick()
  const full = it.introspection.state().overload
  const late = ['a', 'b', 'c'].map((token) => it.kind(token))
  await nextTick()
  t.mock.timers.tick(500)
  await Promise.all(late)
  const during = it.introspection.state().overload
  for (const open of slow.open) open(active())
  await Promise.all(asked)
  const after = it.introspection.state().overload
  it.clock.pass(60_000)

  assert.deepEqual([full, during, after, it.introspection.state().overload], [undefined, 'now', 'lately', undefined])
  assert.deepEqual(it.events, [
    `introspection_overloaded ${JSON.stringify({ issuer: 'https://issuer.test', in_flight: 64 })}`,
  ])
})

test('introspection.ask() leaves an issuer alone for 5 s after five failures in a row, then lets one question try', async () => {
  const it = setup()
  it.answer = timeout
  for (let at = 0; at < 5; at += 1) assert.equal(await it.kind(`t${at}`), 'unavailable')
  assert.equal(it.introspection.state().circuit, 'open')
  it.clock.pass(3500)
  assert.deepEqual(await it.ask('later'), { kind: 'unavailable', retryAfterS: 2 })
  assert.equal(it.calls.length, 5)
  assert.equal(it.results.at(-1), 'circuit_open')

  it.clock.pass(1500)
  const slow = held()
  it.answer = slow.answer
  const tries = [it.kind('one'), it.kind('two')]
  await nextTick()
  assert.equal(it.calls.length, 6)
  slow.open[0]?.(active())
  assert.deepEqual(await Promise.all(tries), ['answer', 'unavailable'])
  assert.equal(it.introspection.state().circuit, 'closed')
})

test('introspection.ask() leaves an issuer alone that answers five times that it is out of order', async () => {
  for (const status of [500, 503, 599, 408]) {
    const it = setup()
    it.answer = () => reply(status, '')
    for (let at = 0; at < 6; at += 1) assert.equal(await it.kind(`t${at}`), 'unavailable')

    assert.equal(it.calls.length, 5, String(status))
    assert.equal(it.introspection.state().circuit, 'open')
  }
})

test('introspection.ask() takes an answer too long to read for one of an issuer that is there', async () => {
  const it = setup()
  const tooLarge = () =>
    Promise.reject(new HttpCallFailed('too_large', 'Cannot POST https://issuer.test: over 65536 bytes'))
  it.answer = tooLarge
  for (let at = 0; at < 6; at += 1) assert.equal(await it.kind(`t${at}`), 'invalid')
  assert.equal(it.introspection.state().circuit, 'closed')

  // Five failures, but not in a row.
  for (const answer of [timeout, timeout, timeout, timeout, tooLarge, timeout]) {
    it.answer = answer
    await it.ask()
  }
  assert.equal(it.introspection.state().circuit, 'closed')
})

test('introspection.ask() asks at once where the try behind an open circuit failed by a secret of ours', async () => {
  const it = setup()
  it.answer = timeout
  for (let at = 0; at < 5; at += 1) await it.ask(`t${at}`)
  it.clock.pass(5000)
  const { secret } = it
  it.secret = () => {
    throw new SecretRefused('file /run/secret', 'cannot be read (ENOENT)')
  }
  const doubts = it.doubts()
  assert.equal(await it.kind(), 'unavailable')
  assert.equal(it.doubts(), doubts, 'the address is not to blame')

  it.secret = secret
  it.answer = active
  assert.equal(await it.kind(), 'answer')
})

test('introspection.ask() asks at once where the try behind an open circuit found no room: that says nothing of the issuer', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const it = setup()
  const slow = held()
  it.answer = slow.answer
  // More than may be under way, so that all places are taken again once five have failed.
  const asked = Array.from({ length: 69 }, (_, at) => it.kind(`t${at}`))
  await nextTick()
  for (let at = 0; at < 5; at += 1) slow.open[at]?.(reply(503, ''))
  for (let at = 0; at < 5; at += 1) assert.equal(await asked[at], 'unavailable')
  assert.deepEqual([it.introspection.state().circuit, it.introspection.state().inFlight], ['open', 64])
  it.clock.pass(5000)
  const first = it.ask('first try')
  await nextTick()
  t.mock.timers.tick(500)
  assert.deepEqual(await first, { kind: 'overloaded', retryAfterS: 1 })
  assert.equal(it.introspection.state().circuit, 'half_open')

  const second = it.kind('second try')
  await nextTick()
  slow.open[5]?.(active())
  await nextTick()
  slow.open[69]?.(active())

  assert.equal(await second, 'answer')
})

test('introspection.ask() observes how each question ended, and how many seconds it took', async () => {
  const it = setup()
  const answers = [
    { answer: active(), result: 'active' },
    { answer: inactive(), result: 'inactive' },
    { answer: reply(503, ''), result: 'unavailable' },
    { answer: reply(200, '[]'), result: 'invalid' },
  ]
  for (const { answer, result } of answers) {
    it.answer = async () => {
      it.clock.pass(250)
      return answer
    }
    await it.ask(result)
  }

  assert.deepEqual(
    it.results,
    answers.map(({ result }) => result),
  )
  assert.deepEqual(it.seconds, [0.25, 0.25, 0.25, 0.25])
})

test('introspection.state() and the log say once that an endpoint answers again', async () => {
  const it = setup()
  const told = () => it.events.map((event) => event.split(' ')[0])
  await it.ask('a')
  assert.deepEqual(told(), [])
  it.answer = () => reply(503, '')
  await it.ask('b')
  assert.equal(it.introspection.state().status, 503)

  it.answer = active
  for (const token of ['c', 'd']) await it.ask(token)

  assert.deepEqual(told(), ['introspection_failed', 'introspection_recovered'])
  const { failure, status } = it.introspection.state()
  assert.deepEqual([failure, status], [undefined, undefined])
})

test('introspection.ask() opens no circuit over answers it cannot use: the issuer is there', async () => {
  const it = setup()
  it.answer = () => reply(400, '')
  for (let at = 0; at < 20; at += 1) await it.ask(`t${at}`)

  assert.equal(it.calls.length, 20)
  assert.equal(it.introspection.state().circuit, 'closed')
})

test('introspection.ask() has nobody come back sooner than in a second, also where the endpoint says 0', async () => {
  const it = setup()
  for (const status of [429, 503]) {
    it.answer = () => reply(status, '', { 'retry-after': '0' })
    assert.deepEqual(await it.ask(), { kind: 'unavailable', retryAfterS: 1 })
  }
})

const asksForLess = [
  { header: '7', toldS: 7, pauseMs: 7000 },
  { header: '600', toldS: 60, pauseMs: 60_000 },
  { header: 'Thu, 01 Jan 2026 00:00:07 GMT', toldS: 7, pauseMs: 7000 },
  { header: 'Wed, 21 Oct 2026 07:28:00 GMT', toldS: 60, pauseMs: 60_000 },
  { header: '-5', toldS: 1, pauseMs: 1000 },
  { header: undefined, toldS: 1, pauseMs: 1000 },
] as const
for (const { header, toldS, pauseMs } of asksForLess) {
  test(`introspection.ask() stays away for ${pauseMs} ms on 429 with Retry-After ${header ?? 'absent'}`, async () => {
    const it = setup()
    it.answer = () => reply(429, '', header === undefined ? {} : { 'retry-after': header })
    assert.deepEqual(await it.ask(), { kind: 'unavailable', retryAfterS: toldS })
    it.answer = active
    it.clock.pass(pauseMs - 1)
    assert.deepEqual(await it.ask('other'), { kind: 'unavailable', retryAfterS: 1 })
    assert.equal(it.calls.length, 1)

    it.clock.pass(1)
    assert.equal(await it.kind(), 'answer')
  })
}

test('introspection.ask() stays away for as long as one 429 asks for, though another one asks for less', async () => {
  const it = setup()
  const slow = Promise.withResolvers<HttpReply>()
  it.answer = () => (it.calls.length === 1 ? slow.promise : reply(429, '', { 'retry-after': '30' }))
  const first = it.ask('slow')
  await it.ask('fast')
  slow.resolve(reply(429, ''))
  await first
  it.clock.pass(29_999)
  assert.deepEqual(await it.ask('other'), { kind: 'unavailable', retryAfterS: 1 })
  assert.equal(it.calls.length, 2)

  it.answer = active
  it.clock.pass(1)
  assert.equal(await it.kind(), 'answer')
})

test('introspection.ask() is unavailable while our secret cannot be read, and blames nobody else for it', async () => {
  const it = setup()
  it.secret = () => {
    throw new SecretRefused('file /run/secret', 'cannot be read (ENOENT)')
  }
  for (let at = 0; at < 6; at += 1) assert.equal(await it.kind(`t${at}`), 'unavailable')
  assert.equal(it.calls.length, 0)
  assert.equal(it.introspection.state().circuit, 'closed')
  assert.equal(it.events.length, 1)

  it.secret = () => 'rotated'
  assert.equal(await it.kind(), 'answer')
})

test('introspection.ask() opens the circuit over metadata that cannot be used, and asks for it no more', async () => {
  const it = setup()
  let asked = 0
  it.endpoint = () => {
    asked += 1
    return Promise.reject(new HttpCallFailed('encoded', 'Cannot GET https://issuer.test: the body is encoded'))
  }

  for (let at = 0; at < 20; at += 1) assert.equal(await it.kind(`t${at}`), 'unavailable')

  assert.equal(asked, 5)
})

test('introspection.ask() is unavailable while the endpoint cannot be found, and counts that against the issuer', async () => {
  const it = setup()
  it.endpoint = () => Promise.reject(new SourceFailed('Cannot load metadata: status is 500, wanted 200'))
  for (let at = 0; at < 5; at += 1) assert.equal(await it.kind(`t${at}`), 'unavailable')
  assert.equal(it.introspection.state().circuit, 'open')
  assert.equal(it.doubts(), 5, 'a document that names no endpoint is looked at again')
})

test('introspection.ask() lets a bug of ours through as a bug, and not as a verdict', async () => {
  const it = setup()
  it.endpoint = () => Promise.reject(new TypeError('a bug'))
  await assert.rejects(async () => await it.ask(), /a bug/)

  it.endpoint = async () => 'https://issuer.test/introspect'
  assert.equal(await it.kind(), 'answer', 'and the next question is asked')
})

test('introspection.ask() says once what is wrong with all answers, at another place in each', async () => {
  const it = setup()
  for (const sub of ['a', 'alice', 'alice@example.com']) {
    it.answer = () => reply(200, `{"active":true,"sub":"${sub}","sub":"b"}`)
    await it.ask(sub)
  }
  assert.equal(it.events.length, 1)

  it.answer = () => reply(503, '')
  await it.ask('b')
  assert.equal(it.events.length, 2, 'another one is another')
})

test('introspection.ask() says in its log what went wrong once, and never the secret or the token', async () => {
  const it = setup()
  for (const { answer } of troubles) {
    it.answer = answer
    for (const token of ['tok-1234', 'tok-5678']) await it.ask(token)
    it.clock.pass(61_000)
  }
  const log = it.events.join('\n')

  assert.ok(log.includes('introspection_failed'))
  assert.doesNotMatch(log, /s3cret|tok-|gate\+way|alice|Basic/)
  assert.ok(it.events.length < troubles.length + 1)
})
