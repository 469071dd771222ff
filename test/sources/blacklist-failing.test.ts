import assert from 'node:assert/strict'
import { test } from 'node:test'
import { SecretRefused } from '../../src/io/files.ts'
import { HttpCallFailed } from '../../src/io/http-client.ts'
import { raw, revoked, setup, token } from './feed-server.ts'

const failing = [
  {
    what: 'no connection, with its code',
    why: 'Cannot GET https://issuer.test: DEPTH_ZERO_SELF_SIGNED_CERT',
    fail: () => {
      throw new HttpCallFailed('connect', 'Cannot GET https://issuer.test: DEPTH_ZERO_SELF_SIGNED_CERT')
    },
  },
  {
    what: 'a status',
    why: 'Cannot read the blacklist at https://issuer.test/blacklist: status is 503, wanted 200',
    fail: () => raw(503, ''),
  },
  {
    what: 'whose credentials are refused',
    why: 'Cannot read the blacklist at https://issuer.test/blacklist: status is 401 (invalid_client), wanted 200: the issuer refuses the credentials of client "gateway"',
    fail: () => raw(401, '{"error":"invalid_client","error_description":"s3cret"}'),
  },
  {
    what: 'what we do not know, and not in its words',
    why: 'Cannot read the blacklist: the call failed',
    fail: () => {
      throw new Error('s3cret')
    },
  },
] as const
for (const { what, why, fail } of failing) {
  test(`blacklist.state() and the log say why a poll failed: ${what}`, async () => {
    await using it = setup()
    assert.equal(it.blacklist.state().failure, undefined, 'nothing was polled yet')
    it.answer = fail
    await it.blacklist.poll()
    assert.equal(it.blacklist.state().failure, why)
    assert.deepEqual(it.events, [
      `blacklist_poll_failed ${JSON.stringify({ issuer: 'https://issuer.test', result: 'unavailable', why })}`,
    ])

    it.answer = undefined
    await it.blacklist.poll()
    assert.equal(it.blacklist.state().failure, undefined)
  })
}

test('blacklist.poll() says once why polls fail, however many, again when it is for another reason, and that it is over', async () => {
  await using it = setup()
  for (const status of [503, 503, 503, 502, 502]) {
    it.answer = () => raw(status, '')
    await it.blacklist.poll()
  }
  it.answer = undefined
  await it.blacklist.poll()
  it.answer = () => raw(502, '')
  await it.blacklist.poll()

  const told = it.events.map((event) => event.split(' ')[0]).filter((event) => event !== 'blacklist_loaded')
  assert.deepEqual(told, [
    'blacklist_poll_failed',
    'blacklist_poll_failed',
    'blacklist_recovered',
    'blacklist_poll_failed',
  ])
})

test('blacklist.poll() takes a secret that cannot be read as a failed poll: the list stays, ages, and comes back', async () => {
  await using it = setup()
  it.revoke('a')
  await it.blacklist.poll()
  it.secret = () => {
    throw new SecretRefused('file /run/secret', 'cannot be read (ENOENT)')
  }
  it.pass(200_000)
  await it.blacklist.poll()

  assert.deepEqual(it.counts, ['updated', 'unavailable'])
  assert.equal(it.blacklist.state().failure, 'Cannot read secret: file /run/secret cannot be read (ENOENT)')
  assert.deepEqual(it.blacklist.check(token({ jti: 'a' })), revoked)
  assert.equal(it.blacklist.check(token({ jti: 'b' })), undefined)
  it.pass(100_001)
  assert.equal(it.blacklist.check(token({ jti: 'b' })), 'stale')

  it.secret = () => 'rotated'
  await it.blacklist.poll()
  assert.equal(it.blacklist.check(token({ jti: 'b' })), undefined)
})
