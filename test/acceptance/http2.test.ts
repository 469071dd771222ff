// The tables of attacks once more, over HTTP/2: what came another way must not mean another thing.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Field, FrameClient } from '../support/h2-frames.ts'
import { connectFrames, headers, readAnswer } from '../support/h2-frames.ts'
import type { Seen, World } from './harness.ts'
import { headerSetup, openWorld } from './harness.ts'
import { testVectors } from './vectors.ts'

/** `forward` and what the upstream saw; `400` or another status; `reset`: nghttp2 has refused it before we saw it. */
type Said = { readonly said: string; readonly reason: string; readonly seen: Seen | undefined }

/** Asks on streams of one session after the other. */
function createAsker(world: World) {
  let client: FrameClient | undefined
  let stream = 1
  return {
    async ask(path: string, fields: readonly Field[]): Promise<Said> {
      client ??= connectFrames(world.app.ports.proxy)
      const before = world.seen.length
      const target = Buffer.from(path, 'utf8').toString('latin1')
      const pseudo = { method: 'GET', scheme: 'http', authority: 'gateway.test', path: target }
      const all = [...Object.entries(pseudo).map(([name, value]) => [`:${name}`, value] as const), ...fields]
      client.send(headers(stream, all))
      const frames = await client.stream(stream)
      stream += 2
      const { status, body, reset } = readAnswer(frames)
      const isJudged = reset === undefined && frames.length > 0
      world.gotElsewhere(isJudged ? body : undefined)
      const reason = /"reason":"([a-z_]+)"/.exec(body)?.[1] ?? 'ok'
      if (!isJudged) {
        // After too many of them the session is over.
        if (frames.length === 0) [client, stream] = [undefined, 1]
        return { said: 'reset', reason: 'reset', seen: undefined }
      }
      const seen = reason === 'ok' ? world.seen.at(-1) : undefined
      assert.equal(world.seen.length, before + (seen === undefined ? 0 : 1), path)
      return { said: seen === undefined ? String(status) : `forward ${seen.target}`, reason, seen }
    },
    [Symbol.dispose]: () => client?.[Symbol.dispose](),
  }
}

const rules = [
  { id: 'public', match: { methods: ['GET'], path: '/public/**' }, public: true },
  { id: 'health', match: { path: '/health' }, public: true },
  { id: 'admin', match: { path: '/admin/**' }, scopes: ['admin'] },
  { id: 'items', match: { path: '/api/v1/items/{id}' }, scopes: ['read'] },
]

type PathRow = {
  readonly id: string
  readonly raw: string
  readonly tolerated: readonly string[]
  readonly cls: string
}

testVectors<{ cases: readonly PathRow[] }>(
  'each raw path of the table is refused over HTTP/2, or forwarded in the one spelling it names',
  'examples/path_cases.json',
  async ({ cases }, t) => {
    await using world = await openWorld({ rules })
    using asker = createAsker(world)
    let forwarded = 0
    for (const { id, raw, tolerated, cls } of cases) {
      await t.test(`${id} ${cls} ${raw.slice(0, 60)}`, async () => {
        const { said } = await asker.ask(raw, [])
        if (said.startsWith('forward')) forwarded += 1

        // Absolute form is HTTP/1.1's; and what no reader of HTTP/2 lets in is refused without a status.
        const wanted = cls === 'absolute-form' ? [...tolerated, '400'] : tolerated
        assert.ok(wanted.includes(said) || (said === 'reset' && wanted.some((each) => each.startsWith('4'))), said)
      })
    }
    assert.ok(forwarded > 5, `${forwarded} were forwarded`)
    for (const { target } of world.seen)
      assert.doesNotMatch(decodeURIComponent(target).toLowerCase(), /^\/+admin|\/\.\.(?:\/|$)/)
  },
)

const identity = ['x-user', 'x-scope', 'x-client-id', 'x-token-claims', 'x-gw-id']
const fold = (name: string) => name.toLowerCase().replace(/[^a-z0-9]/g, '-')
const harmless = ['constructor', 'prototype', 'origin', 'access-control-request-method', 'cookie']

type HeaderRow = { readonly id: string; readonly send: readonly Field[]; readonly expect: string }

testVectors<{ cases: readonly HeaderRow[] }>(
  'each header of the table is refused, removed or replaced over HTTP/2',
  'examples/header_cases.json',
  async ({ cases }, t) => {
    await using world = await openWorld(headerSetup)
    using asker = createAsker(world)
    let forwarded = 0
    for (const { id, send, expect } of cases) {
      await t.test(`${id} ${JSON.stringify(send)}`, async () => {
        const good = world.mint({ claims: { jti: 'j1' } })
        const fields = send.map(([name, value]) => [name.toLowerCase(), value.replace('GOOD', good)] as const)
        const hasWritten = fields.some(([name]) => name === 'authorization')

        const bare = await asker.ask('/admin/x', fields)
        if (!hasWritten || !expect.startsWith('200')) assert.equal(bare.seen, undefined, 'without a good token')
        const { seen, said } = await asker.ask('/admin/x', [['authorization', `Bearer ${good}`], ...fields])

        if (seen === undefined) {
          assert.ok(['400', 'reset'].includes(said), said)
          return
        }
        forwarded += 1
        assert.ok(!hasWritten, 'two credentials')
        assert.deepEqual(
          seen.lines.filter(([name]) => identity.includes(fold(name))),
          [
            ['x-user', 'alice'],
            ['x-scope', 'read'],
            ['x-client-id', 'web'],
            ['x-gw-id', 'j1'],
          ],
        )
        assert.deepEqual(seen.all('authorization'), [])
        for (const [name, value] of fields) {
          const passed = seen.lines.some(([each, text]) => fold(each) === fold(name) && text === value)
          const may = harmless.includes(fold(name)) || fold(name).startsWith('x-forwarded-for')
          assert.ok(may || !passed, `${name}: ${value}`)
        }
      })
    }
    assert.ok(forwarded > cases.length / 2, `${forwarded} were forwarded`)
  },
)

test("the default identity headers are not the client's over HTTP/2 either, where others are configured", async () => {
  await using world = await openWorld(headerSetup)
  using asker = createAsker(world)
  const sent = ['x-auth-subject', 'x_auth_client', 'x.auth.scope'].map((name) => [name, 'attacker'] as const)
  const token = ['authorization', `Bearer ${world.mint()}`] as const

  for (const [path, fields] of [
    ['/admin/x', [token, ...sent]],
    ['/public/a', sent],
    ['/public/a', [token, ...sent]],
  ] as const) {
    const { seen } = await asker.ask(path, fields)
    assert.ok(seen !== undefined, path)
    assert.ok(!seen.lines.some(([, value]) => value === 'attacker'), path)
  }
})

test('a token is judged over HTTP/2 as over HTTP/1.1', async () => {
  await using world = await openWorld()
  using asker = createAsker(world)
  const bearer = (token: string) => [['authorization', `Bearer ${token}`]] as const

  assert.deepEqual((await asker.ask('/read/x', [])).reason, 'token_missing')
  assert.deepEqual((await asker.ask('/read/x', bearer(world.mint()))).said, 'forward /read/x')
  assert.deepEqual((await asker.ask('/write/x', bearer(world.mint()))).reason, 'scope_missing')
  const old = world.mint({ claims: { exp: world.nowS() - 100 } })
  assert.deepEqual((await asker.ask('/read/x', bearer(old))).reason, 'token_expired')
  const two = [...bearer(world.mint()), ...bearer(world.mint())]
  assert.deepEqual((await asker.ask('/read/x', two)).reason, 'token_repeated')
})
