import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import type { Socket } from 'node:net'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { reset } from '../../src/http1/reset.ts'
import { openPair } from './pair.ts'

test('reset() ends a connection of TCP so that its peer cannot take what came for all there is', async () => {
  await using pair = await openPair()
  pair.far.resume()
  const error = once(pair.far, 'error', { signal: AbortSignal.timeout(5000) })

  pair.near.write('half of it')
  reset(pair.near)

  assert.equal((await error)[0].code, 'ECONNRESET')
})

test('reset() closes what was ended already, which the system resets no more', async () => {
  await using pair = await openPair()
  pair.far.resume()
  pair.near.end('all of it')
  const closed = once(pair.near, 'close', { signal: AbortSignal.timeout(5000) })

  reset(pair.near)

  await closed
})

test('reset() closes a Unix socket, of which there is no reset', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'postern-'))
  const server = createServer().listen(join(directory, 'socket'))
  try {
    await once(server, 'listening')
    const far = connect(join(directory, 'socket')).resume()
    const [near] = (await once(server, 'connection')) as [Socket]
    const closed = once(far, 'close', { signal: AbortSignal.timeout(5000) })

    reset(near)

    await closed
  } finally {
    server.close()
    rmSync(directory, { recursive: true })
  }
})
