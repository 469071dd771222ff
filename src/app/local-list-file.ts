// The file of the operator's own list. It may be long, and is what he revokes by in an emergency: one of JSON is not read as
// the YAML it is, too, which takes the process twenty times as long.
import { JsonRefused, parseJsonObject } from '../base/json.ts'
import { cannotRead } from '../config/expand.ts'
import type { CrossFinding, LoadDeps, Loaded, Refused } from '../config/load.ts'
import { hashOf, load, loadFile } from '../config/load.ts'
import type { Place } from '../config/problems.ts'
import type { GatewayOptions } from '../config/schema.ts'
import { problemOfIssuer } from '../config/schema.ts'
import type { LocalListOptions } from '../sources/local-list.ts'
import { localListOptions, mergedListOptions } from '../sources/local-list.ts'

/** How much a list may be. */
export type ListBounds = { readonly schema: typeof localListOptions; readonly maxBytes: number }

/** For one that somebody wrote: 125 bytes for each of the entries it may have. */
export const writtenList: ListBounds = { schema: localListOptions, maxBytes: 12_582_912 }

/** For one that was judged before, with what was in force besides: as much as a worker can be sent in one piece. */
export const mergedList: ListBounds = { schema: mergedListOptions, maxBytes: 2 * writtenList.maxBytes }

// As `load` has it; beyond that nobody waits for the places of what is wrong.
const maxYamlBytes = 1_048_576
const tooLongForYaml = `it is larger than ${maxYamlBytes} bytes; as JSON it may have ${writtenList.maxBytes}`

/** Reads the operator's own list, for a configuration that is good otherwise; never throws. */
export function readLocalList(
  file: string,
  options: GatewayOptions,
  { env, readFile }: Required<Pick<LoadDeps, 'env' | 'readFile'>>,
  bounds = writtenList,
): Loaded<LocalListOptions> {
  return loadFile(file, readFile, (text): Loaded<LocalListOptions> => {
    const bytes = Buffer.byteLength(text)
    const loadSlowly = () => load(bounds.schema, { file, text }, { env }, (list) => findListConflicts(list, options))
    const isJson = /^\s*\{/.test(text)
    if (isJson && bytes > bounds.maxBytes)
      return refused(file, [cannotRead([], `it is larger than ${bounds.maxBytes} bytes`)])
    if (!isJson && bytes > maxYamlBytes) return refused(file, [cannotRead([], tooLongForYaml)])
    // What is to be filled in is filled in the other way.
    const read = isJson && !text.includes('${') ? readJson(text, options, bounds) : undefined
    if (read === undefined) return loadSlowly()
    if (read.kind === 'wrong') return bytes > maxYamlBytes ? refused(file, read.messages) : loadSlowly()
    return { kind: 'loaded', value: read.list, hash: hashOf(text), locate, warnings: [] }

    function locate(path: readonly (string | number)[]): Place {
      const slow = bytes > maxYamlBytes ? undefined : loadSlowly()
      return slow?.kind === 'loaded' ? slow.locate(path) : { ...nowhere, file }
    }
  })
}

/** A list, as the file of one that `readLocalList` reads again as the same. */
export function formatLocalList(list: LocalListOptions): Buffer {
  // Nothing in it is to be filled in again.
  return Buffer.from(JSON.stringify(list).replaceAll('${', () => '$${'))
}

type Read =
  | { readonly kind: 'list'; readonly list: LocalListOptions }
  | { readonly kind: 'wrong'; readonly messages: readonly string[] }

function readJson(text: string, options: GatewayOptions, { schema }: ListBounds): Read {
  try {
    const parsed = schema.safeParse(parseJsonObject(text, { maxMembers: Number.POSITIVE_INFINITY }))
    const found: readonly { readonly path: readonly PropertyKey[]; readonly message: string }[] = parsed.success
      ? findListConflicts(parsed.data, options)
      : parsed.error.issues
    if (parsed.success && found.length === 0) return { kind: 'list', list: parsed.data }
    const messages = found.slice(0, maxProblems).map(({ path, message }) => {
      return cannotRead(
        path.map((key) => (typeof key === 'symbol' ? String(key) : key)),
        message,
      )
    })
    return { kind: 'wrong', messages }
  } catch (error) {
    if (error instanceof JsonRefused) return { kind: 'wrong', messages: [error.message] }
    throw error
  }
}

const maxProblems = 20

/** An entry for an issuer that is none of ours would revoke nothing, and look as if it did. */
function findListConflicts({ entries }: LocalListOptions, options: GatewayOptions): readonly CrossFinding[] {
  const problems = new Map<string | undefined, string | undefined>([[undefined, undefined]])
  return entries.flatMap(({ issuer }, at) => {
    if (issuer !== undefined && !problems.has(issuer)) problems.set(issuer, problemOfIssuer(issuer, options))
    const message = problems.get(issuer)
    return message === undefined ? [] : [{ path: ['entries', at, 'issuer'], message }]
  })
}

const nowhere = { line: 1, column: 1, excerpt: '', caretLength: 1 }

function refused(file: string, messages: readonly string[]): Refused {
  return { kind: 'refused', problems: messages.map((message) => ({ ...nowhere, file, path: '', message })) }
}
