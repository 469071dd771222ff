import assert from 'node:assert/strict'
import { test } from 'node:test'
import { findDescriptorShortage } from '../../src/app/descriptors.ts'

/** As proc(5) writes it. */
const limitsText = (files: string) =>
  Buffer.from(`Limit                     Soft Limit           Hard Limit           Units
Max processes             10                   10                   processes
Max open files            ${files.padEnd(21)}4096                 files
Max locked memory         8388608              8388608              bytes
`)

const needs = (connections: number) => ({ limits: { connections }, upstream: { max_connections: 256 } })

for (const [files, connections, found, because] of [
  ['1319', 1000, { limit: 1319, wanted: 1320 }, 'one is missing'],
  ['1320', 1000, undefined, 'there are just enough'],
  ['unlimited', 1_000_000, undefined, 'there is no limit'],
] as const) {
  test(`findDescriptorShortage() of ${files} for ${connections} connections: ${because}`, () => {
    const read: string[] = []

    const shortage = findDescriptorShortage(needs(connections), (path) => {
      read.push(path)
      return limitsText(files)
    })

    assert.deepEqual(shortage, found)
    assert.deepEqual(read, ['/proc/self/limits'])
  })
}

test('findDescriptorShortage() finds none where the system does not say how many there are', () => {
  const absent = () => {
    throw new Error('ENOENT')
  }

  assert.equal(findDescriptorShortage(needs(1_000_000), absent), undefined)
  assert.equal(
    findDescriptorShortage(needs(1_000_000), () => Buffer.from('nothing')),
    undefined,
  )
})
