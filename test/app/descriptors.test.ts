import assert from 'node:assert/strict'
import { test } from 'node:test'
import { shareDescriptors } from '../../src/app/descriptors.ts'

/** As proc(5) writes it. */
const limitsText = (files: string) =>
  Buffer.from(`Limit                     Soft Limit           Hard Limit           Units
Max processes             10                   10                   processes
Max open files            ${files.padEnd(21)}4096                 files
Max locked memory         8388608              8388608              bytes
`)

const needs = (connections: number, issuers: readonly object[] = []) => ({
  limits: { connections },
  upstream: { max_connections: 256 },
  issuers,
})

for (const [files, connections, found, because] of [
  ['1831', 1000, { limit: 1831, wanted: 1832 }, 'one is missing'],
  ['1832', 1000, undefined, 'there are just enough'],
  ['unlimited', 1_000_000, undefined, 'there is no limit'],
] as const) {
  test(`shareDescriptors() tells what is missing of ${files} for ${connections} connections: ${because}`, () => {
    const read: string[] = []

    const { shortage } = shareDescriptors(needs(connections), (path) => {
      read.push(path)
      return limitsText(files)
    })

    assert.deepEqual(shortage, found)
    assert.deepEqual(read, ['/proc/self/limits'])
  })
}

test('shareDescriptors() misses none where the system does not say how many there are', () => {
  const absent = () => {
    throw new Error('ENOENT')
  }

  assert.equal(shareDescriptors(needs(1_000_000), absent).shortage, undefined)
  assert.equal(shareDescriptors(needs(1_000_000), () => Buffer.from('nothing')).shortage, undefined)
})

for (const [files, connections, clients, upstream, side] of [
  ['unlimited', 10_000, 10_000, 256, 256],
  ['10832', 10_000, 10_000, 256, 256],
  ['10831', 10_000, 9_999, 256, 256],
  ['1024', 10_000, 576, 256, 64],
  ['256', 10_000, 80, 80, 16],
  ['256', 10, 10, 150, 16],
  ['24', 10_000, 5, 5, 1],
  ['1', 10_000, 1, 1, 1],
] as const)
  test(`shareDescriptors() gives of ${files} descriptors ${clients} to ${connections} clients`, () => {
    const shares = shareDescriptors(needs(connections), () => limitsText(files))

    assert.deepEqual([shares.clients, shares.upstream, shares.side], [clients, upstream, side])
  })

const both = { introspection: {}, blacklist: {} }
for (const [files, issuers, expected, because] of [
  ['10964', [both], [10_000, 256, 64], 'there are just enough'],
  ['1024', [both], [444, 256, 64], 'there are few, and calls to the issuer need less than a third'],
  ['256', [both], [53, 54, 24], 'a third is for calls to the issuer'],
  [
    '256',
    [{ introspection: {} }, { introspection: {} }, { introspection: {} }],
    [53, 54, 13],
    'a third is for all of them',
  ],
  ['256', [{}], [78, 78, 64], 'keys alone need four, and a reload may bring questions'],
  ['256', Array(40).fill(both), [53, 54, 1], 'each issuer is asked one question at a time'],
  ['24', Array(40).fill({}), [3, 4, 1], 'nobody is asked a question, and a reload may bring one'],
] as const)
  test(`shareDescriptors() shares ${files} descriptors with the calls to ${issuers.length} issuers: ${because}`, () => {
    const shares = shareDescriptors(needs(10_000, issuers), () => limitsText(files))

    assert.deepEqual([shares.clients, shares.upstream, shares.maxInFlight], expected)
  })

test('shareDescriptors() counts the calls to issuers among what is wanted', () => {
  assert.deepEqual(shareDescriptors(needs(10_000, [both, {}]), () => limitsText('256')).shortage, {
    limit: 256,
    wanted: 10_968,
  })
})

for (const [files, workers, untaken] of [
  ['unlimited', 2, Number.POSITIVE_INFINITY],
  ['1024', 2, 816],
  ['128', 2, 32],
  ['128', 4, 16],
  ['24', 4, 1],
] as const)
  test(`shareDescriptors() leaves of ${files} descriptors ${untaken} to who waits for one of ${workers} workers`, () => {
    assert.equal(shareDescriptors(needs(1000), () => limitsText(files)).untaken(workers), untaken)
  })
