import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { explainOffline } from '../../src/app/explain/explain-offline.ts'
import { sendJson, startStub } from '../support/stub-server.ts'
import { accessClaims, createSigner } from '../support/tokens.ts'

test('explainOffline() does not wait for a feed that has failed, and says what that means', async () => {
  const signer = createSigner('a')
  let polls = 0
  using issuer = await startStub({
    '/jwks': (response) => sendJson(response, { keys: [signer.jwk] }),
    '/blacklist'(response) {
      polls += 1
      response.writeHead(503).end()
    },
  })
  const secret = { client_id: 'gateway', client_secret: { env: 'SECRET' } }
  const configuration = {
    version: 1,
    upstream: { url: 'http://127.0.0.1:9' },
    issuers: [
      {
        issuer: issuer.url,
        audience: 'orders-api',
        jwks_uri: `${issuer.url}/jwks`,
        blacklist: { url: `${issuer.url}/blacklist`, ...secret },
      },
    ],
    rules: [{ match: { path: '/orders/**' } }],
  }
  const token = signer.sign(accessClaims(issuer.url, Math.floor(Date.now() / 1000)))
  const startMs = performance.now()

  const explained = await explainOffline(
    { file: 'gateway.yaml', read: () => JSON.stringify(configuration) },
    { method: 'GET', url: '/orders/7', token },
    {
      clock: { wallMs: Date.now, monotonicMs: () => performance.now() },
      random: () => 0,
      randomBytes,
      env: { SECRET: 'gateway-secret' },
      readFile: () => Buffer.from(''),
      fileMode: () => 0o600,
      write: (_chunk, done) => done(),
      version: '0',
      revision: '',
    },
  )

  assert.ok(explained.kind === 'explained')
  assert.equal(explained.explanation.reason, 'blacklist_stale')
  assert.ok(polls > 0)
  // Its patience with sources that say nothing is 5 s.
  assert.ok(performance.now() - startMs < 3000)
})
