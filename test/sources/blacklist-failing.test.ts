import assert from 'node:assert/strict'
import { test } from 'node:test'
import { SecretRefused } from '../../src/io/files.ts'
import { raw, revoked, setup, token } from './feed-server.ts'

test('blacklist.state() says whether the last poll failed', async () => {
  await using it = setup()
  assert.equal(it.blacklist.state().failing, false, 'nothing was polled yet')
  it.answer = () => raw(503, '')
  await it.blacklist.poll()
  assert.equal(it.blacklist.state().failing, true)

  it.answer = undefined
  await it.blacklist.poll()
  assert.equal(it.blacklist.state().failing, false)
})

test('blacklist.poll() takes a secret that cannot be read as a failed poll: the list stays, ages, and comes back', async () => {
  await using it = setup()
  it.revoke('a')
  await it.blacklist.poll()
  it.secret = () => {
    throw new SecretRefused('Cannot read secret: file /run/secret cannot be read (ENOENT)')
  }
  it.pass(200_000)
  await it.blacklist.poll()

  assert.deepEqual(it.counts, ['updated', 'unavailable'])
  assert.equal(it.blacklist.state().failing, true)
  assert.deepEqual(it.blacklist.check(token({ jti: 'a' })), revoked)
  assert.equal(it.blacklist.check(token({ jti: 'b' })), undefined)
  it.pass(100_001)
  assert.equal(it.blacklist.check(token({ jti: 'b' })), 'stale')

  it.secret = () => 'rotated'
  await it.blacklist.poll()
  assert.equal(it.blacklist.check(token({ jti: 'b' })), undefined)
})
