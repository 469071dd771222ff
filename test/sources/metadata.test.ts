import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate as nextTick } from 'node:timers/promises'
import type { HttpReply } from '../../src/io/http-client.ts'
import type { MetadataOptions } from '../../src/sources/metadata.ts'
import { createMetadata } from '../../src/sources/metadata.ts'
import { createTestClock } from '../support/clock.ts'
import { callFailed, later, reply } from './key-endpoint.ts'

const issuer = 'https://issuer.test/realm'

/** Metadata over documents by address; what is not there is 404. */
function metadataOf(
  documents: Record<string, () => HttpReply | Promise<HttpReply>>,
  options: Partial<MetadataOptions> = {},
) {
  const clock = createTestClock()
  const asked: string[] = []
  const deadlines: number[] = []
  const send = async ({ url }: { readonly url: string }, { deadlineMs }: { readonly deadlineMs: number }) => {
    asked.push(url)
    deadlines.push(deadlineMs)
    return (await documents[url]?.()) ?? reply(404, '')
  }
  return {
    asked,
    deadlines,
    clock,
    metadata: createMetadata({ issuer, insecure_http: false, ...options }, { clock, send }),
  }
}

/** What is under way with answers that are there has come to its end. */
async function settled(): Promise<void> {
  for (let turn = 0; turn < 3; turn += 1) await nextTick()
}

function document(more: Record<string, unknown> = {}): () => HttpReply {
  return () => reply(200, JSON.stringify({ issuer, jwks_uri: 'https://issuer.test/keys', ...more }))
}

const places = [
  'https://issuer.test/realm/.well-known/openid-configuration',
  'https://issuer.test/.well-known/oauth-authorization-server/realm',
  'https://issuer.test/.well-known/openid-configuration/realm',
] as const
for (const [at, place] of places.entries()) {
  test(`metadata.endpoint() finds the document at ${place}`, async () => {
    const { metadata, asked } = metadataOf({ [place]: document() })

    assert.equal(await metadata.endpoint('jwks_uri'), 'https://issuer.test/keys')
    assert.deepEqual(asked, at === 0 ? places.slice(0, 1) : places)
  })
}

test('metadata.endpoint() asks an issuer without path at two places, and one with a closing slash at its own', async () => {
  for (const [name, first] of [
    ['https://issuer.test', 'https://issuer.test/.well-known/openid-configuration'],
    ['https://issuer.test/', 'https://issuer.test/.well-known/openid-configuration'],
    ['https://issuer.test/a/', 'https://issuer.test/a/.well-known/openid-configuration'],
  ] as const) {
    const { metadata, asked } = metadataOf({ [first]: document({ issuer: name }) }, { issuer: name })

    assert.equal(await metadata.endpoint('jwks_uri'), 'https://issuer.test/keys', name)
    assert.deepEqual(asked, [first])
  }
})

test('metadata.endpoint() asks only where it is told to', async () => {
  const { metadata, asked } = metadataOf({ [places[0]]: document() }, { metadata_url: 'https://other.test/doc' })

  await assert.rejects(metadata.endpoint('jwks_uri'), { code: 'ERR_SOURCE_FAILED' })
  assert.deepEqual(asked, ['https://other.test/doc'])
})

const refused: readonly { what: string; answer: () => HttpReply | Promise<HttpReply> }[] = [
  { what: 'another issuer (mix-up)', answer: document({ issuer: 'https://attacker.test' }) },
  { what: 'the issuer with a slash more', answer: document({ issuer: `${issuer}/` }) },
  { what: 'the issuer in capitals', answer: document({ issuer: issuer.toUpperCase() }) },
  { what: 'the issuer with a default port', answer: document({ issuer: 'https://issuer.test:443/realm' }) },
  { what: 'a list of issuers', answer: document({ issuer: [issuer] }) },
  { what: 'no issuer', answer: document({ issuer: undefined }) },
  { what: 'no jwks_uri', answer: document({ jwks_uri: undefined }) },
  { what: 'a jwks_uri that is a list', answer: document({ jwks_uri: ['https://issuer.test/keys'] }) },
  { what: 'a jwks_uri of another scheme', answer: document({ jwks_uri: 'file:///etc/passwd' }) },
  { what: 'a jwks_uri with a user', answer: document({ jwks_uri: 'https://a:b@issuer.test/keys' }) },
  { what: 'a plain http jwks_uri', answer: document({ jwks_uri: 'http://issuer.test/keys' }) },
  {
    what: 'a plain http jwks_uri that looks like loopback',
    answer: document({ jwks_uri: 'http://localhost.attacker.test/k' }),
  },
  { what: 'a redirect', answer: () => reply(302, '', { location: places[1] }) },
  { what: 'a status of 500', answer: () => reply(500, '{}') },
  { what: 'HTML', answer: () => reply(200, '<html>') },
  { what: 'an array', answer: () => reply(200, '[]') },
  { what: 'an issuer named twice', answer: () => reply(200, `{"issuer":"${issuer}","issuer":"${issuer}"}`) },
  { what: 'no connection', answer: () => callFailed('connect') },
]
for (const { what, answer } of refused) {
  test(`metadata.endpoint() refuses a document with ${what}`, async () => {
    const { metadata } = metadataOf({ [places[0]]: answer })

    await assert.rejects(metadata.endpoint('jwks_uri'), (error) => {
      assert.ok(error instanceof Error && /^(?:SourceFailed|HttpCallFailed)$/.test(error.name), String(error))
      return true
    })
  })
}

for (const unusable of [null, '', undefined]) {
  test(`metadata.endpoint() finds the keys beside an introspection_endpoint that is ${JSON.stringify(unusable)}, and says which is unusable`, async () => {
    const { metadata } = metadataOf({ [places[0]]: document({ introspection_endpoint: unusable }) })

    assert.equal(await metadata.endpoint('jwks_uri'), 'https://issuer.test/keys')
    await assert.rejects(metadata.endpoint('introspection_endpoint'), /^SourceFailed: .* introspection_endpoint/)
  })
}

test('metadata.endpoint() takes plain http on loopback, and elsewhere only with insecure_http', async () => {
  const loopback = metadataOf({ [places[0]]: document({ jwks_uri: 'http://127.0.0.1:9000/keys' }) })
  assert.equal(await loopback.metadata.endpoint('jwks_uri'), 'http://127.0.0.1:9000/keys')

  const insecure = metadataOf(
    { [places[0]]: document({ jwks_uri: 'http://issuer.test/keys' }) },
    { insecure_http: true },
  )
  assert.equal(await insecure.metadata.endpoint('jwks_uri'), 'http://issuer.test/keys')
})

test('metadata.endpoint() fetches once for all who ask, keeps the document an hour, and nobody waits for a newer one', async () => {
  let keys = 'https://issuer.test/keys'
  const { metadata, asked, clock } = metadataOf({ [places[0]]: () => document({ jwks_uri: keys })() })
  await Promise.all([metadata.endpoint('jwks_uri'), metadata.endpoint('jwks_uri')])
  clock.pass(3_599_999)
  await metadata.endpoint('jwks_uri')
  assert.equal(asked.length, 1)

  clock.pass(1)
  keys = 'https://issuer.test/moved'
  assert.equal(await metadata.endpoint('jwks_uri'), 'https://issuer.test/keys')
  await settled()
  assert.equal(await metadata.endpoint('jwks_uri'), 'https://issuer.test/moved')
  assert.equal(asked.length, 2)
})

test('metadata.doubt() has the document fetched at once, once in a second whatever is answered, and what fails changes nothing', async (t) => {
  let answer = document()
  const { metadata, asked, clock } = metadataOf({ [places[0]]: () => answer() })
  await metadata.doubt()
  assert.equal(asked.length, 0, 'there is nothing to doubt yet')
  await metadata.endpoint('jwks_uri')
  asked.length = 0
  t.mock.timers.enable({ apis: ['setTimeout'] })

  answer = document({ issuer: 'https://attacker.test' })
  for (let at = 0; at < 100; at += 1) void metadata.doubt()
  await settled()
  assert.deepEqual(asked, places)
  assert.equal(await metadata.endpoint('jwks_uri'), 'https://issuer.test/keys')

  clock.pass(100)
  const doubts = Array.from({ length: 100 }, () => metadata.doubt())
  answer = document({ jwks_uri: 'https://issuer.test/moved' })
  t.mock.timers.tick(899)
  await settled()
  assert.equal(asked.length, 3, 'not for every token')
  clock.pass(900)
  t.mock.timers.tick(1)
  assert.equal(await metadata.endpoint('jwks_uri'), 'https://issuer.test/keys', 'nobody waits for it')
  await Promise.all(doubts)
  assert.equal(await metadata.endpoint('jwks_uri'), 'https://issuer.test/moved', 'and none is lost')
  assert.equal(asked.length, 4)
  void metadata.doubt()
  t.mock.timers.tick(999)
  await settled()
  assert.equal(asked.length, 4)
})

test('metadata.doubt() is answered by a reading that began after it, not by one that is under way and may bring what is doubted', async () => {
  let answer: () => HttpReply | Promise<HttpReply> = document()
  const { metadata, asked, clock } = metadataOf({ [places[0]]: () => answer() })
  await metadata.endpoint('jwks_uri')
  const old = later()
  answer = old.answer
  const first = metadata.doubt()
  await settled()
  clock.pass(1000)

  const second = metadata.doubt()
  old.settle(document()())
  answer = document({ jwks_uri: 'https://issuer.test/moved' })
  await Promise.all([first, second])

  assert.equal(await metadata.endpoint('jwks_uri'), 'https://issuer.test/moved')
  assert.equal(asked.length, 3)
})

test('metadata.endpoint() has a document that could not be fetched anew tried again after 30 s, and not for every token', async () => {
  let answer = document()
  const { metadata, asked, clock } = metadataOf({ [places[0]]: () => answer() })
  const asks = async () => {
    asked.length = 0
    for (let at = 0; at < 100; at += 1) {
      await metadata.endpoint('jwks_uri')
      await settled()
    }
    return asked.filter((url) => url === places[0]).length
  }
  await metadata.endpoint('jwks_uri')
  answer = () => reply(500, '')
  clock.pass(3_600_000)

  assert.equal(await asks(), 1)
  clock.pass(29_999)
  assert.equal(await asks(), 0)
  clock.pass(1)
  assert.equal(await asks(), 1)
})

const failing: readonly {
  what: string
  documents: Record<string, () => HttpReply | Promise<HttpReply>>
  says: string
}[] = [
  { what: 'nothing anywhere', documents: {}, says: 'status is 404, wanted 200' },
  {
    what: 'an issuer that is another',
    documents: { [places[1]]: document({ issuer: 'https://other.test' }) },
    says: `its issuer is https://other.test, wanted ${issuer}`,
  },
  {
    what: 'a page, and an issuer that is another',
    documents: { [places[0]]: () => reply(200, '<html>'), [places[1]]: document({ issuer: 'https://other.test' }) },
    says: `its issuer is https://other.test, wanted ${issuer}`,
  },
  { what: 'a breakdown', documents: { [places[2]]: () => reply(500, '') }, says: 'status is 500, wanted 200' },
  {
    what: 'a byte order mark',
    documents: { [places[0]]: () => reply(200, `\ufeff{"issuer":"${issuer}"}`) },
    says: 'Cannot parse JSON: no value at offset 0',
  },
  {
    what: 'too many members',
    documents: { [places[0]]: document({ scopes: Array.from({ length: 2048 }, () => 's') }) },
    says: 'Cannot parse JSON: too many members at offset',
  },
]
for (const { what, documents, says } of failing) {
  test(`metadata.endpoint() says of three places what is most telling: ${what}`, async () => {
    const { metadata } = metadataOf(documents)
    await assert.rejects(metadata.endpoint('jwks_uri'), (error: Error) => error.message.includes(says))
  })
}

test('metadata.endpoint() finds the document at the last of three places that are all slow, as slow as any call may be', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const slow = places.map(() => later())
  const { metadata, asked, deadlines } = metadataOf(
    Object.fromEntries(places.map((place, at) => [place, () => slow[at]?.answer() ?? reply(404, '')])),
  )
  const found = metadata.endpoint('jwks_uri')
  t.mock.timers.tick(249)
  await settled()
  assert.deepEqual(asked, places.slice(0, 1), 'most issuers are asked once')

  t.mock.timers.tick(1)
  await settled()
  assert.deepEqual(asked, places)
  assert.deepEqual(deadlines, [2000, 2000, 2000])
  slow[1]?.fail()
  slow[0]?.settle(reply(404, ''))
  slow[2]?.settle(document()())
  assert.equal(await found, 'https://issuer.test/keys')
})

test('metadata.endpoint() finds the document behind a place that is silent, each time anew', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  let moved = false
  const silent = later()
  const { metadata, asked } = metadataOf({
    [places[0]]: silent.answer,
    [places[1]]: () => document(moved ? { jwks_uri: 'https://issuer.test/moved' } : {})(),
  })
  const found = metadata.endpoint('jwks_uri')
  t.mock.timers.tick(250)
  await settled()
  silent.fail()
  assert.equal(await found, 'https://issuer.test/keys')

  moved = true
  await metadata.doubt()
  assert.equal(await metadata.endpoint('jwks_uri'), 'https://issuer.test/moved')
  assert.deepEqual(asked, [...places, ...places])
})

test('metadata.doubt() brings the document of the usual place back, where a hiccup had let a poorer one in', async () => {
  let isWell = false
  const introspection_endpoint = 'https://issuer.test/introspect'
  const { metadata } = metadataOf({
    [places[0]]: () => (isWell ? document({ introspection_endpoint })() : reply(500, '')),
    [places[1]]: document(),
  })
  assert.equal(await metadata.endpoint('jwks_uri'), 'https://issuer.test/keys')
  await assert.rejects(metadata.endpoint('introspection_endpoint'), /it has no introspection_endpoint/)

  isWell = true
  await metadata.doubt()
  assert.equal(await metadata.endpoint('introspection_endpoint'), introspection_endpoint)
})

test('metadata.doubt() takes no document of a later place while an earlier one fails: what is left there may be of old', async () => {
  let [usual, later]: [() => HttpReply | Promise<HttpReply>, () => HttpReply] = [
    document(),
    document({ jwks_uri: 'https://issuer.test/left-behind' }),
  ]
  const { metadata, clock } = metadataOf({ [places[0]]: () => usual(), [places[1]]: () => later() })
  await metadata.endpoint('jwks_uri')
  const doubted = async () => {
    clock.pass(1000)
    await metadata.doubt()
    return await metadata.endpoint('jwks_uri')
  }

  for (const failing of [() => reply(503, ''), () => reply(200, 'x'), () => callFailed('timeout')]) {
    usual = failing
    assert.equal(await doubted(), 'https://issuer.test/keys')
  }
  for (const status of [404, 410]) {
    usual = () => reply(status, '')
    later = document({ jwks_uri: `https://issuer.test/moved-${status}` })
    assert.equal(await doubted(), `https://issuer.test/moved-${status}`)
  }
  // Some never say what they do not have.
  usual = () => reply(403, '')
  later = document({ jwks_uri: 'https://issuer.test/moved-again' })
  assert.equal(await doubted(), 'https://issuer.test/moved-again')
})

test('metadata.endpoint() has the usual place asked again after 30 s, where a hiccup had let in what is left at a later one', async () => {
  let usual = () => reply(503, '')
  const { metadata, asked, clock } = metadataOf({
    [places[0]]: () => usual(),
    [places[1]]: document({ jwks_uri: 'https://issuer.test/left-behind' }),
  })
  const keysAfter = async (ms: number) => {
    clock.pass(ms)
    await metadata.endpoint('jwks_uri')
    await settled()
    return await metadata.endpoint('jwks_uri')
  }
  assert.equal(await keysAfter(0), 'https://issuer.test/left-behind')

  assert.equal(await keysAfter(30_000), 'https://issuer.test/left-behind', 'it still fails')
  usual = document()
  assert.equal(await keysAfter(29_999), 'https://issuer.test/left-behind')
  assert.equal(await keysAfter(1), 'https://issuer.test/keys')
  asked.length = 0
  await keysAfter(3_599_999)
  assert.equal(asked.length, 0)
})

test('metadata.endpoint() keeps the document of a later place for an hour where the usual one has nothing', async () => {
  const { metadata, asked, clock } = metadataOf({ [places[1]]: document() })
  await metadata.endpoint('jwks_uri')
  clock.pass(3_599_999)
  await metadata.endpoint('jwks_uri')

  assert.deepEqual(asked, places)
})

test('metadata.endpoint() takes the document of the first place that has one, whichever answers first', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const usual = later()
  const { metadata } = metadataOf({
    [places[0]]: usual.answer,
    [places[1]]: document({ jwks_uri: 'https://poor.test' }),
  })
  const found = metadata.endpoint('jwks_uri')
  t.mock.timers.tick(250)
  await settled()
  usual.settle(document()())

  assert.equal(await found, 'https://issuer.test/keys')
})

test('metadata.endpoint() tries again after a failure, and says of several failures the first', async () => {
  let up = false
  const slow = later()
  const { metadata } = metadataOf({ [places[0]]: () => (up ? document()() : slow.answer()) })
  const asked = [metadata.endpoint('jwks_uri'), metadata.endpoint('jwks_uri')]
  slow.fail()
  for (const each of asked) await assert.rejects(each, { code: 'ERR_HTTP_CALL_FAILED', kind: 'timeout' })

  up = true
  assert.equal(await metadata.endpoint('jwks_uri'), 'https://issuer.test/keys')
})
