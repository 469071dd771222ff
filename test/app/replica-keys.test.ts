import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createReplicaKeys } from '../../src/app/workers/replica-keys.ts'
import { createTestClock } from '../support/clock.ts'
import { createSigner } from '../support/tokens.ts'

test('replicaKeys.key() has the primary look once for all who wait, gives what was sent meanwhile, and is quiet as long as it says', async () => {
  const clock = createTestClock()
  const { jwk } = createSigner('a')
  const looked: (string | undefined)[] = []
  let suppressed = 0
  const copy = createReplicaKeys(
    { stale_max: 3_600_000, leeway: 0 },
    {
      clock,
      async look({ kid }) {
        looked.push(kid)
        copy.take(Buffer.from(JSON.stringify({ keys: [jwk] })), clock.monotonicMs(), clock.wallMs())
        return clock.monotonicMs() + 30_000
      },
      suppressed: () => {
        suppressed += 1
      },
    },
  )
  const key = async (kid: string) =>
    await copy.key({ kid, algorithm: 'ES256', iat: undefined, arrivedMs: clock.monotonicMs(), verifies: () => false })

  const kinds = await Promise.all(['a', 'b'].map(async (kid) => (await key(kid)).kind))
  clock.pass(1000)
  const early = await key('c')
  clock.pass(29_000)
  const late = await key('c')

  assert.deepEqual(kinds, ['key', 'unknown'])
  assert.deepEqual([early, suppressed], [{ kind: 'unavailable', retryAfterS: 29 }, 1])
  assert.deepEqual([late, looked], [{ kind: 'unknown' }, ['a', 'c']])
})
