// One issuer's key endpoint as a function that a test scripts, and the gateway's end of it on a clock that stands still.

import assert from 'node:assert/strict'
import type { HttpCall, HttpReply } from '../../src/io/http-client.ts'
import { HttpCallFailed } from '../../src/io/http-client.ts'
import type { Jwks, JwksOptions } from '../../src/sources/jwks.ts'
import { createJwks } from '../../src/sources/jwks.ts'
import { SourceFailed } from '../../src/sources/source-failed.ts'
import type { TestClock } from '../support/clock.ts'
import { createTestClock } from '../support/clock.ts'
import { createTestLog } from '../support/log.ts'
import type { Signer } from '../support/tokens.ts'
import { createSigner } from '../support/tokens.ts'

/** A token's wish for a key, as the gateway puts it. */
export type Wanted = Parameters<Jwks['key']>[0]

/** What is asked for when nothing else is said: by a request that arrives now, for a token issued now. */
export type WantedMore = Partial<Omit<Wanted, 'kid'>>

export type Endpoint = Disposable & {
  readonly jwks: Jwks
  readonly clock: TestClock
  readonly calls: HttpCall[]
  readonly counts: string[]
  readonly events: string[]
  readonly doubts: () => number
  /** What the endpoint answers from now on. */
  answer: () => HttpReply | Promise<HttpReply>
  /** Where it is; undefined: its metadata does not say. */
  url: string | undefined
  /** What looking for another address does. */
  looked: () => void | Promise<void>
  /** The answer to `key` for a kid. */
  readonly key: (kid: string | undefined, more?: WantedMore) => ReturnType<Jwks['key']>
}

/** Two keys that every endpoint here begins with. */
export const signerA: Signer = createSigner('a')
export const signerB: Signer = createSigner('b')

export function setOf(...signers: readonly Signer[]): string {
  return JSON.stringify({ keys: signers.map(({ jwk }) => jwk) })
}

export function reply(status: number, body: string, headers: Record<string, string> = {}): HttpReply {
  return { from: 'https://issuer.test/keys', status, header: (name) => headers[name], body: Buffer.from(body) }
}

/** What a connection that is refused, or a deadline that passes, rejects with. */
export function callFailed(kind: 'connect' | 'timeout'): Promise<HttpReply> {
  return Promise.reject(new HttpCallFailed(kind, `Cannot GET https://issuer.test: ${kind}`))
}

/** An answer that comes when the test says so. */
export function later(): {
  readonly answer: () => Promise<HttpReply>
  readonly settle: (reply: HttpReply) => void
  readonly fail: () => void
} {
  const { promise, resolve, reject } = Promise.withResolvers<HttpReply>()
  return {
    answer: () => promise,
    settle: resolve,
    fail: () => reject(new HttpCallFailed('timeout', 'Cannot GET https://issuer.test: no whole answer within 2000 ms')),
  }
}

/** A gateway that has fetched nothing yet. */
export function endpoint(options: Partial<JwksOptions> = {}): Endpoint {
  const clock = createTestClock()
  const calls: HttpCall[] = []
  const counts: string[] = []
  const events: string[] = []
  let doubts = 0
  const jwks = createJwks(
    {
      issuer: 'https://issuer.test',
      refresh: 300_000,
      cool_down: 30_000,
      stale_max: 3_600_000,
      leeway: 30_000,
      ...options,
    },
    {
      clock,
      random: () => 0,
      origin: {
        kind: 'url',
        async url() {
          if (it.url === undefined) throw new SourceFailed('the document names no jwks_uri')
          return it.url
        },
        doubt: async () => {
          doubts += 1
          await it.looked()
        },
        async send(call, limits) {
          calls.push(call)
          assert.deepEqual(limits, { maxBodyBytes: 262_144, deadlineMs: 2000 })
          return await it.answer()
        },
      },
      log: createTestLog((event, fields) => void events.push(`${event} ${JSON.stringify(fields)}`)),
      count: (result) => counts.push(result),
    },
  )
  const it: Endpoint = {
    jwks,
    clock,
    calls,
    counts,
    events,
    doubts: () => doubts,
    answer: () => reply(200, setOf(signerA)),
    url: 'https://issuer.test/jwks',
    looked: () => {},
    key: (kid, more = {}) => {
      const iat = Math.floor(clock.wallMs() / 1000)
      const arrivedMs = clock.monotonicMs()
      return jwks.key({ kid, algorithm: 'ES256', iat, arrivedMs, verifies: () => false, ...more })
    },
    [Symbol.dispose]: jwks.close,
  }
  return it
}

/** A gateway that has fetched key `a` once, in the background, a second ago. */
export async function loadedEndpoint(options: Partial<JwksOptions> = {}): Promise<Endpoint> {
  const it = endpoint(options)
  await it.jwks.refresh()
  it.clock.pass(1000)
  it.calls.length = 0
  it.counts.length = 0
  return it
}
