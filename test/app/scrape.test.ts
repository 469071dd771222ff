import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { test } from 'node:test'
import { openWorld } from '../acceptance/harness.ts'

/** What a client got that asked this often on one connection: the answers, in order. */
function scrape(port: number, times: number): Promise<readonly string[]> {
  const { promise, resolve, reject } = Promise.withResolvers<readonly string[]>()
  const socket = connect(port, '127.0.0.1', () => {
    for (let left = times - 1; left >= 0; left -= 1)
      socket.write(`GET /metrics HTTP/1.1\r\nHost: h\r\n${left === 0 ? 'Connection: close\r\n' : ''}\r\n`)
  })
  let text = ''
  socket.setEncoding('latin1')
  socket.on('data', (chunk) => {
    text += chunk
  })
  socket.on('error', reject)
  socket.on('close', () => resolve(text.split(/^(?=HTTP\/1\.1 200 )/m)))
  return promise
}

test('startApp() makes few pages of metrics for a thousand who ask at once: each costs time in which nobody is served', async () => {
  await using world = await openWorld()
  const { health } = world.app.ports
  const beganMs = performance.now()

  const pages = (await Promise.all(Array.from({ length: 250 }, () => scrape(health, 4)))).flat()

  assert.equal(pages.length, 1000)
  // Of two pages, the processor time that is told differs.
  const told = new Set(pages.map((page) => /^process_cpu_seconds_total .+$/m.exec(page)?.[0]))
  assert.ok(!told.has(undefined))
  const most = 2 + (performance.now() - beganMs) / 250
  assert.ok(told.size <= most, `${told.size} pages were made, ${most} at most would be four a second`)
})

test('startApp() counts in a page of metrics what happened before it was asked for, however soon after another', async () => {
  await using world = await openWorld()
  const { health } = world.app.ports
  const allowed = /^postern_decisions_total\{decision="allow",reason="public".* 1$/m

  const [before = ''] = await scrape(health, 1)
  await world.ask({ path: '/public/a' })
  const [after = ''] = await scrape(health, 1)

  assert.doesNotMatch(before, allowed)
  assert.match(after, allowed)
})
