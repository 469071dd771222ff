import assert from 'node:assert/strict'
import type { World } from '../acceptance/harness.ts'
import { openWorld } from '../acceptance/harness.ts'
import { testVectors } from '../acceptance/vectors.ts'
import { nginxIsMissing } from '../support/nginx.ts'
import { secret, startDecodingNginx } from './decoding-nginx.ts'
import type { Next } from './line.ts'
import { openConnection, reasonOf } from './line.ts'

type PathRow = { readonly id: string; readonly raw: string; readonly tolerated: readonly string[] }
type HeaderRow = { readonly id: string; readonly send: readonly (readonly [string, string])[] }

const rules = [
  { id: 'public', match: { methods: ['GET'], path: '/public/**' }, public: true },
  { id: 'health', match: { path: '/health' }, public: true },
  { id: 'admin', match: { path: '/admin/**' }, scopes: ['admin'] },
  { id: 'items', match: { path: '/api/v1/items/{id}' }, scopes: ['read'] },
  { id: 'told', match: { path: '/told' }, scopes: ['read'] },
]
const identity_headers = {
  'x-user': 'sub',
  'x-scope': 'scope',
  'x-client-id': 'client_id',
  'x-token-claims': 'groups',
  'x-gw-id': 'jti',
}

async function openWorldBefore(port: number): Promise<World> {
  return await openWorld({ rules, b: null, upstream: port, more: { identity_headers } })
}

/** Sends bytes on a connection of their own. */
async function say(port: number, text: string): Promise<Next> {
  using connection = await openConnection(port)
  await connection.write(Buffer.from(text, 'utf8').toString('latin1'))
  return await connection.next()
}

const asking = (target: string, lines = '') => `GET ${target} HTTP/1.1\r\nHost: gateway.test\r\n${lines}\r\n`

/** Every climb from /public, in the spellings that servers have fallen for. */
const dots = ['..', '%2e%2e', '.%2e', '%2E.', '%252e%252e', '..;', '..;a=b', '..%3b', '..%00', '%c0%ae%c0%ae']
const separators = ['/', '%2f', '%2F', '//', '\\', '%5c', '%252f', '/./', '%c0%af']
const climbs = dots.flatMap((dot) =>
  separators.flatMap((separator) => [
    `/public/${dot}${separator}admin/x`,
    `/public${separator}${dot}${separator}admin/x`,
    `/public/a/${dot}${separator}${dot}${separator}admin/x`,
    `/api/v1/items/${dot}${separator}${dot}${separator}..${separator}..${separator}admin`,
  ]),
)
const directly = ['/admin/x', '//admin/x', '/%61dmin/x', '/ADMIN/x', '/public/../admin/x', '/public/%2e%2e%2fadmin/x']

testVectors<{ cases: readonly PathRow[] }>(
  'in front of an upstream that decodes and merges slashes no raw path of the table, and no climb, comes to its secret',
  'examples/path_cases.json',
  async ({ cases }, t) => {
    if (nginxIsMissing !== false) return t.skip(nginxIsMissing)
    await using nginx = await startDecodingNginx()
    await using world = await openWorldBefore(nginx.port)
    const token = world.mint()
    const fallen: string[] = []
    for (const target of [...directly, ...climbs]) {
      const next = await say(nginx.port, asking(target))
      if (next.kind === 'answer' && next.answer.body === secret) fallen.push(target)
    }
    // Without the gateway many of them get there: that is what the test is worth.
    assert.ok(fallen.length > 50 && directly.every((target) => fallen.includes(target)), JSON.stringify(fallen))

    for (const target of [...cases.map(({ raw }) => raw), ...directly, ...climbs, '/public/a'])
      for (const lines of ['', `Authorization: Bearer ${token}\r\n`]) {
        const next = await say(world.app.ports.proxy, asking(target, lines))

        assert.ok(next.kind === 'answer', `${target}: ${JSON.stringify(next)}`)
        assert.ok(!JSON.stringify(next).includes(secret), target)
        const { status, body } = next.answer
        // Some of what may pass nginx itself will not have: a space, once it is decoded.
        if (status === 200) assert.match(body, /^open \/(?:public\/|health$|api\/v1\/items\/)/, target)
        else assert.ok(status >= 400 && status < 500, `${target}: ${status}`)
      }
    const admin = world.mint({ claims: { scope: 'admin' } })
    const letIn = await say(world.app.ports.proxy, asking('/admin/x', `Authorization: Bearer ${admin}\r\n`))
    assert.ok(letIn.kind === 'answer' && letIn.answer.body === secret, 'the right token comes to it')
  },
)

testVectors<{ cases: readonly HeaderRow[] }>(
  'an upstream that takes X_User for X-User is told of the caller what the token says, whatever the headers of the table are',
  'examples/header_cases.json',
  async ({ cases }, t) => {
    if (nginxIsMissing !== false) return t.skip(nginxIsMissing)
    await using nginx = await startDecodingNginx()
    await using world = await openWorldBefore(nginx.port)
    const good = world.mint({ claims: { jti: 'j1' } })
    const told = 'alice,read,web,,j1;'
    let passed = 0
    // Without the gateway it believes them.
    const fooled = await say(nginx.port, asking('/told', 'X_User: attacker\r\nX_Original_URL: /admin\r\n'))
    assert.ok(fooled.kind === 'answer' && fooled.answer.body.startsWith('attacker,,,,;/admin'), JSON.stringify(fooled))

    for (const { id, send } of cases)
      for (const spell of [(name: string) => name, (name: string) => name.replaceAll('-', '_')]) {
        const lines = send.map(([name, value]) => `${spell(name)}: ${value.replace('GOOD', good)}\r\n`).join('')
        const hasToken = send.some(([name]) => name === 'Authorization')
        const credential = hasToken ? '' : `Authorization: Bearer ${good}\r\n`
        const next = await say(world.app.ports.proxy, asking('/told', credential + lines))

        assert.ok(next.kind === 'answer', `${id}: ${JSON.stringify(next)}`)
        const isOk = reasonOf(next.answer) === 'ok' && next.answer.status === 200
        if (isOk) assert.equal(next.answer.body, told, id)
        else assert.ok([400, 401].includes(next.answer.status), `${id}: ${next.answer.status} ${next.answer.body}`)
        passed += isOk ? 1 : 0
      }
    assert.ok(passed > cases.length, `${passed} passed`)
  },
)
