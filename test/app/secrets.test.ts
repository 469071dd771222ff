import assert from 'node:assert/strict'
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { createSecrets } from '../../src/app/secrets.ts'
import { createTestClock } from '../support/clock.ts'
import { createTestLog } from '../support/log.ts'

/** One secret in a file of its own. */
function setup() {
  const directory = mkdtempSync(join(tmpdir(), 'postern-secrets-'))
  const source = { file: join(directory, 'secret') }
  const write = (text: string) => writeFileSync(source.file, text, { mode: 0o600 })
  write('first')
  const clock = createTestClock()
  const events: string[] = []
  const secrets = createSecrets(
    { clock, env: {}, readFile: (path) => readFileSync(path), fileMode: (path) => statSync(path).mode },
    createTestLog((event) => events.push(event)),
  )
  return { source, write, clock, events, ...secrets, [Symbol.dispose]: () => rmSync(directory, { recursive: true }) }
}

test('secrets.secret() keeps the last good one, says so once a minute, and when it is over', () => {
  using it = setup()
  const secret = it.secret(it.source)
  assert.equal(secret(), 'first')

  it.write('')
  for (let at = 0; at < 130; at += 1) {
    it.clock.pass(1000)
    assert.equal(secret(), 'first')
  }
  const during = it.events.splice(0)
  it.write('second')
  it.clock.pass(1000)

  assert.equal(secret(), 'second')
  assert.deepEqual(during, ['secret_unreadable', 'secret_unreadable', 'secret_unreadable'])
  assert.deepEqual(it.events, ['secret_recovered'])
})

test('secrets.secret() holds what it reads at once, though it is gone before anybody needs it', () => {
  using it = setup()

  const secret = it.secret(it.source)
  rmSync(it.source.file)
  it.clock.pass(1000)

  assert.equal(secret(), 'first')
  assert.deepEqual(
    it.unreadable([it.source]).map(({ isHeld }) => isHeld),
    [true],
  )
})

test('secrets.secret() does not throw for a secret that is not there, and what it returns does until it is', () => {
  using it = setup()
  rmSync(it.source.file)

  const secret = it.secret(it.source)
  const [unreadable] = it.unreadable([it.source])

  assert.throws(secret, { code: 'ERR_SECRET_REFUSED' })
  assert.equal(unreadable?.isHeld, false)
  it.write('second')
  assert.equal(secret(), 'second')
})

for (const { what, spoil } of [
  { what: 'empty', spoil: (file: string) => writeFileSync(file, '') },
  { what: 'readable by everybody', spoil: (file: string) => chmodSync(file, 0o644) },
  { what: 'gone', spoil: (file: string) => rmSync(file) },
])
  test(`secrets.unreadable() says why a restart would fail, while nobody asks for the secret: it is ${what}`, () => {
    using it = setup()
    assert.deepEqual(it.unreadable([it.source]), [])

    spoil(it.source.file)
    it.clock.pass(1000)
    const [said, ...more] = it.unreadable([it.source])
    writeFileSync(it.source.file, 'second')
    chmodSync(it.source.file, 0o600)
    it.clock.pass(1000)

    assert.match(said?.failure ?? '', /^Cannot read secret: /)
    assert.deepEqual([more, it.unreadable([it.source])], [[], []])
  })
