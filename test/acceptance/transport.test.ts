// `require_https`: what came by plain HTTP is refused, whatever it asks for.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { allowed, denied, openWorld } from './harness.ts'

const said = (proto: string) => ({ lines: [['X-Forwarded-Proto', proto] as const] })

test('require_https refuses plain HTTP, with a good token and on a public rule, and asks nobody', async () => {
  await using world = await openWorld({ more: { require_https: true } })

  const got = await denied(world, { token: world.mint() }, 403, 'transport_insecure')
  await denied(world, { path: '/public/x' }, 403, 'transport_insecure')
  await denied(world, { path: '/none' }, 403, 'transport_insecure')
  await denied(world, { token: world.mint(), ...said('https') }, 403, 'transport_insecure')

  assert.equal(got.challenge, undefined)
  assert.equal(
    world.count('postern_decisions_total{decision="deny",reason="transport_insecure",issuer="",mode="none"}'),
    4,
  )
})

test('require_https believes a trusted proxy about its client, both ways, and a reload changes it', async () => {
  await using world = await openWorld({ more: { require_https: true, trusted_proxies: ['127.0.0.0/8'] } })

  await allowed(world, { token: world.mint(), ...said('https') })
  await denied(world, { token: world.mint(), ...said('http') }, 403, 'transport_insecure')
  await denied(world, { token: world.mint() }, 403, 'transport_insecure')
  // Grammar first: what is no request is not judged by how it came.
  await denied(world, { path: '/read/../x', token: world.mint() }, 400, 'path_rejected')
  world.reload((configuration) => {
    configuration['require_https'] = false
  })

  await allowed(world, { token: world.mint() })
})

const explained = [
  { url: 'http://gateway.test/read/x', behindProxy: 'transport_insecure', alone: 'transport_insecure' },
  { url: 'https://gateway.test/read/x', behindProxy: 'ok', alone: 'transport_insecure' },
  { url: '/read/x', behindProxy: 'ok', alone: 'transport_insecure' },
]
test('explain() says transport_insecure where require_https is set, of an http URL, and of any where nothing can make it https', async () => {
  await using proxied = await openWorld({ more: { require_https: true, trusted_proxies: ['127.0.0.0/8'] } })
  await using alone = await openWorld({ more: { require_https: true } })
  for (const { url, ...expected } of explained) {
    const token = proxied.mint()
    assert.equal((await proxied.app.explain({ method: 'GET', url, token })).reason, expected.behindProxy, url)
    assert.equal((await alone.app.explain({ method: 'GET', url, token: alone.mint() })).reason, expected.alone, url)
  }
})
