// What a worker is sent of lists, and says of tokens meanwhile.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { answerOf, foundByLookup, revoked, setup, token } from '../sources/feed-server.ts'
import { limits, openPrimary, polledFeed } from './lists-world.ts'

function begunOf(sent: readonly string[]): readonly string[] {
  return sent.filter((each) => each.startsWith('list_begin') || each === 'configure')
}

test('a list that a reload has made anew is sent only with a configuration that is handed over: of many reloads with two', async () => {
  const feed = await polledFeed(2)
  const primary = await openPrimary([feed])

  primary.reload()
  const sent = [...(await primary.pass('configure'))]
  for (let at = 0; at < 7; at += 1) {
    primary.reload()
    await feed.blacklist.poll()
    sent.push(...(await primary.pass('configure')))
  }
  sent.push(...(await primary.pass()))

  assert.deepEqual(begunOf(sent), ['list_begin 3', 'configure', 'list_begin 10', 'configure'])
  assert.deepEqual(primary.list().check(token({ jti: 't1' })), revoked)
})

test('a configuration that is under way keeps its lists, whatever is reloaded meanwhile', async () => {
  const primary = await openPrimary([await polledFeed(7000), await polledFeed(2)])
  primary.reload()
  const sent = [...(await primary.pass('list_slice'))]

  primary.reload()

  sent.push(...(await primary.pass('configure')))
  assert.deepEqual(begunOf(sent), ['list_begin 6', 'list_begin 5'])
  // Nothing of the next one yet.
  await primary.pass('list_begin')
  assert.deepEqual(primary.list().check(token({ jti: 't6999' })), revoked)
  for (const at of [0, 1]) assert.equal(primary.list(at).check(token({ jti: 'other' })), undefined)
})

test('what was revoked since a configuration was handed over is not let pass again on the way to the next one', async () => {
  const [first, second] = [await polledFeed(5000), await polledFeed(6000)]
  const primary = await openPrimary([first, second])
  const bad = token({ jti: 'bad' })
  primary.reload()
  await primary.pass('list_slice')

  // Its second list has not been sent yet. The one in its place reads its feed anew, and then on.
  primary.reload()
  await second.blacklist.poll()
  second.revoke('bad')
  await second.blacklist.poll()

  await primary.pass('configure')
  const running = primary.list(1)
  assert.deepEqual(running.check(bad), revoked)
  await primary.pass('list_begin')
  assert.notEqual(primary.list(1), running)
  assert.deepEqual(primary.list(1).check(bad), revoked)
  await primary.pass()
  assert.deepEqual(primary.list(1).check(bad), revoked)
})

test('a list is not called fresh by a poll that read it anew, where that is sent with another configuration', async () => {
  const feed = await polledFeed(7000)
  const primary = await openPrimary([feed])
  const [good, bad] = [token({ jti: 'good' }), token({ jti: 'bad' })]
  feed.pass(limits.max_staleness + 1)
  feed.revoke('bad')
  primary.reload()
  await primary.pass('list_slice')

  // What has been read anew waits for the list that is on its way, and is no longer in use when that has come.
  await feed.blacklist.poll()
  primary.reload()

  await primary.pass('configure')
  await primary.pass('list_begin')
  assert.notEqual(primary.list().check(bad), undefined)
  assert.equal(primary.list().check(good), 'stale')
  await primary.pass()
  assert.deepEqual(primary.list().check(bad), revoked)
  assert.equal(primary.list().check(good), undefined)
})

test('a list that was not there yet when its configuration was handed over is sent when it comes', async () => {
  const feed = setup()
  const primary = await openPrimary([feed])
  assert.equal(primary.list().check(token({ jti: 'first' })), 'stale')

  feed.revoke('first')
  await feed.blacklist.poll()

  await primary.pass()
  assert.deepEqual(primary.list().check(token({ jti: 'first' })), revoked)
})

test('a revocation reaches the list that a worker runs while it is on its way to another, which has it, too', async () => {
  const feed = await polledFeed(7000)
  const primary = await openPrimary([feed, await polledFeed(2)])
  const running = primary.list()
  primary.reload()
  primary.reload()
  await feed.blacklist.poll()
  await primary.pass('list_slice')

  feed.revoke('new')
  await feed.blacklist.poll()

  await primary.pass('list_end')
  assert.equal(primary.list(), running)
  assert.deepEqual(running.check(token({ jti: 'new' })), revoked)
  assert.equal(primary.list(1).check(token({ jti: 'new' })), undefined)
  await primary.pass()
  assert.notEqual(primary.list(), running)
  assert.deepEqual(primary.list().check(token({ jti: 'new' })), revoked)
})

test('a revocation that is read with a whole list reaches the list that a worker runs ahead of that', async () => {
  const feed = await polledFeed(7000)
  const primary = await openPrimary([feed])
  const running = primary.list()
  primary.reload()
  await primary.pass('list_slice')

  feed.revoke('new')
  await feed.blacklist.poll()

  const sent = await primary.pass('list_end')
  assert.deepEqual(
    sent.filter((each) => each.startsWith('list_added')),
    ['list_added 2', 'list_added 3'],
  )
  assert.equal(primary.list(), running)
  assert.deepEqual(running.check(token({ jti: 'new' })), revoked)
})

test('a short list is handed over before a long one', async () => {
  const primary = await openPrimary([await polledFeed(7000), await polledFeed(2), await polledFeed(1)])

  primary.reload()

  assert.deepEqual(begunOf(await primary.pass()), ['list_begin 9', 'list_begin 8', 'list_begin 7', 'configure'])
})

test('a worker is told nothing more of a list that it ran once', async () => {
  const feed = await polledFeed(2)
  const primary = await openPrimary([feed])
  primary.reload()
  await feed.blacklist.poll()
  await primary.pass()

  feed.revoke('new')
  await feed.blacklist.poll()

  assert.deepEqual(await primary.pass(), ['list_added 3', 'list_state 3'])
})

test('another list that a poll has brought is not sent any more once its configuration is not in use', async () => {
  const feed = await polledFeed(2)
  const primary = await openPrimary([feed])
  // Behind what is on its way.
  const { promise: before, resolve: arrived } = Promise.withResolvers<void>()
  primary.queue(() => before)
  Object.assign(feed.feed, { epoch: 'e2', entries: [], lastSeq: 0 })
  await feed.blacklist.poll()

  primary.reload()
  arrived()

  assert.deepEqual(begunOf(await primary.pass()), ['list_begin 3', 'configure'])
  assert.deepEqual(primary.list().check(token({ jti: 't1' })), revoked)
})

for (const kind of ['list_slice', 'list_end', 'configure'] as const) {
  test(`what could not be handed over, as its ${kind} could not be sent, is handed over whole at the next reload, which finds nothing new`, async () => {
    const feed = await polledFeed(7000)
    const primary = await openPrimary([feed])
    const running = primary.list()
    primary.breakAt(kind)
    primary.reload()
    await primary.pass()
    assert.equal(primary.list(), running)

    primary.reloadSame()
    await primary.pass()

    assert.notEqual(primary.list(), running)
    assert.deepEqual(primary.list().check(token({ jti: 't0' })), revoked)
    assert.equal(primary.list().check(token({ jti: 'other' })), undefined)
  })
}

test('a list that a reload leaves as it is is not sent again', async () => {
  const primary = await openPrimary([await polledFeed(2)])

  primary.reloadRules()

  assert.deepEqual(begunOf(await primary.pass()), ['configure'])
  assert.deepEqual(primary.list().check(token({ jti: 't1' })), revoked)
})

test('a revocation reaches the list that a worker has come to while it is on its way to the next one', async () => {
  const feed = await polledFeed(7000)
  const primary = await openPrimary([feed])
  primary.reload()
  await primary.pass('list_slice')
  primary.reload()
  await feed.blacklist.poll()
  await primary.pass('configure')
  await primary.pass('list_slice')
  const running = primary.list()

  feed.revoke('new')
  await feed.blacklist.poll()

  await primary.pass('list_end')
  assert.equal(primary.list(), running)
  assert.deepEqual(running.check(token({ jti: 'new' })), revoked)
})

test('a token that was refused is refused when its entry has made room while another list is on its way, whatever was answered before', async () => {
  const room = { cache_size: 10 }
  const [feed, other] = [await polledFeed(12, room), await polledFeed(12_000, { cache_size: 20_000 })]
  const primary = await openPrimary([feed, other], room)
  const bad = token({ jti: 'bad' })
  assert.equal(await primary.list().check(bad), undefined)
  Object.assign(other.feed, { epoch: 'e2' })
  await other.blacklist.poll()
  await primary.pass('list_slice')
  feed.revoke('bad')
  await feed.blacklist.poll()
  await primary.step()
  await primary.pass('list_slice')
  assert.deepEqual(primary.list().check(bad), revoked)

  for (let at = 0; at < 11; at += 1) feed.revoke(`more${at}`)
  await feed.blacklist.poll()
  await primary.step()
  await primary.pass('list_slice')

  assert.deepEqual(await primary.list().check(bad), foundByLookup)
})

test('an issuer whose total_live goes up and down without end ends no worker', async () => {
  const feed = await polledFeed(1)
  const primary = await openPrimary([feed])

  const most = Number.MAX_SAFE_INTEGER
  for (const total_live of [most, most, 0, most]) {
    feed.revoke(`at${feed.feed.lastSeq}`)
    feed.feed.twist = { total_live }
    await feed.blacklist.poll()
  }
  feed.revoke('bad')
  await feed.blacklist.poll()
  await primary.pass()

  assert.deepEqual(primary.list().check(token({ jti: 'bad' })), revoked)
  assert.equal(feed.warnings.filter((each) => each === 'blacklist_incomplete').length, 2)
})

test('a list that was walked is not called complete by the count of another, that has come meanwhile', async () => {
  const room = { cache_size: 20_000 }
  const feed = await polledFeed(7000, room)
  // More than go ahead of a list that is on its way: counted, and not delivered.
  for (let at = 0; at <= 5000; at += 1) feed.revoke(at === 0 ? 'bad' : `hidden${at}`)
  const delivered = { ...feed.feed, entries: feed.feed.entries.slice(0, 7000), twist: { total_live: 12_001 } }
  feed.answer = (call) => (call.url.includes('cursor=7000') ? answerOf(delivered, call) : undefined)
  await feed.blacklist.poll()
  const primary = await openPrimary([feed], room)
  const bad = token({ jti: 'bad' })
  assert.deepEqual(await primary.list().check(bad), foundByLookup)
  feed.reload({})
  primary.reloadRules()
  await primary.pass('list_slice')

  feed.answer = undefined
  await feed.blacklist.poll()

  for (;;) {
    assert.notEqual(await primary.list().check(bad), undefined)
    if ((await primary.step()) === undefined) break
  }
  assert.deepEqual(primary.list().check(bad), revoked)
})
