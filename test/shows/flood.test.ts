// Shows 4: a flood of unknown keys, and a crowd with one opaque token, on real sockets.
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { setTimeout as wait } from 'node:timers/promises'
import type { GatewayProcess } from '../support/gateway-process.ts'
import { startGatewayProcess } from '../support/gateway-process.ts'
import type { Lane, LaneAnswer } from '../support/raw-lane.ts'
import { openLane, retryAfterS } from '../support/raw-lane.ts'
import type { StubServer } from '../support/stub-server.ts'
import { sendJson, startStub } from '../support/stub-server.ts'
import type { Signer } from '../support/tokens.ts'
import { accessClaims, createSigner, segment } from '../support/tokens.ts'

const coolDownS = 3
const lanes = 64
const wantedPerS = 5000

const nowS = () => Math.floor(Date.now() / 1000)

/** An issuer that is scripted here, a service behind it, and a gateway between. */
type Scene = AsyncDisposable & {
  readonly issuer: StubServer
  readonly gateway: GatewayProcess
  /** When its key set was asked for (`performance.now`). */
  readonly fetches: number[]
  readonly introspected: string[]
  /** What the set holds. */
  readonly keys: Signer[]
  /** How the endpoint answers. */
  health: 'good' | 'answers 500' | 'hangs'
}

async function setScene(): Promise<Scene> {
  await using stack = new AsyncDisposableStack()
  const script: Pick<Scene, 'fetches' | 'introspected' | 'keys' | 'health'> = {
    fetches: [],
    introspected: [],
    keys: [createSigner('first')],
    health: 'good',
  }
  const issuer = await startStub({
    '/.well-known/openid-configuration': (response) => {
      const { url } = issuer
      sendJson(response, { issuer: url, jwks_uri: `${url}/jwks`, introspection_endpoint: `${url}/ask` })
    },
    '/jwks'(response) {
      script.fetches.push(performance.now())
      if (script.health === 'answers 500') response.writeHead(500).end()
      if (script.health === 'good') sendJson(response, { keys: script.keys.map(({ jwk }) => jwk) })
    },
    '/ask'(response, request) {
      let body = ''
      request.on('data', (chunk) => {
        body += chunk
      })
      request.on('end', () => {
        script.introspected.push(body)
        // Slow enough for the whole crowd to be there before the answer is.
        setTimeout(() => sendJson(response, { active: true, ...accessClaims(issuer.url, nowS()) }), 300)
      })
    },
  })
  stack.use(issuer)
  const upstream = stack.use(await startStub({}, (response) => sendJson(response, {})))
  const gateway = stack.use(
    await startGatewayProcess({
      upstream: { url: upstream.url },
      issuers: [
        {
          issuer: issuer.url,
          audience: 'orders-api',
          jwks: { cool_down: `${coolDownS}s` },
          introspection: { client_id: 'gateway', client_secret: { env: 'POSTERN_SECRET' } },
        },
      ],
      rules: [{ match: { path: '/orders/**' }, scopes: ['orders:read'] }],
    }),
  )
  await gateway.ready()
  const held = stack.move()
  return Object.assign(script, { issuer, gateway, [Symbol.asyncDispose]: () => held.disposeAsync() })
}

/** What a flood of tokens with random kids was answered, by status and by the age the tokens claimed. */
type Flood = { sent: number; readonly seconds: number; readonly statuses: Record<string, number> }

const signature = randomBytes(64).toString('base64url')

async function flood({ issuer, gateway }: Scene, seconds: number): Promise<Flood> {
  const startMs = performance.now()
  const flooded: Flood = { sent: 0, seconds, statuses: {} }
  await Promise.all(Array.from({ length: lanes }, () => sendUntilOver()))
  return flooded

  async function sendUntilOver(): Promise<void> {
    using lane = openLane(gateway.proxyPort)
    for (let elapsedMs = 0; elapsedMs < seconds * 1000; elapsedMs = performance.now() - startMs) {
      // As fast as was asked for, and no faster: what is left of the machine is for the others.
      if (flooded.sent > (elapsedMs * wantedPerS) / 1000) {
        await wait(2)
        continue
      }
      flooded.sent += 1
      const age = flooded.sent % 10 === 0 ? 'old' : 'new'
      const { status } = await lane.get('/orders/7', strangeToken(issuer.url, age))
      const seen = `${age} ${status}`
      flooded.statuses[seen] = (flooded.statuses[seen] ?? 0) + 1
    }
  }
}

/** A token of this issuer by its own account, under a key that nobody has. */
function strangeToken(issuer: string, age: 'old' | 'new'): string {
  const header = { alg: 'ES256', typ: 'at+jwt', kid: randomBytes(8).toString('hex') }
  return `${segment(header)}.${segment({ iss: issuer, iat: nowS() - (age === 'old' ? 3600 : 0) })}.${signature}`
}

/** Publishes a new key and sends a token under it until it is accepted, or for `forMs`. */
async function rotateAndAsk(
  { issuer, gateway, keys }: Scene,
  forMs: number,
): Promise<{ answers: LaneAnswer[]; acceptedMs: number }> {
  const signer = createSigner(randomBytes(4).toString('hex'))
  keys.push(signer)
  const token = signer.sign(accessClaims(issuer.url, nowS()))
  const startMs = performance.now()
  const answers: LaneAnswer[] = []
  using lane = openLane(gateway.proxyPort)
  while (performance.now() - startMs < forMs) {
    const answer = await lane.get('/orders/7', token)
    answers.push(answer)
    if (answer.status === 200) return { answers, acceptedMs: answer.receivedMs - startMs }
    await wait(50)
  }
  return { answers, acceptedMs: Number.POSITIVE_INFINITY }
}

/** A genuine new key was served, or put off with an honest time to come back: never called false. */
function assertNeverFalse(answers: readonly LaneAnswer[]): void {
  for (const answer of answers) {
    if (answer.status === 200) continue
    assert.equal(answer.status, 503)
    assert.match(answer.body, /"keys_unavailable"/)
    const seconds = retryAfterS(answer) ?? 0
    assert.ok(seconds >= 1 && seconds <= coolDownS, String(seconds))
  }
}

/** One fetch per cool-down, counted by attempt; `sinceMs`: what came before were scheduled ones. */
function assertFewFetches({ fetches }: Scene, sinceMs: number): number {
  const asked = fetches.filter((atMs) => atMs >= sinceMs)
  const most = 1 + Math.floor((performance.now() - sinceMs) / (coolDownS * 1000))
  assert.ok(asked.length >= 1 && asked.length <= most, `${asked.length} fetches, at most ${most} allowed`)
  return asked.length
}

function assertRefused({ statuses }: Flood): void {
  // An old token would be in the set; of a new one nobody can tell until the next look.
  assert.deepEqual(
    Object.keys(statuses).filter((seen) => !['old 401', 'new 401', 'new 503'].includes(seen)),
    [],
    JSON.stringify(statuses),
  )
  assert.ok((statuses['old 401'] ?? 0) > 0 && (statuses['new 503'] ?? 0) > 0, JSON.stringify(statuses))
}

test('a flood of random kids for 10 s causes one key fetch per cool-down, and no new key is called false', async (t) => {
  await using scene = await setScene()
  const startMs = performance.now()
  const flooding = flood(scene, 10)
  const found: { answers: LaneAnswer[]; acceptedMs: number }[] = []
  for (const atMs of [800, 4000, 7000]) {
    await wait(Math.max(0, atMs - (performance.now() - startMs)))
    found.push(await rotateAndAsk(scene, (coolDownS + 2) * 1000))
  }
  const flooded = await flooding
  const fetches = assertFewFetches(scene, startMs)
  const slowestMs = Math.max(...found.map(({ acceptedMs }) => acceptedMs))
  const putOff = found.flatMap(({ answers }) => answers).filter(({ status }) => status === 503).length
  t.diagnostic(
    `${Math.round(flooded.sent / flooded.seconds)} requests/s of ${wantedPerS} wanted: ${JSON.stringify(flooded.statuses)}`,
  )
  t.diagnostic(
    `${fetches} fetches in ${coolDownS} s cool-downs; new keys accepted after ${found.map(({ acceptedMs }) => Math.round(acceptedMs)).join(', ')} ms, ${putOff} answers of 503 before`,
  )

  assertRefused(flooded)
  for (const { answers } of found) assertNeverFalse(answers)
  assert.ok(putOff > 0, 'the cool-down was never burnt')
  assert.ok(slowestMs < coolDownS * 1000 + 2000, `${slowestMs} ms`)

  // Once nobody burns the cool-down, a new key costs one fetch and no 503.
  await wait(coolDownS * 1000)
  const calm = await rotateAndAsk(scene, 1000)
  assert.deepEqual(
    calm.answers.map(({ status }) => status),
    [200],
  )
  const metrics = await scene.gateway.metrics()
  assert.equal(
    metrics.get(`postern_jwks_refresh_total{issuer="${scene.issuer.url}",result="success"}`),
    scene.fetches.length,
  )
})

for (const health of ['answers 500', 'hangs'] as const) {
  test(`a flood of random kids at an issuer that ${health} causes one key fetch per cool-down, and it heals`, async (t) => {
    await using scene = await setScene()
    scene.health = health
    const startMs = performance.now()
    const flooding = flood(scene, 5)
    await wait(500)
    const down = await rotateAndAsk(scene, 4000)
    const flooded = await flooding
    assertFewFetches(scene, startMs)
    t.diagnostic(
      `${Math.round(flooded.sent / flooded.seconds)} requests/s: ${JSON.stringify(flooded.statuses)}, ${scene.fetches.length - 1} fetches`,
    )

    assertRefused(flooded)
    assertNeverFalse(down.answers)
    assert.equal(down.acceptedMs, Number.POSITIVE_INFINITY)
    scene.health = 'good'
    const healed = await rotateAndAsk(scene, (coolDownS + 4) * 1000)
    assertNeverFalse(healed.answers)
    t.diagnostic(`healed after ${Math.round(healed.acceptedMs)} ms`)
    assert.ok(healed.acceptedMs < (coolDownS + 3) * 1000)
  })
}

test('500 requests at a time with one opaque token cause one introspection, and all are served', async (t) => {
  await using scene = await setScene()
  const crowd: Lane[] = Array.from({ length: 500 }, () => openLane(scene.gateway.proxyPort))
  const startMs = performance.now()
  const answers = await Promise.all(crowd.map((lane) => lane.get('/orders/7', 'one-opaque-token')))
  t.diagnostic(
    `all served within ${Math.round(performance.now() - startMs)} ms, ${scene.introspected.length} introspection`,
  )

  assert.deepEqual(new Set(answers.map(({ status }) => status)), new Set([200]))
  assert.deepEqual(scene.introspected, ['token=one-opaque-token&token_type_hint=access_token'])
  await Promise.all(crowd.map((lane) => lane.get('/orders/7', 'one-opaque-token')))
  assert.equal(scene.introspected.length, 1)
  for (const lane of crowd) lane[Symbol.dispose]()
})
