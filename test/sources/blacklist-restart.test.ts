import assert from 'node:assert/strict'
import { test } from 'node:test'
import { loaded, query, raw, revoked, setup, t0, token } from './feed-server.ts'

test('poll() refuses a complete list of the same epoch with fewer live entries: entry removal', async () => {
  await using it = await loaded()
  // A count that does not add up makes us read the whole list again.
  it.feed.twist = { total_live: 5 }
  await it.blacklist.poll()
  it.feed.twist = {}
  it.feed.entries.shift()
  await it.blacklist.poll()

  assert.deepEqual(it.counts, ['updated', 'updated', 'refused'])
  assert.equal(query(it.calls.at(-1), 'cursor'), '0')
  assert.deepEqual(it.blacklist.check(token({ jti: 'a' })), revoked)
})

for (const [where, hours, withdrawn, result] of [
  ['ahead', 2, 'a live entry', 'refused'],
  ['behind', -2, 'an entry that has expired', 'updated'],
] as const)
  test(`poll() judges at server_time which entries are live, with our clock two hours ${where}: without ${withdrawn} the list is ${result}`, async () => {
    await using it = setup()
    it.clock.wallMs += hours * 3_600_000
    it.revoke('a', result === 'refused' ? {} : { expires_at: t0 + 10 })
    it.revoke('b')
    await it.blacklist.poll()
    it.feed.twist = { total_live: 5 }
    await it.blacklist.poll()
    it.feed.twist = {}
    it.pass(71_000)
    it.feed.entries.shift()
    await it.blacklist.poll()

    assert.deepEqual(it.counts, ['updated', 'updated', result])
  })

test('poll() takes a complete list of the same epoch with fewer entries once the others have expired', async () => {
  await using it = setup()
  it.revoke('a')
  it.revoke('old', { expires_at: t0 + 10 })
  await it.blacklist.poll()
  it.feed.twist = { total_live: 5 }
  await it.blacklist.poll()
  it.feed.twist = {}
  it.pass(71_000)
  await it.blacklist.poll()

  assert.deepEqual(it.counts, ['updated', 'updated', 'updated'])
  assert.equal(it.blacklist.state().entries, 1)
  assert.equal(it.blacklist.state().lookups, false)
  it.revoke('c')
  await it.blacklist.poll()
  assert.equal(query(it.calls.at(-1), 'cursor'), '2', 'the cursor does not go back to the last live entry')
})

test('poll() asks for no condition with the ETag of a whole list that ends before where we were', async () => {
  await using it = setup()
  it.revoke('a', { expires_at: t0 + 10 })
  it.revoke('b', { expires_at: t0 + 10 })
  await it.blacklist.poll()
  it.feed.twist = { total_live: 5 }
  await it.blacklist.poll()
  it.feed.twist = {}
  it.pass(71_000)
  await it.blacklist.poll()
  assert.equal(query(it.calls.at(-1), 'cursor'), '0')

  await it.blacklist.poll()

  assert.equal(query(it.calls.at(-1), 'cursor'), '2')
  assert.equal(it.calls.at(-1)?.headers?.['if-none-match'], undefined)
})

test('poll() warns of entries that the issuer counts and never delivers, and not of a list that was loaded', async () => {
  await using it = await loaded()
  it.feed.twist = { total_live: 5 }
  await it.blacklist.poll()

  assert.deepEqual(
    it.events.map((event) => event.split(' ')[0]),
    ['blacklist_loaded', 'blacklist_incomplete'],
  )
  assert.deepEqual(it.warnings, ['blacklist_incomplete'])
})

test('poll() asks for tokens one by one when the issuer counts entries it never delivered, and reads all again', async () => {
  await using it = await loaded()
  it.revoke('lost')
  // A replica that had not seen seq 3 yet told us of seq 4 first.
  const lost = it.feed.entries.pop()
  it.revoke('d')
  await it.blacklist.poll()
  assert.ok(lost)
  it.feed.entries.splice(2, 0, lost)
  await it.blacklist.poll()

  assert.equal(it.blacklist.state().lookups, true)
  assert.deepEqual(await it.blacklist.check(token({ jti: 'lost' })), { kind: 'jti', cause: 'admin' })
  await it.blacklist.poll()
  assert.equal(it.blacklist.state().lookups, false)
  assert.deepEqual(it.blacklist.check(token({ jti: 'lost' })), revoked)
})

test('poll() reads all again once in ten minutes, while the numbers of the issuer never agree', async () => {
  await using it = await loaded()
  it.feed.twist = { total_live: 5 }
  const cursorOf = async () => {
    it.pass(60_000)
    await it.blacklist.poll()
    return query(it.calls.at(-1), 'cursor')
  }
  const cursors: (string | null)[] = []
  for (let poll = 0; poll < 13; poll += 1) cursors.push(await cursorOf())

  // What is missing is known from the first on; ten minutes after the second all is read again.
  assert.deepEqual(cursors, ['2', '0', ...Array.from({ length: 9 }, () => '2'), '0', '2'])
  assert.deepEqual(
    it.events.map((event) => event.split(' ')[0]),
    ['blacklist_loaded', 'blacklist_incomplete'],
  )
})

const restarts = [
  { is: 'a new epoch', change: { epoch: 'e2' } },
  { is: 'a new epoch that is behind', change: { epoch: 'e2', lastSeq: 1 } },
  { is: 'the same epoch that is behind (reset)', change: { lastSeq: 0 } },
] as const
for (const { is, change } of restarts) {
  test(`poll() keeps what it held beside a restored issuer's list: ${is}`, async () => {
    await using it = await loaded()
    it.feed.entries = []
    Object.assign(it.feed, change)
    it.revoke('c')
    await it.blacklist.poll()

    assert.equal(it.counts.at(-1), 'updated')
    assert.equal(query(it.calls.at(-1), 'cursor'), '0', 'the answer to an old cursor may be a part')
    for (const jti of ['a', 'b', 'c']) assert.deepEqual(it.blacklist.check(token({ jti })), revoked)
    assert.equal(it.blacklist.state().entries, 3)
  })
}

test('poll() goes on after a restored issuer with an empty list, and drops what it kept when that runs out', async () => {
  await using it = await loaded()
  Object.assign(it.feed, { epoch: 'e2', entries: [], lastSeq: 0 })
  await it.blacklist.poll()
  await it.blacklist.poll()

  assert.deepEqual(it.counts, ['updated', 'updated', 'unchanged'])
  assert.deepEqual(it.blacklist.check(token({ jti: 'a' })), revoked)
  it.pass(3_660_000)
  await it.blacklist.poll()
  assert.equal(it.blacklist.state().entries, 0)
})

test('poll() keeps the union over a second restore', async () => {
  await using it = await loaded()
  for (const epoch of ['e2', 'e3']) {
    Object.assign(it.feed, { epoch, entries: [], lastSeq: 0 })
    it.revoke(`only in ${epoch}`)
    await it.blacklist.poll()
  }

  for (const jti of ['a', 'only in e2', 'only in e3']) assert.deepEqual(it.blacklist.check(token({ jti })), revoked)
})

test('poll() swaps a new epoch in only when its last page is in', async () => {
  await using it = await loaded()
  Object.assign(it.feed, { epoch: 'e2', pageSize: 1 })
  it.revoke('c')
  it.answer = (call) => (query(call, 'cursor') === '1' ? raw(503, '') : undefined)
  await it.blacklist.poll()

  assert.equal(it.blacklist.check(token({ jti: 'c' })), undefined)
  assert.deepEqual(it.blacklist.check(token({ jti: 'a' })), revoked)
  it.answer = undefined
  await it.blacklist.poll()
  assert.deepEqual(it.blacklist.check(token({ jti: 'c' })), revoked)
})
