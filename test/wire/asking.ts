// Clients in front of a hostile upstream: what the one that meets it gets, and what the next one gets.
import assert from 'node:assert/strict'
import type { World } from '../acceptance/harness.ts'
import { valuesOf } from '../support/strict-reader.ts'
import type { ExpectedAnswer } from './judge-answer.ts'
import type { Next } from './line.ts'
import { openConnection, reasonOf } from './line.ts'

/** A request as it goes on the wire. */
export const get = (target: string, method = 'GET') => `${method} ${target} HTTP/1.1\r\nHost: a.test\r\n\r\n`

/** Asks on a connection of its own. */
export async function ask({ app }: World, target: string, method = 'GET'): Promise<Next> {
  using connection = await openConnection(app.ports.proxy)
  await connection.write(get(target, method))
  return await connection.next(method)
}

let cleanAsks = 0

/** The next client gets its own answer, and nothing of what was before. */
export async function assertClean(world: World, message: string): Promise<void> {
  cleanAsks += 1
  const target = `/open/clean?n=${cleanAsks}`
  const next = await ask(world, target)
  assert.ok(next.kind === 'answer', `${message}: the next client got ${JSON.stringify(next)}`)
  assert.deepEqual([next.answer.status, next.answer.body], [200, target], message)
}

/** Holds what a client got against what must become of the upstream's answer. */
export function assertBecame(next: Next, expected: ExpectedAnswer, message: string): void {
  const said = `${message}: ${JSON.stringify(next).slice(0, 600)}`
  // An end without a beginning is visible, too.
  if ((expected.kind === 'cut' || expected.kind === 'either') && next.kind === 'closed') return
  assert.ok(next.kind === 'answer', said)
  const { answer } = next
  if (!('answer' in expected) || (expected.kind === 'either' && answer.status === 502)) {
    assert.equal(answer.status, 502, said)
    // The answer to a HEAD says no more than that.
    if (answer.body !== '') assert.equal(reasonOf(answer), 'upstream_reset', said)
    return
  }
  assert.deepEqual([answer.status, answer.body], [expected.answer.status, expected.answer.body], said)
  for (const name of ['content-type', 'date', 'x-powered-by', 'location', 'header1', 'set-cookie'])
    assert.deepEqual(valuesOf(answer, name), valuesOf(expected.answer, name), said)
}
