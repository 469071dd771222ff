import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Running } from '../../src/app/configuration.ts'
import { createProbes } from '../../src/app/probes.ts'

test('createProbes() is not ready before all workers have keys and lists, and then for as long as one serves', () => {
  let [serves, loaded, draining] = [true, false, false]
  const probes = createProbes({
    running: () => ({ sources: [] }) as unknown as Running, // an issuer less than one: all that is looked at
    isDraining: () => draining,
    refusal: () => undefined,
    restart: () => [],
    workers: () => ({
      checks: () => [{ name: 'workers', ok: serves, said: '' }],
      loaded: () => [{ name: 'keys and lists of workers', ok: loaded, said: '' }],
      notes: () => [],
      status: () => undefined,
    }),
  })

  assert.equal(probes.isReady(), false)
  loaded = true
  assert.equal(probes.isReady(), true)
  // One that was started anew is being sent what it needs: the others serve.
  loaded = false
  assert.equal(probes.isReady(), true)
  serves = false
  assert.equal(probes.isReady(), false)
  serves = true
  draining = true
  assert.equal(probes.isReady(), false)
})
