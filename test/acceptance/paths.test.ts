import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Seen, World } from './harness.ts'
import { allowed, openWorld } from './harness.ts'
import { testVectors } from './vectors.ts'

type Row = { readonly id: string; readonly raw: string; readonly tolerated: readonly string[]; readonly cls: string }

const rules = [
  { id: 'public', match: { methods: ['GET'], path: '/public/**' }, public: true },
  { id: 'health', match: { path: '/health' }, public: true },
  { id: 'admin', match: { path: '/admin/**' }, scopes: ['admin'] },
  { id: 'items', match: { path: '/api/v1/items/{id}' }, scopes: ['read'] },
]

/** What each class of row is refused for; of a row that stands apart, by its id. */
const reasons: Readonly<Record<string, string>> = {
  'segment-boundary': 'no_rule',
  'trailing-slash': 'no_rule',
  case: 'no_rule',
  'absolute-form': 'request_malformed',
  'asterisk-form': 'request_malformed',
  'authority-form': 'request_malformed',
  'no-leading-slash': 'request_malformed',
  empty: 'request_malformed',
  oversize: 'too_large',
  param: 'token_missing',
  query: 'token_missing',
  whitespace: 'request_malformed',
  P125: 'path_rejected',
}

/** What an upstream might make of a target: whatever it does, no such thing may lie under /admin. */
const normalisers: readonly ((path: string) => string)[] = [
  (path) => path,
  decodeLoosely,
  (path) => decodeLoosely(decodeLoosely(path)),
  (path) => decodeLoosely(path).replaceAll('\\', '/'),
  (path) => path.replace(/;[^/]*/g, ''),
  (path) => path.replace(/\/{2,}/g, '/'),
  (path) => path.toLowerCase(),
]

function decodeLoosely(path: string): string {
  return path.replace(/%([0-9a-f]{2})/gi, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)))
}

function removeDotSegments(path: string): string {
  const kept: string[] = []
  for (const segment of path.split('/')) {
    if (segment === '..') kept.pop()
    else if (segment !== '.') kept.push(segment)
  }
  return kept.join('/')
}

function assertNeverAdmin(seen: readonly Seen[]): void {
  for (const { target } of seen) {
    const path = target.replace(/\?.*$/s, '')
    for (const normalise of normalisers)
      for (const once of [normalise(path), removeDotSegments(normalise(path)), path.split('#')[0] ?? ''])
        assert.doesNotMatch(`/${once}`.replace(/\/{2,}/g, '/'), /^\/admin/i, `the upstream saw ${target}`)
  }
}

/** Sends a request line as it is; answers with the status, or with what was forwarded. */
async function outcome(world: World, raw: string): Promise<{ said: string; reason: string }> {
  const before = world.seen.length
  const got = await world.send(Buffer.from(`GET ${raw} HTTP/1.1\r\nHost: gateway.test\r\n\r\n`, 'utf8'))
  if (got.reason === 'ok') return { said: `forward ${world.seen.at(-1)?.target}`, reason: 'ok' }
  assert.equal(world.seen.length, before)
  assert.equal(got.challenge !== undefined, got.status === 401)
  return { said: String(got.status), reason: got.reason }
}

testVectors<{ cases: readonly Row[] }>(
  'each raw path of the table is refused, or forwarded in the one spelling it names',
  'examples/path_cases.json',
  async ({ cases }, t) => {
    await using world = await openWorld({ rules })
    assert.ok(cases.length > 0)
    for (const { id, raw, tolerated, cls } of cases) {
      await t.test(`${id} ${cls} ${raw.slice(0, 60)}`, async () => {
        const { said, reason } = await outcome(world, raw)

        assert.ok(tolerated.includes(said), `${said}, wanted ${tolerated.join(' or ')}`)
        if (said.startsWith('forward')) return
        assert.equal(reason, reasons[id] ?? reasons[cls] ?? 'path_rejected')
      })
    }
    assertNeverAdmin(world.seen)
  },
)

/** A text with its escapes in lower case, upper case and both mixtures. */
function spellings(text: string): readonly string[] {
  const lower = (char: string) => char.toLowerCase()
  const upper = (char: string) => char.toUpperCase()
  const ways = [lower, upper].flatMap((one) => [lower, upper].map((two) => [one, two] as const))
  const written = ways.map(([one, two]) => text.replace(/%([0-9a-f])([0-9a-f])/gi, (_, a, b) => `%${one(a)}${two(b)}`))
  return [...new Set(written)]
}

const dots = [
  '..',
  '%2e%2e',
  '.%2e',
  '%2e.',
  '%252e%252e',
  '%u002e%u002e',
  '%c0%ae%c0%ae',
  '%e0%80%ae%e0%80%ae',
  '..%00',
]
const separators = [
  '/',
  '%2f',
  '\\',
  '%5c',
  '%252f',
  ';/',
  ';a=b/',
  '%3b/',
  '//',
  '/./',
  '%c0%af',
  '%ef%bc%8f..%2f',
  '\t/',
]

test('no spelling of a climb from /public reaches /admin, and none is more than refused', async () => {
  await using world = await openWorld({ rules })
  const targets = dots.flatMap((dot) =>
    separators.flatMap((separator) => [
      `/public/${dot}${separator}admin/x`,
      `/public${separator}${dot}${separator}admin/x`,
      `/public/a${separator}${dot}/${dot}${separator}admin`,
    ]),
  )

  for (const target of new Set(targets.flatMap(spellings)))
    assert.equal((await outcome(world, target)).said, '400', target)

  assertNeverAdmin(world.seen)
})

const inOneSegment = ['%2f', '%5c', '%3b', '%25', '%3f', '%23', '%2e', '%00', '%0a', '%0d', '%1f', '%7f', ';', '\\']
const broken = ['%', '%2', '%g0', '%2g', '%%', '%u0041', '%c0', '%c3', '%ed%a0%80', '%f4%90%80%80', '%ff']
const illegal = ['<', '>', '"', '^', '`', '{', '|', '}', '[', ']', '#', 'é']

for (const [kind, list] of Object.entries({ inOneSegment, broken, illegal })) {
  test(`a path with any of ${list.join(' ')} is 400, in every place and case`, async () => {
    await using world = await openWorld({ rules })

    for (const one of list.flatMap(spellings))
      for (const target of [
        `/public/${one}`,
        `/public/a${one}z`,
        `/public/a/${one}/b`,
        `/public${one}`,
        `/health${one}`,
      ]) {
        const { said, reason } = await outcome(world, target)
        assert.equal(said, '400', target)
        assert.ok(reason === 'path_rejected' || reason === 'request_malformed', target)
      }

    assert.equal(world.seen.length, 0, kind)
  })
}

test('an escape of an unreserved character is decoded, the hex of the others goes upstream in upper case', async () => {
  await using world = await openWorld({ rules })
  const unreserved = [...'ABCXYZabcxyz0189-_~']

  for (const char of unreserved) {
    const hex = `%${char.charCodeAt(0).toString(16)}`
    for (const spelling of spellings(hex))
      assert.equal((await outcome(world, `/public/${spelling}`)).said, `forward /public/${char}`)
  }
  for (const hex of ['%20', '%5b', '%7b', '%c3%a9', '%e2%82%ac', '%3a', '%40', '%22'])
    for (const spelling of spellings(hex))
      assert.equal((await outcome(world, `/public/${spelling}`)).said, `forward /public/${hex.toUpperCase()}`)
  for (const spelling of spellings('/%70ublic/a'))
    assert.equal((await outcome(world, spelling)).said, 'forward /public/a')
  for (const spelling of spellings('/%61dmin/x')) assert.equal((await outcome(world, spelling)).said, '401')
})

test('an absolute-form target is judged by its path and forwarded in origin form, a foreign authority is refused', async () => {
  await using world = await openWorld({ rules })

  for (const scheme of ['http', 'HTTP', 'hTtP'])
    assert.equal((await outcome(world, `${scheme}://GATEWAY.test/public/a?b`)).said, 'forward /public/a?b')
  assert.equal((await outcome(world, 'http://gateway.test:80/public/a')).said, 'forward /public/a')
  assert.equal((await outcome(world, 'http://gateway.test/admin/x')).said, '401')
  for (const authority of [
    'other.example',
    'gateway.test:81',
    'user@gateway.test',
    'gateway.test@evil',
    '',
    '[::1]',
    'gateway.test.',
  ])
    assert.equal((await outcome(world, `http://${authority}/public/a`)).said, '400', authority)
  for (const target of [
    'ftp://gateway.test/public/a',
    'http:/public/a',
    'http:gateway.test/public/a',
    '//gateway.test/public/a',
  ])
    assert.equal((await outcome(world, target)).said, '400', target)
})

test('a path of 256 segments and a target of 8 KiB pass, one more does not', async () => {
  await using world = await openWorld({ rules })

  assert.match((await outcome(world, `/public${'/a'.repeat(255)}`)).said, /^forward/)
  assert.equal((await outcome(world, `/public${'/a'.repeat(256)}`)).reason, 'path_rejected')
  assert.match((await outcome(world, `/public/${'a'.repeat(8192 - 8)}`)).said, /^forward/)
  assert.deepEqual(await outcome(world, `/public/${'a'.repeat(8192 - 7)}`), { said: '414', reason: 'too_large' })
})

test('the query is forwarded byte for byte, is no part of the match, and carries no token', async () => {
  await using world = await openWorld({ rules })

  for (const query of ['?x=/admin/x', '?/../..', '?%2e%2e%2F', '?a=b&a=%zz', '?', '??', '?access_token=x'])
    assert.equal((await outcome(world, `/public/a${query}`)).said, `forward /public/a${query}`)
  const token = world.mint({ claims: { scope: 'admin' } })
  const got = await world.ask({ path: `/admin/x?access_token=${token}` })
  assert.equal(got.reason, 'token_missing')
  await allowed(world, { path: '/admin/x?access_token=1', token })
})
