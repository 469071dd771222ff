import type * as z from 'zod'
import { safeParse } from 'zod'
import type { Path } from './problems.ts'

/** A schema of the kinds that our documents are made of, as zod's own inspection sees it; a test counts them. */
export type Schema = z.core.$ZodType

/** The schemas that judge what stands at a path below these: more than one where the path leads through unions. */
export function schemasAt(schemas: readonly Schema[], path: Path): readonly Schema[] {
  let found = schemas
  for (const step of path) found = found.flatMap(openUnion).flatMap((schema) => children(schema, step))
  return found
}

/** Every key that one of these schemas knows by name. */
export function knownKeys(schemas: readonly Schema[]): readonly string[] {
  const keys = schemas.flatMap(openUnion).flatMap((schema) => {
    const def = defOf(schema)
    return def.type === 'object' ? Object.keys(def.shape) : []
  })
  return [...new Set(keys)]
}

/** Every key of the maps, and of the maps in the lists, that stand in a map of these schemas; each with the key it is under. */
export function keysWithin(schemas: readonly Schema[]): readonly { readonly holder: string; readonly key: string }[] {
  return knownKeys(schemas).flatMap((holder) => {
    const held = schemasAt(schemas, [holder])
    return knownKeys([...held, ...schemasAt(held, [0])]).map((key) => ({ holder, key }))
  })
}

/** A map that these schemas take, by its first key that must be there, or its first: `{ path: … }`. */
export function exampleOf(schemas: readonly Schema[]): string | undefined {
  const key = firstRequired(schemas) ?? knownKeys(schemas)[0]
  if (key !== undefined) return `{ ${key}: … }`
  return schemas.flatMap(openUnion).some((schema) => defOf(schema).type === 'record') ? '{ name: … }' : undefined
}

/** The first key that must be there. */
export function firstRequired(schemas: readonly Schema[]): string | undefined {
  return knownKeys(schemas).find((key) => !schemasAt(schemas, [key]).some((each) => safeParse(each, undefined).success))
}

/** Whether one of these schemas takes a text, a number or the like: not only a map or a list. */
export function wantsScalar(schemas: readonly Schema[]): boolean {
  return schemas.flatMap(openUnion).some((schema) => scalars.has(defOf(schema).type))
}

const scalars: ReadonlySet<string> = new Set(['string', 'number', 'boolean', 'literal', 'enum'])

/** The options of the first union among these that has so many, in the order zod reports their errors in. */
export function unionOptions(schemas: readonly Schema[], count: number): readonly Schema[] {
  for (const schema of schemas) {
    const def = defOf(unwrap(schema))
    if (def.type === 'union' && def.options.length === count) return def.options
  }
  return []
}

/**
 * Says what these schemas accept, as the end of a sentence: `a string or a list of strings`.
 *
 * A message of the schema that begins with `expected `, on the type or on a check of it, is its own description.
 */
export function wanted(schemas: readonly Schema[]): string {
  const phrases = [...new Set(schemas.flatMap(phrasesOf))]
  const last = phrases.pop()
  if (last === undefined) return 'something else'
  return phrases.length === 0 ? last : `${phrases.join(', ')} or ${last}`
}

/** What a schema's own message says is wanted: the rest after `expected `. */
export function wantedBy(message: string): string | undefined {
  return message.startsWith('expected ') ? message.slice('expected '.length) : undefined
}

/** Takes off what does not change the shape of the input. */
function unwrap(schema: Schema): Schema {
  const def = defOf(schema)
  switch (def.type) {
    case 'optional':
    case 'prefault':
      return unwrap(def.innerType)
    case 'pipe':
      // A preprocess has its transform in front; what the input should be is then said by what follows.
      return unwrap(defOf(def.in).type === 'transform' ? def.out : def.in)
    default:
      return schema
  }
}

function openUnion(schema: Schema): readonly Schema[] {
  const inner = unwrap(schema)
  const def = defOf(inner)
  return def.type === 'union' ? def.options.flatMap(openUnion) : [inner]
}

function phrasesOf(schema: Schema): readonly string[] {
  const inner = unwrap(schema)
  const def = defOf(inner)
  const said = own(def)
  if (said !== undefined) return [said]
  return def.type === 'union' ? def.options.flatMap(phrasesOf) : [describe(def)]
}

function children(schema: Schema, step: string | number): readonly Schema[] {
  const def = defOf(schema)
  switch (def.type) {
    case 'object': {
      const member = Object.hasOwn(def.shape, step) ? def.shape[step] : def.catchall
      // A strict object takes nothing under an unknown key.
      return member === undefined || defOf(member).type === 'never' ? [] : [member]
    }
    case 'record':
      return typeof step === 'string' ? [def.valueType] : []
    case 'array':
      return typeof step === 'number' ? [def.element] : []
    default:
      return []
  }
}

function describe(def: Def): string {
  switch (def.type) {
    case 'string':
      return describeString(formatsOf(def))
    case 'number':
      return formatsOf(def).length === 0 ? 'a number' : 'a whole number'
    case 'boolean':
      return 'true or false'
    case 'literal':
      return def.values.map(String).join(' or ')
    case 'enum': {
      const values = Object.values(def.entries)
      return values.length === 1 ? String(values[0]) : `one of ${values.join(', ')}`
    }
    case 'array':
      return describeList(def.element)
    case 'object': {
      const keys = Object.keys(def.shape)
      // `{ file: … } or { env: … }` says more than "a map or a map".
      return keys.length === 1 ? `{ ${keys[0]}: … }` : 'a map'
    }
    case 'record':
      return 'a map'
    default:
      return 'another value'
  }
}

function describeString(formats: readonly string[]): string {
  const [format] = formats
  return format === undefined || format === 'regex' ? 'a string' : `a string (${format.replaceAll('_', ' ')})`
}

function describeList(element: Schema): string {
  const each = wanted([element])
  if (each === 'a string') return 'a list of strings'
  if (each === 'a map') return 'a list of maps'
  if (each === 'a number' || each === 'a whole number') return 'a list of numbers'
  return `a list, each ${each}`
}

type Def = z.core.$ZodTypes['_zod']['def']

function defOf(schema: Schema): Def {
  // $ZodTypes is zod's own list of every schema it makes, told apart by `def.type`.
  return (schema as z.core.$ZodTypes)._zod.def
}

/** The description a schema carries in its own messages. */
function own(def: Def): string | undefined {
  // A check with a path is on a part of it: that the `value` of a revoked token goes with its `kind`.
  const checks = (def.checks ?? []).map((check) => check._zod.def).filter((check) => !('path' in check))
  const maps = [def.error, ...checks.map(({ error }) => error)]
  for (const map of maps) {
    // A message given as text ignores its argument; one given as a function is shown the empty issue of a missing value.
    const said = map?.({ code: 'custom', input: undefined } as never)
    const phrase = wantedBy(typeof said === 'string' ? said : (said?.message ?? ''))
    if (phrase !== undefined) return phrase
  }
  return undefined
}

function formatsOf(def: Extract<Def, { type: 'string' | 'number' }>): readonly string[] {
  const named = [def, ...(def.checks ?? []).map((check) => check._zod.def)]
  return named.flatMap((one) => ('format' in one && typeof one.format === 'string' ? [one.format] : []))
}
