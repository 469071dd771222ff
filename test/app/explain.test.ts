import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openWorld } from '../acceptance/harness.ts'

test('explain() counts nothing of what requests are counted by: nobody sent this one', async () => {
  await using world = await openWorld({ a: { blacklist: { url: 'ISS_A/blacklist' } } })
  world.a.revoked.push({ kind: 'sub', value: 'eve' })
  world.reload((configuration) => {
    configuration['blacklist'] = { poll_interval: '100ms' }
  })
  const question = { method: 'GET', url: '/any/1', token: world.mint({ claims: { sub: 'eve' } }) }
  while ((await world.app.explain(question)).reason !== 'token_revoked')
    await new Promise((resolve) => setTimeout(resolve, 20))

  const counted = [...world.app.counters()].filter(
    ([series, count]) => /hits_total|token_cache_r|decisions/.test(series) && count > 0,
  )

  assert.deepEqual(counted, [])
})
