// The whole gateway in front of the recording upstream: one rule is open, one wants a token.
import assert from 'node:assert/strict'
import type { Setup, World } from '../acceptance/harness.ts'
import { openWorld } from '../acceptance/harness.ts'
import type { Recorder } from './recorder.ts'
import { openRecorder } from './recorder.ts'

export type WireWorld = AsyncDisposable & {
  readonly world: World
  readonly port: number
  readonly recorder: Recorder
  /** Asserts that the upstream saw nothing odd, and not more than was allowed. */
  readonly assertBooks: () => void
  /** Requests decided so far. */
  readonly decisions: () => { readonly allowed: number; readonly denied: number }
}

/** The rules of every world here. */
export const rules = [
  { id: 'open', match: { path: '/open/**' }, public: true },
  { id: 'orders', match: { path: '/orders/**' }, scopes: ['read'] },
] as const

/** Opens both. */
export async function openWireWorld(setup: Setup = {}): Promise<WireWorld> {
  await using stack = new AsyncDisposableStack()
  const recorder = stack.use(await openRecorder())
  const world = stack.use(await openWorld({ rules, b: null, upstream: recorder.port, ...setup }))
  const held = stack.move()
  return {
    world,
    recorder,
    port: world.app.ports.proxy,
    decisions,
    assertBooks() {
      recorder.assertClean()
      const { allowed } = decisions()
      assert.ok(recorder.heads() <= allowed, `${recorder.heads()} requests at the upstream, ${allowed} allowed`)
      assert.deepEqual(recorder.left(), [], 'requests at the upstream that no answer told of')
    },
    [Symbol.asyncDispose]: () => held.disposeAsync(),
  }

  function decisions(): { allowed: number; denied: number } {
    const sums = { allowed: 0, denied: 0 }
    for (const [series, value] of world.app.counters())
      if (series.startsWith('postern_decisions_total'))
        sums[series.includes('decision="allow"') ? 'allowed' : 'denied'] += value
    return sums
  }
}
