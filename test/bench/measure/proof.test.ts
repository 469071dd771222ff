import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { test } from 'node:test'
import { createSigner, mint } from '../tokens.ts'
import type { ProofWorld } from './proof.ts'
import { findFault } from './proof.ts'

const bad = { expired: 'expired', forged: 'forged' }
const proof = { good: 'good', bad }
const world: ProofWorld = {
  files: { certificate: undefined },
  proofs: { rs256: proof, es256: proof, opaque: proof, scoped: proof },
}

/** A contestant that answers by the token it gets; without one it gets `undefined`. */
async function contestant(statusOf: (token: string | undefined) => number) {
  const server = createServer(({ headers }, response) => {
    response.writeHead(statusOf(headers.authorization?.replace('Bearer ', ''))).end()
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const { port } = server.address() as AddressInfo // it listens on a port
  return { origin: `http://127.0.0.1:${port}`, [Symbol.dispose]: () => void server.close() }
}

test('findFault() finds none in a contestant that lets only the good token through', async () => {
  using it = await contestant((token) => (token === 'good' ? 200 : token === undefined ? 401 : 403))

  assert.equal(await findFault(it.origin, 'rs256', world), undefined)
})

const faults = [
  { statusOf: () => 200, said: /missing with 200/, because: 'it lets everybody through' },
  { statusOf: () => 401, said: /good token with 401/, because: 'it lets nobody through' },
  {
    statusOf: (token?: string) => (token === undefined ? 401 : 200),
    said: /expired with 200/,
    because: 'it reads no token',
  },
  { statusOf: (token?: string) => (token === 'good' ? 200 : 502), said: /missing with 502/, because: 'it breaks' },
] as const
for (const { statusOf, said, because } of faults) {
  test(`findFault() does not take a contestant for one: ${because}`, async () => {
    using it = await contestant(statusOf)

    assert.match((await findFault(it.origin, 'rs256', world)) ?? '', said)
  })
}

test('mint() makes tokens of which no two are the same', async () => {
  const tokens = await mint(createSigner('ES256'), 600, 'a')

  assert.equal(new Set(tokens).size, 600)
})
