import assert from 'node:assert/strict'
import type { LookupAddress, LookupOptions } from 'node:dns'
import { test } from 'node:test'
import { createNameLookup, lookUpName } from '../../src/io/name-lookup.ts'

type Found = (error: NodeJS.ErrnoException | null, found: LookupAddress[]) => void

/** A look-up over a system whose answers the test gives. */
function openLookup() {
  const asked: { name: string; answer: Found }[] = []
  const lookUp = createNameLookup((name, _, answer) => void asked.push({ name, answer }))
  const told: unknown[] = []
  return {
    asked,
    told,
    ask: (name: string, options: LookupOptions = {}) =>
      lookUp(name, options, (error, address, family) => void told.push(error?.code ?? [address, family])),
  }
}

const both: LookupAddress[] = [
  { address: '192.0.2.1', family: 4 },
  { address: '2001:db8::1', family: 6 },
]

test('createNameLookup() asks once for a name that many ask for, and for another beside it', () => {
  const it = openLookup()

  for (let at = 0; at < 20; at += 1) it.ask('silent.test')
  it.ask('other.test', { all: true })
  it.ask('other.test')
  assert.deepEqual(
    it.asked.map(({ name }) => name),
    ['silent.test', 'other.test'],
  )
  it.asked[1]?.answer(null, both)

  assert.deepEqual(it.told, [
    [both, undefined],
    ['192.0.2.1', 4],
  ])
})

test('createNameLookup() tells a failure to all who wait, and asks anew for who comes then', () => {
  const it = openLookup()
  it.ask('a.test')
  it.ask('a.test', { all: true })

  it.asked[0]?.answer(Object.assign(new Error('x'), { code: 'ENOTFOUND' }), [])
  it.ask('a.test')

  assert.deepEqual(it.told, ['ENOTFOUND', 'ENOTFOUND'])
  assert.equal(it.asked.length, 2)
})

test('createNameLookup() tells addresses of one family apart from those of both', () => {
  const it = openLookup()

  it.ask('a.test', { family: 4 })
  it.ask('a.test', { family: 6 })
  it.ask('a.test', { hints: 1024 })

  assert.equal(it.asked.length, 3)
})

test('createNameLookup() lets a thousand wait for a name, and no more', () => {
  const it = openLookup()

  for (let at = 0; at < 1001; at += 1) it.ask('silent.test')

  assert.deepEqual(it.told, ['EAI_AGAIN'])
  it.asked[0]?.answer(null, both)
  assert.equal(it.told.length, 1001)
})

test('lookUpName() finds what the system finds', async () => {
  const found = await new Promise((resolve, reject) => {
    lookUpName('localhost', { all: true }, (error, addresses) => (error === null ? resolve(addresses) : reject(error)))
  })

  assert.ok(Array.isArray(found) && found.length > 0)
})
