import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate as nextTurn } from 'node:timers/promises'
import type { Configuration } from '../../src/app/configuration.ts'
import type { Handover } from '../../src/app/workers/handover.ts'
import { createHandover } from '../../src/app/workers/handover.ts'
import type { Outbox } from '../../src/app/workers/outbox.ts'
import { createOutbox } from '../../src/app/workers/outbox.ts'
import { createPublisher } from '../../src/app/workers/publisher.ts'

const first = {
  kind: 'loaded',
  file: '/gateway.yaml',
  text: 'version: 1',
  hash: 'first',
  files: new Map([['/ca.pem', Buffer.from('one')]]),
} as unknown as Configuration // all that it looks at

function withHash(hash: string): Configuration {
  return { ...first, hash }
}

type Scene = {
  inUse: Configuration
  readonly handover: Handover
  readonly queue: Outbox['queue']
  readonly sent: () => Promise<readonly string[]>
}

/** A worker, and the hashes of what it was sent, in order. */
function openScene(): Scene {
  const hashes: string[] = []
  const outbox = createOutbox(
    (message) => void hashes.push(message.kind === 'configure' ? message.hash : message.kind),
    (error) => assert.fail(String(error)),
  )
  const scene: Scene = {
    inUse: first,
    handover: createHandover(
      { worker: 1, startedText: '' },
      { outbox, inUse: () => scene.inUse, publisher: createPublisher() },
    ),
    queue: outbox.queue,
    async sent() {
      await nextTurn()
      return hashes
    },
  }
  return scene
}

test('createHandover() has one configuration under way at a time, and of those that come meanwhile hands over the last', async () => {
  const worker = openScene()
  worker.handover.reloaded()
  await worker.sent()

  for (const hash of ['second', 'third', 'fourth']) {
    worker.inUse = withHash(hash)
    worker.handover.reloaded()
  }

  assert.deepEqual(await worker.sent(), ['first'])
  worker.handover.configured()
  assert.deepEqual(await worker.sent(), ['first', 'fourth'])
  worker.handover.configured()
  assert.deepEqual(await worker.sent(), ['first', 'fourth'])
})

test('createHandover() hands over what is in use when what was queued before is done', async () => {
  const worker = openScene()
  const { promise: before, resolve: arrived } = Promise.withResolvers<void>()
  worker.queue(() => before)
  worker.handover.reloaded()
  worker.inUse = withHash('second')
  worker.handover.reloaded()

  arrived()

  assert.deepEqual(await worker.sent(), ['second'])
})

test('createHandover() hands nothing over where a reload has found all as it was', async () => {
  const worker = openScene()
  worker.handover.reloaded()
  worker.handover.configured()

  worker.inUse = withHash('first')
  worker.handover.reloaded()

  assert.deepEqual(await worker.sent(), ['first'])
})

const differences: readonly { readonly what: string; readonly next: Configuration }[] = [
  { what: 'a certificate', next: { ...first, files: new Map([['/ca.pem', Buffer.from('two')]]) } },
  { what: 'the number of files', next: { ...first, files: new Map([...first.files, ['/list', Buffer.from('')]]) } },
]
for (const { what, next } of differences) {
  test(`createHandover() hands over a configuration of the same hash where ${what} is another`, async () => {
    const worker = openScene()
    worker.handover.reloaded()
    await worker.sent()
    worker.handover.configured()

    worker.inUse = next
    worker.handover.reloaded()

    assert.deepEqual(await worker.sent(), ['first', 'first'])
  })
}
