import assert from 'node:assert/strict'
import { test } from 'node:test'
import { gatewayOptions } from '../../src/config/schema.ts'
import type { Schema } from '../../src/config/wanted.ts'
import { schemasAt, wanted } from '../../src/config/wanted.ts'
import { issuerOptions } from '../../src/issuer/options.ts'
import { localListOptions } from '../../src/sources/local-list.ts'

/** Every schema that one is made of, itself among them. */
function partsOf(made: unknown, seen: Set<unknown> = new Set()): readonly Schema[] {
  if (typeof made !== 'object' || made === null || seen.has(made)) return []
  seen.add(made)
  // zod's own mark of its schemas, and of its checks, which have no type.
  if ('_zod' in made) {
    const { def } = (made as Schema)._zod
    return [...('type' in def ? [made as Schema] : []), ...partsOf(def, seen)]
  }
  return Object.values(made).flatMap((each) => partsOf(each, seen))
}

test('wanted() knows every type of schema that a document of ours is made of: what it does not know it would tell as "another value"', () => {
  const documents = [gatewayOptions, issuerOptions, localListOptions]

  const parts = documents.flatMap((document) => partsOf(document))

  const types = new Set(parts.map(({ _zod: { def } }) => def.type))
  const known = ['array', 'boolean', 'enum', 'literal', 'number', 'object', 'record', 'string', 'union']
  // What a strict object takes under an unknown key is told as such; a refinement has a message of its own.
  const told = ['custom', 'never']
  const unwrapped = ['optional', 'pipe', 'prefault', 'transform']
  assert.deepEqual([...types].sort(), [...known, ...told, ...unwrapped].sort())
})

test('wanted() takes what is said of a part of a map for no description of the map', () => {
  assert.equal(wanted(schemasAt([localListOptions], ['entries'])), 'a list of maps')
})
