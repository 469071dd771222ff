// Tokens bound to a client's certificate (RFC 8705 §3), and whose connections may bring them.
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { createAuthority, skipWithoutOpenssl, thumbprintOf } from '../support/certificates.ts'
import type { World } from './harness.ts'
import { allowed, denied, openWorld } from './harness.ts'

/** A gateway that asks for certificates, and two clients that have one. */
async function openTlsWorld() {
  using ours = createAuthority()
  const directory = mkdtempSync(join(tmpdir(), 'postern-mtls-'))
  const write = (name: string, text: string) => {
    writeFileSync(join(directory, name), text, { mode: 0o600 })
    return { file: join(directory, name) }
  }
  const server = ours.issue('server')
  const tls = {
    cert: write('tls.crt', server.cert),
    key: write('tls.key', server.key),
    client_ca: write('ca.crt', ours.ca),
    client_certificate: 'optional',
  }
  const listen = { proxy: '127.0.0.1:0', health: '127.0.0.1:0', admin: '127.0.0.1:0', tls }
  const world: World = await openWorld({ more: { listen } })
  const [alice, bob] = [ours.issue('alice-client'), ours.issue('bob-client')]
  return {
    world,
    cnf: { 'x5t#S256': thumbprintOf(alice) },
    alice: { tls: { ca: ours.ca, ...alice } },
    bob: { tls: { ca: ours.ca, ...bob } },
    nobody: { tls: { ca: ours.ca } },
    async [Symbol.asyncDispose]() {
      await world[Symbol.asyncDispose]()
      rmSync(directory, { recursive: true, force: true })
    },
  }
}

describe('a token bound to a certificate', { skip: skipWithoutOpenssl }, () => {
  test('is good on a connection with that certificate only, seen before or not', async () => {
    await using it = await openTlsWorld()
    const { world, cnf, alice, bob, nobody } = it
    const token = world.mint({ claims: { cnf } })

    await denied(world, { token, ...bob }, 401, 'certificate_mismatch')
    await denied(world, { token, ...nobody }, 401, 'proof_missing')
    await allowed(world, { token, ...alice })
    await denied(world, { token, ...bob }, 401, 'certificate_mismatch')
    await denied(world, { token, ...nobody }, 401, 'proof_missing')
    await allowed(world, { token, ...alice })
    assert.equal(world.count('postern_token_cache_requests_total{result="hit"}'), 5)
  })

  test('is judged so where only the introspection answer says it is bound', async () => {
    await using it = await openTlsWorld()
    const { world, cnf, alice, bob, nobody } = it
    const answer = {
      active: true,
      scope: 'read',
      sub: 'alice',
      exp: world.nowS() + 300,
      aud: 'api',
      client_id: 'c',
      cnf,
    }
    world.a.answer = ({ path }) => (path === '/introspect' ? { json: answer } : undefined)

    await allowed(world, { token: 'an-opaque-token-of-somebody', ...alice })
    await denied(world, { token: 'an-opaque-token-of-somebody', ...bob }, 401, 'certificate_mismatch')
    await denied(world, { token: 'an-opaque-token-of-somebody', ...nobody }, 401, 'proof_missing')
  })

  test('is explained with the thumbprint of a certificate, and without', async () => {
    await using it = await openTlsWorld()
    const { world, cnf } = it
    const token = world.mint({ claims: { cnf } })
    const ask = { method: 'GET', url: '/read/x', token }

    const good = await world.app.explain({ ...ask, certificate: cnf['x5t#S256'] })
    const bad = await world.app.explain({ ...ask, certificate: 'another' })
    const none = await world.app.explain(ask)

    assert.deepEqual([good.reason, bad.reason, none.reason], ['ok', 'certificate_mismatch', 'proof_missing'])
    assert.match(bad.hint ?? '', /confirm: is a token bound to the certificate [\w-]{43}, with the certificate another/)
    const posted = await fetch(`http://127.0.0.1:${world.app.ports.admin}/explain`, {
      method: 'POST',
      body: JSON.stringify({ ...ask, certificate: cnf['x5t#S256'] }),
    })
    assert.equal(((await posted.json()) as { reason: string }).reason, 'ok') // as the admin listener answers
  })

  test('leaves bearer tokens as they are, with a certificate and without', async () => {
    await using it = await openTlsWorld()

    await allowed(it.world, { token: it.world.mint(), ...it.alice })
    await allowed(it.world, { token: it.world.mint(), ...it.nobody })
  })
})
