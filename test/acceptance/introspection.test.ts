// The table of introspection answers, and every class of it varied.
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { connect } from 'node:net'
import { test } from 'node:test'
import { gzipSync } from 'node:zlib'
import { until } from '../support/until.ts'
import type { Members } from './forge.ts'
import { jwkOf, keys } from './forge.ts'
import type { Got, World } from './harness.ts'
import { allowed, checkChallenge, denied, openWorld, secrets } from './harness.ts'
import type { Reply } from './stub-issuer.ts'
import { testVectors } from './vectors.ts'

type Response = {
  readonly status?: number
  readonly json?: Members
  readonly json_active?: string
  readonly json_patch?: Members
  readonly ct?: string
  readonly body?: string
  readonly enc?: string
  readonly hang?: 'body'
}
type Row = { readonly id: string; readonly name: string; readonly response: Response; readonly expect: number | string }

const identity = { 'x-user': 'sub', 'x-scope': 'scope' }

function good(world: World, patch: Members = {}): Members {
  const exp = world.nowS() + 300
  return { active: true, scope: 'read', sub: 'alice', exp, iss: world.a.url, aud: 'api', client_id: 'c', ...patch }
}

function opaque(): string {
  return randomBytes(24).toString('base64url').replace(/^eyJ/, 'abc')
}

/** Has issuer A answer every introspection with this, until told otherwise. */
function script(world: World, reply: Reply | undefined): void {
  world.a.answer = ({ path }) => (path === '/introspect' ? reply : undefined)
}

/** The contract asks for 503 and no verdict: whether a broken message is no answer or a bad one is the reader's choice. */
const noVerdict = ['introspection_invalid', 'introspection_unavailable']

const reasons: Readonly<Record<string, string | readonly string[]>> = {
  I002: 'token_inactive',
  I005: 'introspection_invalid',
  I008: 'introspection_invalid',
  I011: noVerdict, // bytes after a 204, which has no body: not HTTP
  I014: 'introspection_invalid',
  I017: 'introspection_invalid',
  I020: 'introspection_unavailable',
  I023: 'introspection_unavailable',
  I026: 'introspection_invalid',
  I029: 'introspection_invalid',
  I032: 'introspection_invalid',
  I035: noVerdict, // over the cap of an answer
  I038: noVerdict,
  I041: 'introspection_unavailable',
  I044: 'introspection_invalid',
  I047: 'introspection_invalid',
  I050: 'issuer_unknown',
  I053: 'ok',
  I056: 'ok',
}
/** Rows that are behaviours rather than answers: each has a test of its own below. */
const ownTests = ['I059', 'I062', 'I065', 'I068']

function replyOf(world: World, { status, json, json_active, json_patch, ct, body, enc, hang }: Response): Reply {
  const answer = JSON.stringify(good(world))
  if (json_active !== undefined) return { body: answer.replace('"active":true', `"active":${json_active}`) }
  if (json_patch !== undefined) {
    const patched = Object.entries(json_patch).map(([name, value]) => {
      const text = typeof value === 'string' ? value.replace('ISS_B', world.b.url) : value
      return `${JSON.stringify(name)}:${/^1e/.test(String(value)) ? String(value) : JSON.stringify(text)}`
    })
    const rest = Object.entries(good(world)).filter(([name]) => !(name in json_patch))
    return { body: `{${[...rest.map(([name, value]) => `"${name}":${JSON.stringify(value)}`), ...patched].join(',')}}` }
  }
  if (json !== undefined)
    return {
      raw: `HTTP/1.1 ${status} X\r\nContent-Type: application/json\r\nLocation: ${world.b.origin}/introspect\r\nContent-Length: ${answer.length}\r\n\r\n${answer}`,
    }
  if (ct !== undefined) return { body: answer, headers: { 'Content-Type': ct } }
  if (body === 'BOM') return { body: `\ufeff${answer}` }
  if (body === 'deep')
    return { body: '{"active":true,"a":'.concat('[{"a":'.repeat(100_000), '1', '}]'.repeat(100_000), '}') }
  if (body !== undefined) return { body }
  if (enc !== undefined)
    return { body: gzipSync(answer), headers: { 'Content-Encoding': Array(100).fill('gzip').join(', ') } }
  assert.ok(hang !== undefined)
  return { body: answer, hang }
}

testVectors<{ cases: readonly Row[] }>(
  'each introspection answer of the table is judged as it says',
  'examples/introspection_cases.json',
  async ({ cases }, t) => {
    await using world = await openWorld({ more: { identity_headers: identity } })
    assert.ok(cases.length > 0)
    for (const { id, name, response, expect } of cases) {
      if (ownTests.includes(id)) continue
      await t.test(`${id} ${name}`, async () => {
        const reason = reasons[id]
        assert.ok(reason !== undefined, `Cannot judge ${id}: the test has no reason for it`)
        const token = opaque()
        const before = world.b.connections()
        script(world, replyOf(world, response))

        if (reason === 'ok') {
          const seen = await allowed(world, { token })
          assert.equal(seen.all('x-user').length, id === 'I056' ? 0 : 1)
          return
        }
        const wanted = typeof reason === 'string' ? [reason] : reason
        const { status } = await deniedFor(world, token, wanted)

        assert.match(String(expect), new RegExp(`^${status}`))
        assert.equal(world.b.connections(), before, 'redirects are not followed')
        if (status !== 503) return
        // No verdict is not kept as one: the next answer counts.
        script(world, { json: good(world) })
        await allowed(world, { token })
      })
    }
  },
)

/** Asserts a denial for one of some reasons, each with its own status. */
async function deniedFor(world: World, token: string, wanted: readonly string[], message?: string): Promise<Got> {
  const before = world.seen.length
  const got = await world.ask({ token })
  assert.ok(wanted.includes(got.reason), `${got.status} ${got.reason} ${message}`)
  assert.equal(got.status, got.reason.startsWith('introspection_') ? 503 : 401)
  checkChallenge(got)
  assert.equal(world.seen.length, before)
  return got
}

const actives = ['"true"', '"false"', '1', '0', 'null', '{}', '[]', '[true]', '"TRUE"', '""', '"1"', 'True', '1e0']

test('active is the JSON boolean true or false; anything else is no verdict', async () => {
  await using world = await openWorld()

  for (const active of actives) {
    script(world, { body: JSON.stringify(good(world)).replace('true', active) })
    await denied(world, { token: opaque() }, 503, 'introspection_invalid', active)
  }
  const bodies = [
    '',
    ' ',
    'null',
    'true',
    '[]',
    '"active"',
    '{}',
    '{"Active":true}',
    '[{"active":true}]',
    '{"active":true',
    '{"active":true}}',
    '{"active":true,"active":false}',
    '{"active":false,"active":true}',
    '{"active":true,"__proto__":{}}',
    "{'active':true}",
    '{"active":true}\u0000',
    '/**/{"active":true}',
  ]
  for (const body of bodies) {
    script(world, { body })
    await denied(world, { token: opaque() }, 503, 'introspection_invalid', body)
  }
})

test('only a 200 of application/json is an answer', async () => {
  await using world = await openWorld()
  const answer = JSON.stringify(good(world))
  const invalid = [
    201, 202, 203, 204, 205, 206, 300, 301, 302, 303, 304, 307, 308, 400, 401, 403, 404, 405, 410, 418, 422,
  ]
  const unavailable = [408, 429, 500, 501, 502, 503, 504, 599]

  for (const status of [...invalid, ...unavailable]) {
    const location = `Location: ${world.b.origin}/introspect\r\nContent-Length: ${answer.length}`
    script(world, { raw: `HTTP/1.1 ${status} X\r\nContent-Type: application/json\r\n${location}\r\n\r\n${answer}` })
    const reason = invalid.includes(status) ? 'introspection_invalid' : 'introspection_unavailable'
    // Bytes after a head that has no body are not HTTP.
    await deniedFor(world, opaque(), [204, 304].includes(status) ? noVerdict : [reason], String(status))
    // Past the pause that 429 asks for, and the breaker's.
    world.pass(6000)
  }
  for (const type of [
    'text/html',
    'text/plain',
    'application/jwt',
    'application/jsonp',
    'application/json-seq',
    'application/problem+json',
    'application/token-introspection+jwt',
    '',
    'json',
  ]) {
    script(world, { body: answer, headers: { 'Content-Type': type } })
    await denied(world, { token: opaque() }, 503, 'introspection_invalid', type)
  }
  for (const type of [
    'application/json',
    'APPLICATION/JSON',
    'application/json;charset=utf-8',
    'application/json ; charset=utf-8',
  ]) {
    script(world, { body: answer, headers: { 'Content-Type': type } })
    await allowed(world, { token: opaque() }, type)
  }
  assert.equal(world.b.count('/introspect'), 0)
})

const encodings = ['gzip', 'deflate', 'br', 'zstd', 'gzip, gzip', 'x-gzip', 'unknown']

test('an encoded, oversized, truncated, endless or hanging answer is no verdict and holds no slot', async () => {
  await using world = await openWorld()
  const answer = JSON.stringify(good(world))
  const json = 'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n'
  const replies: readonly Reply[] = [
    ...encodings.map((name) => ({ body: gzipSync(answer), headers: { 'Content-Encoding': name } })),
    { body: answer.slice(0, -1).concat(`,"x":"${'x'.repeat(65_536)}"}`) },
    { raw: `${json}Content-Length: 1000\r\n\r\n${answer}` },
    { raw: `${json}Transfer-Encoding: chunked\r\n\r\n${answer.length.toString(16)}\r\n${answer}\r\n` },
    { raw: `${json}Transfer-Encoding: chunked\r\n\r\nzz\r\n${answer}\r\n0\r\n\r\n` },
    { raw: '' },
    { raw: 'not HTTP\r\n\r\n' },
    { raw: `HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX: ${'x'.repeat(20_000)}\r\n\r\n` },
  ]

  for (const reply of replies) {
    script(world, reply)
    await deniedFor(world, opaque(), noVerdict, JSON.stringify(reply).slice(0, 80))
    world.pass(6000)
  }
  script(world, { body: answer, hang: 'head' })
  const started = performance.now()
  await Promise.all(Array.from({ length: 100 }, () => denied2(world)))
  assert.ok(performance.now() - started < 6000, 'two deadlines of 2 s at the most')
  world.pass(6000)
  script(world, { json: good(world) })
  await allowed(world, { token: opaque() })
})

/** One of many at once: refused as unavailable, or for want of a slot. */
async function denied2(world: World): Promise<void> {
  const got = await world.ask({ token: opaque() })
  assert.equal(got.status, 503)
  assert.match(got.reason, /^(?:introspection_unavailable|overloaded)$/)
}

const answers: readonly (readonly [Members, string])[] = [
  [{ iss: 'https://other.example' }, 'issuer_unknown'],
  [{ aud: 'other' }, 'audience_mismatch'],
  [{ aud: undefined }, 'audience_mismatch'],
  [{ aud: [] }, 'audience_mismatch'],
  [{ aud: '' }, 'audience_mismatch'],
  [{ exp: 1 }, 'token_expired'],
  [{ exp: 0 }, 'token_expired'],
  [{ nbf: 32_503_680_000 }, 'token_not_yet_valid'],
  [{ iat: 32_503_680_000 }, 'token_not_yet_valid'],
  [{ token_use: 'refresh' }, 'type_mismatch'],
  [{ token_use: 'id' }, 'type_mismatch'],
  [{ token_type: 'refresh_token' }, 'type_mismatch'],
  [{ token_type: 'id_token' }, 'type_mismatch'],
  [{ typ: 'Refresh' }, 'type_mismatch'],
  [{ typ: 'ID' }, 'type_mismatch'],
  [{ type: 'refresh' }, 'type_mismatch'],
  [{ tokenName: 'refresh_token' }, 'type_mismatch'],
  [{ purpose: 'refresh_token' }, 'type_mismatch'],
  [{ purpose: 'nonce' }, 'type_mismatch'],
  [{ purpose: 'access_token' }, 'ok'],
  [{ cnf: { jkt: 'x' } }, 'proof_missing'],
  [{ token_type: 'DPoP' }, 'proof_missing'],
  [{ scope: 'readx' }, 'scope_missing'],
  [{ scope: undefined }, 'scope_missing'],
  [{ scope: '' }, 'scope_missing'],
  [{ exp: '9999999999' }, 'introspection_invalid'],
  [{ exp: null }, 'introspection_invalid'],
  [{ exp: -1 }, 'introspection_invalid'],
  [{ nbf: 'x' }, 'introspection_invalid'],
  [{ iat: {} }, 'introspection_invalid'],
  [{ iss: 1 }, 'introspection_invalid'],
  [{ aud: 1 }, 'introspection_invalid'],
  [{ aud: ['api', 1] }, 'introspection_invalid'],
  [{ scope: {} }, 'introspection_invalid'],
  [{ scope: 1 }, 'introspection_invalid'],
  [{ sub: 1 }, 'introspection_invalid'],
  [{ sub: {} }, 'introspection_invalid'],
  [{ jti: 1 }, 'introspection_invalid'],
  [{ client_id: [] }, 'introspection_invalid'],
  [{ cnf: 'x' }, 'introspection_invalid'],
  [{ iss: undefined }, 'ok'],
  [{ exp: undefined }, 'ok'],
  [{ scope: ['read'] }, 'ok'],
  [{ aud: ['other', 'api'] }, 'ok'],
  [{ token_type: 'Bearer' }, 'ok'],
  [{ token_use: 'access_token' }, 'ok'],
  [{ scope: undefined, scp: ['read'] }, 'ok'],
]

test('the claims of an answer are judged like those of a token', async (t) => {
  await using world = await openWorld()
  for (const [patch, reason] of answers)
    await t.test(`${JSON.stringify(patch)} (${Object.keys(patch).join()}) is ${reason}`, async () => {
      const token = opaque()
      world.a.tokens.set(token, good(world, patch))
      if (reason === 'ok') return void (await allowed(world, { token }))
      await denied(
        world,
        { token },
        reason === 'scope_missing' ? 403 : reason === 'introspection_invalid' ? 503 : 401,
        reason,
      )
    })
})

test('cached facts are judged anew by every rule: scope, audience, issuers (I059; oathkeeper CVE-2021-32701)', async () => {
  await using world = await openWorld()
  const token = opaque()
  world.a.tokens.set(token, good(world))

  await allowed(world, { path: '/read/1', token })
  await denied(world, { path: '/write/1', token }, 403, 'scope_missing')
  await denied(world, { path: '/other/1', token }, 401, 'audience_mismatch')
  await allowed(world, { path: '/a/1', token })
  assert.equal(world.a.count('/introspect'), 1)

  // Under a rule of issuer B it is a token of B's, who does not know it.
  await denied(world, { path: '/b/1', token }, 401, 'token_inactive')
  await allowed(world, { path: '/read/2', token })
  assert.deepEqual([world.a.count('/introspect'), world.b.count('/introspect')], [1, 1])
})

test('a flood of random opaque tokens evicts no real one and stays within its bounds (I062)', async () => {
  await using world = await openWorld()
  const token = opaque()
  world.a.tokens.set(token, good(world))
  await allowed(world, { token })
  const before = world.a.count('/introspect')

  await Promise.all(Array.from({ length: 25 }, () => flood(world, 60)))

  assert.equal(world.count('postern_token_cache_entries'), 1)
  await allowed(world, { token })
  assert.equal(world.a.count('/introspect') - before, 1500, 'each random token once, the real one never again')
})

/** Random tokens one after another on one connection. */
async function flood(world: World, count: number): Promise<void> {
  for (let at = 0; at < count; at += 1) await denied(world, { token: opaque() }, 401, 'token_inactive')
}

test('an inactive answer is kept for 5 s, an error not at all (I065)', async () => {
  await using world = await openWorld()
  const token = opaque()
  await denied(world, { token }, 401, 'token_inactive')
  world.a.tokens.set(token, good(world))
  await denied(world, { token }, 401, 'token_inactive')
  assert.equal(world.a.count('/introspect'), 1)
  world.pass(5001)
  await allowed(world, { token })

  const other = opaque()
  world.a.tokens.set(other, good(world))
  script(world, { status: 500, json: {} })
  await denied(world, { token: other }, 503, 'introspection_unavailable')
  script(world, undefined)
  await allowed(world, { token: other })
})

test('the client secret goes to its issuer alone, as client_secret_basic, and is told to nobody (I068)', async () => {
  await using world = await openWorld()
  script(world, { status: 401, json: { error: `invalid_client ${secrets.SECRET_A}` } })

  const got = await denied(world, { token: opaque() }, 503, 'introspection_invalid')

  assert.ok(!got.text.includes(secrets.SECRET_A))
  const [asked] = world.a.asked.filter(({ path }) => path === '/introspect')
  assert.equal(asked?.authorization, `Basic ${Buffer.from(`gateway-A:${secrets.SECRET_A}`).toString('base64')}`)
  assert.ok(!world.logs().includes(secrets.SECRET_A))
  const metrics = await scrape(world.app.ports.health)
  assert.match(metrics, /postern_introspection_requests_total\{[^}]*result="invalid"\} 1/)
  assert.ok(!metrics.includes(secrets.SECRET_A))
})

async function scrape(port: number): Promise<string> {
  const socket = connect(port, '127.0.0.1')
  socket.write('GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n')
  let text = ''
  for await (const chunk of socket) text += String(chunk)
  return text
}

test('many requests with one opaque token at once ask once, and who leaves cancels nobody', async () => {
  await using world = await openWorld()
  const token = opaque()
  world.a.tokens.set(token, good(world))
  world.a.answer = ({ path }) => (path === '/introspect' ? { json: good(world), delay: 100 } : undefined)

  const gots = await Promise.all(Array.from({ length: 200 }, () => world.ask({ token })))

  assert.ok(gots.every(({ status }) => status === 200))
  assert.equal(world.a.count('/introspect'), 1)
})

test('a positive answer is kept for max_age, never beyond exp', async () => {
  await using world = await openWorld()
  const long = opaque()
  const short = opaque()
  world.a.tokens.set(long, good(world))
  world.a.tokens.set(short, good(world, { exp: world.nowS() + 10 }))
  const ask = async () => {
    await allowed(world, { token: long })
    return world.a.count('/introspect')
  }

  assert.equal(await ask(), 1)
  await allowed(world, { token: short })
  world.pass(11_000)
  assert.equal(await ask(), 2)
  // Within the leeway it is still good, but nobody's memory says so any more.
  await allowed(world, { token: short })
  assert.equal(world.a.count('/introspect'), 3)
  world.pass(18_000)
  assert.equal(await ask(), 3)
  world.pass(1500)
  assert.equal(await ask(), 4)
})

test('an issuer that is down: facts in memory serve on, a new opaque token is 503, a JWT passes', async () => {
  await using world = await openWorld()
  const token = opaque()
  world.a.tokens.set(token, good(world))
  await allowed(world, { token })
  await allowed(world, { token: world.mint() })

  await world.a[Symbol.asyncDispose]()

  await allowed(world, { token })
  await allowed(world, { token: world.mint() })
  await denied(world, { token: opaque() }, 503, 'introspection_unavailable')
  for (let tried = 0; tried < 10; tried += 1) await denied(world, { token: opaque() }, 503, 'introspection_unavailable')
  assert.ok(world.count(`postern_introspection_requests_total{issuer="${world.a.url}",result="circuit_open"}`) > 0)
  world.pass(31_000)
  await denied(world, { token }, 503, 'introspection_unavailable')
})

test('an issuer that answers no introspection takes nothing from JWTs: keys and look-ups are asked for at once', async () => {
  let isKnown = false
  await using world = await openWorld({
    a: { blacklist: { url: 'ISS_A/blacklist' } },
    // One of two entries is outside memory, so a token that is not in it is asked for.
    more: { blacklist: { cache_size: 1 } },
    before(a) {
      a.revoked.push({ kind: 'jti', value: 'r1' }, { kind: 'jti', value: 'r2' })
      a.answer = ({ path }) => {
        if (path === '/introspect') return { json: {}, hang: 'head' }
        if (path === '/blacklist/lookup') return { json: { revoked: false, seq: 2 } }
        return path === '/jwks' && isKnown ? { json: { keys: [jwkOf(keys.second, { kid: 'new' })] } } : undefined
      }
    },
  })
  let ended = 0
  const asked = Array.from({ length: 64 }, () => denied2(world).then(() => (ended += 1)))
  await until(() => world.a.count('/introspect') === 64, '64 questions under way')
  isKnown = true

  await allowed(world, { token: world.mint({ key: keys.second, kid: 'new' }) })

  assert.equal(world.a.count('/blacklist/lookup'), 1)
  assert.equal(ended, 0, 'and no place was waited for')
  await Promise.all(asked)
})

test('opaque_may_contain_dots: what looks like a JWT and is none is asked about, at the issuer that says so alone', async () => {
  await using world = await openWorld({ a: { opaque_may_contain_dots: true } })
  const looksLikeJwts = ['v2.local.payload', 'eyJub3QgYSBKV1Q', 'eyJx.y.z', 'a.b.c.d.e']
  for (const token of looksLikeJwts) world.a.tokens.set(token, good(world))

  for (const token of looksLikeJwts) {
    await allowed(world, { token })
    await denied(world, { path: '/b/1', token }, 401, 'jwt_malformed')
  }
  await denied(world, { token: 'v2.local.other' }, 401, 'token_inactive')
  // A JWT stays one: nobody is asked about it.
  await allowed(world, { token: world.mint() })
  await denied(world, { token: world.mint({ key: keys.attacker }) }, 401, 'signature_invalid')
  assert.deepEqual([world.a.count('/introspect'), world.b.count('/introspect')], [looksLikeJwts.length + 1, 0])
})
