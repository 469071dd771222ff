// What a worker is sent of lists, and says of tokens meanwhile.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { answerOf, foundByLookup, revoked, setup, token } from '../sources/feed-server.ts'
import { limits, openPrimary, polledFeed } from './lists-world.ts'

function begunOf(sent: readonly string[]): readonly string[] {
  return sent.filter((each) => each.startsWith('list_begin') || each === 'configure')
}

test('a reload that makes a list anew sends nothing of it again: the copy in a worker is that of the next one, too', async () => {
  const feed = await polledFeed(2)
  const primary = await openPrimary([feed])
  const running = primary.list()
  primary.reload()

  assert.deepEqual(await primary.pass(), ['configure'])
  assert.notEqual(primary.list(), running)
  assert.deepEqual(primary.list().check(token({ jti: 't1' })), revoked)
  feed.revoke('new')
  await feed.blacklist.poll()

  await primary.pass()
  assert.deepEqual(primary.list().check(token({ jti: 'new' })), revoked)
})

test('of many reloads a worker is handed two, and of many lists that polls have replaced it is sent two', async () => {
  const feed = await polledFeed(2)
  const primary = await openPrimary([feed])

  for (let at = 0; at < 8; at += 1) {
    primary.reload()
    await feed.blacklist.poll()
  }

  assert.deepEqual(begunOf(await primary.pass()), ['configure', 'list_begin 0', 'list_begin 0', 'configure'])
  assert.deepEqual(primary.list().check(token({ jti: 't1' })), revoked)
})

test('a configuration that has been replaced while lists are on their way does not come into force any more', async () => {
  const primary = await openPrimary([await polledFeed(2)])
  primary.reloadWith(0, undefined)
  primary.reloadWith(1, await polledFeed(12_000, { cache_size: 20_000 }))
  await primary.pass()
  assert.equal(primary.hasList(0), false)
  primary.reloadWith(0, await polledFeed(2))
  await primary.pass()
  const bad = token({ jti: 't1' })

  // Without the first list, and with another long one.
  primary.reloadWith(0, undefined)
  const again = await polledFeed(2)
  primary.reloadWith(2, await polledFeed(12_000, { cache_size: 20_000 }))
  await primary.pass('list_slice')
  primary.reloadWith(0, again)

  const sent: string[] = []
  for (;;) {
    const step = await primary.step()
    if (step === undefined) break
    sent.push(step)
    if (step === 'configure') assert.deepEqual(primary.list(0).check(bad), revoked)
  }
  assert.deepEqual(begunOf(sent), ['list_begin 0', 'configure'])
})

test('what was revoked since lists were sent is not let pass again by a list that was walked before', async () => {
  const [feed, other] = [await polledFeed(6000), await polledFeed(5000)]
  const primary = await openPrimary([feed, other])
  const bad = token({ jti: 'bad' })
  primary.reload()
  await other.blacklist.poll()
  await feed.blacklist.poll()
  await primary.pass('list_slice')
  feed.revoke('bad')
  await feed.blacklist.poll()
  primary.reload()
  await feed.blacklist.poll()

  await primary.step()
  await primary.pass('list_end')
  do assert.deepEqual(primary.list().check(bad), revoked)
  while ((await primary.step()) !== undefined)
})

test('a list is not called fresh by a poll that read it anew before that is sent', async () => {
  const [feed, other] = [await polledFeed(2), await polledFeed(7000)]
  const primary = await openPrimary([feed, other])
  const [good, bad] = [token({ jti: 'good' }), token({ jti: 'bad' })]
  feed.pass(limits.max_staleness + 1)
  other.pass(limits.max_staleness + 1)
  Object.assign(other.feed, { epoch: 'e2' })
  await other.blacklist.poll()
  await primary.pass('list_slice')
  feed.revoke('bad')
  primary.reload()

  await feed.blacklist.poll()

  while (!(await primary.pass('list_end')).includes('list_begin 0')) {
    assert.deepEqual(primary.list().check(bad), revoked)
    assert.equal(primary.list().check(good), 'stale')
    await primary.step()
  }
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

test('a revocation that is read with a whole list reaches the list that a worker runs ahead of that, and no other', async () => {
  const feed = await polledFeed(7000)
  const primary = await openPrimary([feed, await polledFeed(2)])
  const running = primary.list()
  primary.reload()
  await feed.blacklist.poll()
  await primary.pass('list_slice')

  feed.revoke('new')
  primary.reload()
  await feed.blacklist.poll()

  const sent = await primary.pass('list_end')
  assert.deepEqual(
    sent.filter((each) => each.startsWith('list_added')),
    ['list_added 0'],
  )
  assert.deepEqual(running.check(token({ jti: 'new' })), revoked)
  assert.deepEqual(primary.list().check(token({ jti: 'new' })), revoked)
  assert.equal(primary.list(1).check(token({ jti: 'new' })), undefined)
})

test('a short list is handed over before a long one', async () => {
  const primary = await openPrimary([await polledFeed(0)])
  const { promise: before, resolve: arrived } = Promise.withResolvers<void>()
  primary.queue(() => before)
  for (const [at, entries] of [7000, 2, 1].entries()) primary.reloadWith(at + 1, await polledFeed(entries))
  arrived()

  assert.deepEqual(begunOf(await primary.pass()), ['list_begin 3', 'list_begin 2', 'list_begin 1', 'configure'])
})

test('a worker is told nothing of a list once no configuration has it, nor sent it where that was on its way', async () => {
  const feed = await polledFeed(2)
  const primary = await openPrimary([feed])
  const { promise: before, resolve: arrived } = Promise.withResolvers<void>()
  primary.queue(() => before)
  Object.assign(feed.feed, { epoch: 'e2', entries: [], lastSeq: 0 })
  await feed.blacklist.poll()

  primary.reloadWith(0, undefined)
  feed.revoke('new')
  await feed.blacklist.poll()
  arrived()

  assert.deepEqual(await primary.pass(), ['configure'])
})

test('a list that comes back to an issuer is sent whole, and is not the one that a worker had', async () => {
  const primary = await openPrimary([await polledFeed(2)])
  primary.reloadWith(0, undefined)
  await primary.pass()
  const feed = await polledFeed(1)
  primary.reloadWith(0, feed)

  assert.deepEqual(begunOf(await primary.pass()), ['list_begin 0', 'configure'])
  assert.deepEqual(primary.list().check(token({ jti: 't0' })), revoked)
  assert.equal(primary.list().check(token({ jti: 't1' })), undefined)
})

for (const kind of ['list_slice', 'list_end', 'configure'] as const) {
  test(`what could not be handed over, as its ${kind} could not be sent, is handed over at the next reload, which finds nothing new`, async () => {
    const primary = await openPrimary([await polledFeed(2)])
    primary.breakAt(kind)
    primary.reloadWith(1, await polledFeed(7000))
    await primary.pass()
    assert.equal(primary.hasList(1), false)

    primary.reloadSame()
    await primary.pass()

    assert.deepEqual(primary.list(1).check(token({ jti: 't0' })), revoked)
    assert.deepEqual(primary.list(1).check(token({ jti: 't6999' })), revoked)
    assert.equal(primary.list(1).check(token({ jti: 'other' })), undefined)
  })
}

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
  const primary = await openPrimary([await polledFeed(0)], room)
  primary.reloadWith(1, feed)
  await primary.pass('list_slice')

  feed.answer = undefined
  await feed.blacklist.poll()

  const bad = token({ jti: 'bad' })
  for (;;) {
    if (primary.hasList(1)) assert.notEqual(await primary.list(1).check(bad), undefined)
    if ((await primary.step()) === undefined) break
  }
  assert.deepEqual(primary.list(1).check(bad), revoked)
})

test("a list that polls confirm stays fresh in a worker while another issuer's long one is on its way", async () => {
  const [feed, other] = [await polledFeed(2), await polledFeed(7000)]
  const primary = await openPrimary([feed, other])
  Object.assign(other.feed, { epoch: 'e2' })
  await other.blacklist.poll()
  feed.pass(limits.max_staleness + 1)
  assert.equal(primary.list().check(token({ jti: 'good' })), 'stale')

  await feed.blacklist.poll()

  await primary.pass('list_end')
  assert.equal(primary.list().check(token({ jti: 'good' })), undefined)
})

test('a list is not called fresh ahead of the many entries of a poll before, which wait for what is on its way', async () => {
  const room = { cache_size: 20_000 }
  const [feed, other] = [await polledFeed(2, room), await polledFeed(7000)]
  const primary = await openPrimary([feed, other], room)
  Object.assign(other.feed, { epoch: 'e2' })
  await other.blacklist.poll()
  const bad = [token({ jti: 'bad1' }), token({ jti: 'bad2' })] as const
  for (const first of ['bad1', 'bad2']) {
    for (let at = 0; at <= 5000; at += 1) feed.revoke(at === 0 ? first : `after-${first}-${at}`)
    await feed.blacklist.poll()
  }
  const sent: string[] = []
  const step = async () => sent.push((await primary.step()) ?? assert.fail('nothing is sent any more'))
  // It is stale by then, unless it is called fresh.
  const pollLate = async () => {
    feed.pass(limits.max_staleness + 1)
    await feed.blacklist.poll()
  }

  await pollLate()
  for (const each of bad) {
    while (primary.list().check(each) === 'stale') {
      await pollLate()
      await step()
      sent.push(...(await primary.pass('list_slice')))
    }
    assert.deepEqual(primary.list().check(each), revoked)
  }
  sent.push(...(await primary.pass()))

  assert.equal(sent.includes('list_added 0'), false)
  assert.equal(sent.filter((each) => each === 'list_slice 0').length, 4)
  for (const jti of ['after-bad1-5000', 'after-bad2-5000'])
    assert.deepEqual(primary.list().check(token({ jti })), revoked)
  assert.equal(primary.list().check(token({ jti: 'good' })), undefined)
  // And when nothing waits any more, it is at once.
  Object.assign(other.feed, { epoch: 'e3' })
  await other.blacklist.poll()
  await pollLate()
  await primary.pass('list_end')
  assert.equal(primary.list().check(token({ jti: 'good' })), undefined)
})

test('what is revoked while the last slice of a list is on its way is in that list', async () => {
  const feed = await polledFeed(7000)
  const primary = await openPrimary([feed])
  Object.assign(feed.feed, { epoch: 'e2' })
  await feed.blacklist.poll()
  await primary.pass('list_slice')
  await primary.step()
  await primary.pass('list_slice')

  feed.revoke('new')
  await feed.blacklist.poll()

  assert.deepEqual(await primary.pass('list_end'), ['list_slice 0', 'list_added 0'])
  await primary.pass()
  assert.deepEqual(primary.list().check(token({ jti: 'new' })), revoked)
})

test('what an issuer counts and never delivered is asked for in a worker, from a whole list and from a poll on', async () => {
  const feed = await polledFeed(2)
  feed.revoke('hidden')
  const withoutIt = { ...feed.feed, entries: feed.feed.entries.slice(0, 2), twist: { total_live: 3 } }
  const isRead = (url: string) => url.includes('/blacklist?')
  feed.answer = (call) => (isRead(call.url) ? answerOf(withoutIt, call) : undefined)
  const hidden = token({ jti: 'hidden' })

  const early = await openPrimary([feed])
  assert.equal(early.list().check(hidden), undefined)
  await feed.blacklist.poll()
  await early.pass()
  assert.deepEqual(await early.list().check(hidden), foundByLookup)

  const late = await openPrimary([feed])
  assert.deepEqual(await late.list().check(hidden), foundByLookup)
})

test('what is counted while a list is on its way, and not delivered, is asked for once that has come', async () => {
  const feed = await polledFeed(7000)
  const primary = await openPrimary([setup()])
  primary.reloadWith(0, feed)
  await primary.pass('list_slice')

  feed.revoke('hidden')
  const withoutIt = { ...feed.feed, entries: feed.feed.entries.slice(0, 7000), twist: { total_live: 7001 } }
  feed.answer = (call) => (call.url.includes('/blacklist?') ? answerOf(withoutIt, call) : undefined)
  await feed.blacklist.poll()

  await primary.pass('list_end')
  await primary.step()
  await primary.pass('configure')
  await primary.step()
  assert.deepEqual(await primary.list().check(token({ jti: 'hidden' })), foundByLookup)
})
