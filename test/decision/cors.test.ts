import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { corsOptions, createCors, findCorsConflicts } from '../../src/decision/cors.ts'

const app = 'https://app.example.com'
const cors = (more: Record<string, unknown> = {}) => createCors(corsOptions.parse({ allow_origins: [app], ...more }))

test('createCors().answerPreflight() tells a listed origin what it may', () => {
  const lines = cors({ allow_methods: ['PUT'], allow_headers: ['X-A', 'X-B'], max_age: '90s' }).answerPreflight(app)

  assert.deepEqual(lines, [
    ...['Access-Control-Allow-Origin', app],
    ...['Access-Control-Allow-Methods', 'PUT'],
    ...['Access-Control-Allow-Headers', 'X-A, X-B'],
    ...['Access-Control-Max-Age', '90'],
    ...['Vary', 'Origin'],
  ])
})

const strangers = [
  'https://evil.example',
  'https://app.example.com.evil.example',
  'https://evil.example/https://app.example.com',
  'http://app.example.com',
  'https://app.example.com:8443',
  'HTTPS://APP.EXAMPLE.COM',
  'https://app.example.com ',
  'https://sub.app.example.com',
  'null',
  '*',
  '',
]
for (const stranger of strangers) {
  test(`createCors() says nothing to the origin ${JSON.stringify(stranger)}`, () => {
    const { answerPreflight, answer, originOf } = cors({ allow_credentials: true })
    const from = originOf(['Origin', stranger])

    assert.deepEqual(answerPreflight(from), ['Vary', 'Origin'])
    assert.deepEqual(answer(from, ['Access-Control-Allow-Origin', stranger]), ['Vary', 'Origin'])
  })
}

test('createCors() never names an origin that is not listed', () => {
  const { answer, answerPreflight } = cors({ allow_credentials: true })
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.webUrl(), fc.constant(app)), (from) => {
      const allowed = [answer(from, []), answerPreflight(from)].map((lines) =>
        lines.includes('Access-Control-Allow-Origin'),
      )
      assert.deepEqual(allowed, [from === app, from === app])
    }),
  )
})

test('createCors().answer() replaces what the upstream says of other origins, and appends to Vary', () => {
  const upstream = [
    ...['Content-Type', 'text/plain'],
    ...['access-control-allow-origin', '*'],
    ...['Access-Control-Allow-Credentials', 'true'],
    ...['Vary', 'Accept'],
  ]
  const lines = cors({ expose_headers: ['X-Total', 'Etag'] }).answer(app, upstream)

  assert.deepEqual(lines, [
    ...['Content-Type', 'text/plain'],
    ...['Vary', 'Accept'],
    ...['Access-Control-Allow-Origin', app],
    ...['Access-Control-Expose-Headers', 'X-Total, Etag'],
    ...['Vary', 'Origin'],
  ])
})

test('createCors().answer() says on every answer that it varies, unless it is said already', () => {
  assert.deepEqual(cors().answer(undefined, []), ['Vary', 'Origin'])
  for (const vary of ['*', 'Accept, Origin', 'origin'])
    assert.deepEqual(cors().answer(undefined, ['vary', vary]), ['vary', vary])
  assert.deepEqual(cors().answer(undefined, ['vary', 'X-Origin']), ['vary', 'X-Origin', 'Vary', 'Origin'])
})

test('createCors() with * names nobody, varies with nobody, and sends no credentials', () => {
  const { answer } = cors({ allow_origins: ['*'] })

  assert.deepEqual(answer('https://any.example', []), ['Access-Control-Allow-Origin', '*'])
  assert.deepEqual(answer(undefined, []), [])
})

test('createCors() has credentials sent where that is configured', () => {
  assert.deepEqual(cors({ allow_credentials: true }).answer(app, []).slice(2, 4), [
    'Access-Control-Allow-Credentials',
    'true',
  ])
})

test('createCors().isPreflight() asks for OPTIONS, an origin and a method', () => {
  const { isPreflight } = cors()
  const both = ['origin', app, 'access-control-request-method', 'PUT']

  assert.equal(isPreflight('OPTIONS', both), true)
  assert.equal(isPreflight('GET', both), false)
  assert.equal(isPreflight('OPTIONS', both.slice(0, 2)), false)
  assert.equal(isPreflight('OPTIONS', both.slice(2)), false)
  assert.equal(isPreflight('OPTIONS', ['X', 'origin', 'Y', 'access-control-request-method']), false)
})

test('createCors().originOf() takes no origin from a request that names two', () => {
  assert.equal(cors().originOf(['ORIGIN', app]), app)
  assert.equal(cors().originOf(['Origin', app, 'origin', app]), undefined)
})

const refused = [
  'https://app.example.com/',
  'https://App.example.com',
  'https://app.example.com:443',
  'http://a:80',
  'null',
]
for (const written of [
  ...refused,
  'app.example.com',
  'https://*.example.com',
  'https://a.test:70000',
  'https://a@b.test',
]) {
  test(`corsOptions refuses the origin ${written}: no browser would ever send it, or anybody could`, () => {
    assert.equal(corsOptions.safeParse({ allow_origins: [written] }).success, false)
  })
}

for (const written of ['http://localhost:3000', 'https://[::1]:8443', 'capacitor://localhost', 'https://a.test:80']) {
  test(`corsOptions takes the origin ${written}`, () => {
    assert.equal(corsOptions.safeParse({ allow_origins: [written] }).success, true)
  })
}

test('findCorsConflicts() refuses * with credentials (every page could act as whoever looks at it), and beside others', () => {
  const find = (more: Record<string, unknown>) => findCorsConflicts(corsOptions.parse(more)).map(({ path }) => path)

  assert.deepEqual(find({ allow_origins: ['*'], allow_credentials: true }), [['allow_origins', 0]])
  assert.deepEqual(find({ allow_origins: [app, '*'] }), [['allow_origins', 1]])
  assert.deepEqual(find({ allow_origins: ['*'] }), [])
  assert.deepEqual(find({ allow_origins: [app], allow_credentials: true }), [])
})
