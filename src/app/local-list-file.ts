// The file of the operator's own list. It may be long, and is what he revokes by in an emergency: one of JSON is not read as
// the YAML it is, too, which takes the process twenty times as long.
import { JsonRefused, parseJsonObject } from '../base/json.ts'
import { maxNumericDate } from '../base/time.ts'
import { cannotRead } from '../config/expand.ts'
import type { CrossFinding, LoadDeps, Loaded, Refused } from '../config/load.ts'
import { hashOf, load, loadFile } from '../config/load.ts'
import type { Place } from '../config/problems.ts'
import type { GatewayOptions } from '../config/schema.ts'
import { problemOfIssuer } from '../config/schema.ts'
import type { LocalListOptions } from '../sources/local-list.ts'
import { localListOptions, maxListEntries, mergedListOptions } from '../sources/local-list.ts'

/** How a list is read: what it may hold, and how much. */
export type ListBounds = {
  readonly schema: typeof localListOptions
  readonly maxBytes: number
  readonly parse: (text: string) => unknown
}

/** For one that somebody wrote: 125 bytes for each of the entries it may have. */
export const writtenList: ListBounds = {
  schema: localListOptions,
  maxBytes: 12_582_912,
  parse: (text) => parseJsonObject(text, { maxMembers: Number.POSITIVE_INFINITY }),
}

/** For one that was judged before, with what was in force besides: as much as a worker can be sent in one piece. */
export const mergedList: ListBounds = {
  schema: mergedListOptions,
  maxBytes: 2 * writtenList.maxBytes,
  // YAML's escapes write what our own reader of JSON refuses: half a character, say, in a note.
  parse: JSON.parse,
}

// As `load` has it; beyond that nobody waits for the places of what is wrong.
const maxYamlBytes = 1_048_576
const tooLongForYaml = `it is larger than ${maxYamlBytes} bytes; as JSON it may have ${writtenList.maxBytes}`

function tooLongToFillIn(at: number): string {
  return `\${…} stands at character ${at + 1}, wanted none in more than ${maxYamlBytes} bytes: no names are filled in there`
}

// To a reader of JSON it is text, to one of YAML a name to fill in: which of them reads a list hangs on its other entries.
const escapedName = /(?<=(?<!\\)(?:\\\\)*)\\(?:u00|x|u000000)24(?:\{|\\(?:u00|x|u000000)7b)|\$\\(?:u00|x|u000000)7b/i

function escapedAt(at: number): string {
  return `\${ is written with an escape at character ${at + 1}, wanted $\${ for what is not to be filled in, or \${`
}

/** The refusals of a few lists, by what was judged: of one change a list is asked for more than once. */
export type RefusedLists = Map<string, Refused>

// One against the configuration in use, one against the next one, each before and after a change.
const maxRefusedLists = 4

/** What reading a list needs from outside. */
export type ListDeps = Required<Pick<LoadDeps, 'env' | 'readFile'>> & {
  /** Of those who have the same `env`; added to. */
  readonly refusedLists?: RefusedLists | undefined
}

type ListIssuers = GatewayOptions | undefined

/**
 * Reads the operator's own list, for a configuration that is good otherwise; never throws.
 *
 * @param options Where there are none, because they are not good, the issuers it names are not looked at.
 */
export function readLocalList(
  file: string,
  options: ListIssuers,
  { env, readFile, refusedLists }: ListDeps,
  bounds = writtenList,
): Loaded<LocalListOptions> {
  return loadFile(file, readFile, (text) => {
    if (refusedLists === undefined) return judge(text)
    const issuers = options?.issuers.map(({ issuer }) => issuer)
    const judged = JSON.stringify([file, hashOf(text), issuers, bounds.maxBytes])
    const known = refusedLists.get(judged)
    if (known !== undefined) return known
    const found = judge(text)
    if (found.kind === 'loaded') return found
    const [oldest = ''] = refusedLists.keys()
    if (refusedLists.size === maxRefusedLists) refusedLists.delete(oldest)
    refusedLists.set(judged, found)
    return found
  })

  function judge(text: string): Loaded<LocalListOptions> {
    const bytes = Buffer.byteLength(text)
    const loadAsYaml = () => load(bounds.schema, { file, text }, { env }, (list) => findListConflicts(list, options))
    const isJson = /^\s*\{/.test(text)
    if (isJson && bytes > bounds.maxBytes)
      return refused(file, [cannotRead([], `it is larger than ${bounds.maxBytes} bytes`)])
    if (!isJson && bytes > maxYamlBytes) return refused(file, [cannotRead([], tooLongForYaml)])
    // What is to be filled in is filled in the other way.
    const named = text.indexOf('${')
    if (isJson && named !== -1 && bytes > maxYamlBytes) return refused(file, [cannotRead([], tooLongToFillIn(named))])
    const read = isJson && named === -1 ? readJson(text, options, bounds) : undefined
    if (read === undefined) return loadSlowly()
    if (read.kind === 'wrong') return bytes > maxYamlBytes ? refused(file, read.messages) : loadSlowly()
    return { kind: 'loaded', value: read.list, hash: hashOf(text), locate, warnings: [] }

    function locate(path: readonly (string | number)[]): Place {
      const slow = bytes > maxYamlBytes ? undefined : loadAsYaml()
      return slow?.kind === 'loaded' ? slow.locate(path) : { ...nowhere, file }
    }

    function loadSlowly(): Loaded<LocalListOptions> {
      const found = loadAsYaml()
      const escaped = isJson && found.kind === 'loaded' ? text.search(escapedName) : -1
      return escaped === -1 ? found : refused(file, [cannotRead([], escapedAt(escaped))])
    }
  }
}

// Whoever writes `now` may have a clock that is ahead of ours.
const aheadS = 60

/** What loads and is probably not meant: entries that refuse tokens as soon as they are issued. One finding, at the first. */
export function lintLocalList({ entries }: LocalListOptions, nowS: number): CrossFinding | undefined {
  const isAhead = ({ issued_before = 0, expires_at = maxNumericDate }: Entry) =>
    issued_before > nowS + aheadS && expires_at > nowS
  const count = entries.filter(isAhead).length
  if (count === 0) return undefined
  const others = count === 1 ? '' : `, the first of ${count}`
  const message = `it is in the future, and until then refuses each token as soon as it is issued; a date alone is its whole day (UTC)${others}`
  return { path: ['entries', entries.findIndex(isAhead), 'issued_before'], message }
}

// What an operator may take for a revocation, and no token has.
const oddValues: readonly { readonly isOne: (entry: Entry) => boolean; readonly message: string }[] = [
  {
    isOne: ({ value }) => value.trim() !== value,
    message: 'it begins or ends in white space, and revokes nothing that does not',
  },
  {
    isOne: ({ kind, value }) => kind !== 'issued_before' && value.includes('*'),
    message: '* stands for nothing else here; every token of an issuer is revoked by kind: issued_before',
  },
  {
    // Names of a directory (RFC 4514) are `cn=alice,ou=people`.
    isOne: ({ value }) => value.includes(',') && !value.includes('='),
    message: 'it is one value, with a comma in it; several are one entry each',
  },
  {
    isOne: ({ value }) => /^bearer\s|^eyJ[\w-]*\.[\w-]*\./i.test(value),
    message: 'it is a whole token, and revokes none: kind: jti takes what stands in the jti of the token',
  },
]

/** Entries whose value is probably no claim of any token. One finding for each way, at the first. */
export function lintListValues({ entries }: LocalListOptions): readonly CrossFinding[] {
  return oddValues.flatMap(({ isOne, message }) => {
    const count = entries.filter(isOne).length
    if (count === 0) return []
    const others = count === 1 ? '' : `, the first of ${count}`
    return [{ path: ['entries', entries.findIndex(isOne), 'value'], message: `${message}${others}` }]
  })
}

/** A list with entries of the one before it, as the file of one that `readLocalList` reads. */
export type Merged = {
  readonly bytes: Buffer
  /** How many entries it has of those before. */
  readonly kept: number
  /** How many it should have besides, and has no room for. */
  readonly leftOut: number
}

/**
 * Puts a list together with what the one before it revokes and it does not. All that is new is in it, however much that
 * is; of what was before as much as fits, the latest first, and no more than a list may have: each change adds to it.
 * Without notes: they differ with each run of a generator, and take up the room of what revokes.
 */
export function mergeLists(
  list: LocalListOptions,
  before: LocalListOptions,
  { purge_delay }: Pick<GatewayOptions['blacklist'], 'purge_delay'>,
  nowS: number,
): Merged {
  // A day after look-ups heed it no more: the clock may be ahead just now, and what is dropped is gone for good.
  const forgottenS = nowS - purge_delay / 1000 - 86_400
  const held = before.entries.filter(({ expires_at = maxNumericDate }) => expires_at > forgottenS)
  const rest = uncovered(held, list.entries)
  const written = list.entries.map(formatEntry)
  let room = mergedList.maxBytes - written.reduce((sum, each) => sum + Buffer.byteLength(each) + 1, 64)
  const most = list.entries.length + maxListEntries
  for (const text of rest.map(formatEntry)) {
    const bytes = Buffer.byteLength(text) + 1
    if (bytes > room || written.length === most) continue
    room -= bytes
    written.push(text)
  }
  const kept = written.length - list.entries.length
  return {
    bytes: Buffer.from(`{"version":1,"entries":[${written.join(',')}]}`),
    kept,
    leftOut: rest.length - kept,
  }
}

type Entry = LocalListOptions['entries'][number]

/** The entries of before that no new one covers: none alone revokes all that they do, for as long. */
function uncovered(before: readonly Entry[], entries: readonly Entry[]): readonly Entry[] {
  const widest = entries.toSorted(byWidth).values()
  // Until when each name is revoked by entries that are as wide as the one that is looked at.
  const longest = new Map<string, number>()
  const covered = new Set<Entry>()
  let next = widest.next().value
  for (const entry of before.toSorted(byWidth)) {
    for (; next !== undefined && widthOf(next) >= widthOf(entry); next = widest.next().value)
      longest.set(nameOf(next), Math.max(longest.get(nameOf(next)) ?? 0, lengthOf(next)))
    if ((longest.get(nameOf(entry)) ?? -1) >= lengthOf(entry)) covered.add(entry)
  }
  return before.filter((entry) => !covered.has(entry))
}

/** The widest first. */
function byWidth(a: Entry, b: Entry): number {
  return widthOf(b) - widthOf(a)
}

function nameOf({ issuer = '', kind, value }: Entry): string {
  // Only the value, which is last, can hold a space.
  return `${issuer} ${kind} ${value}`
}

function widthOf({ issued_before }: Entry): number {
  return issued_before ?? Number.MAX_VALUE
}

function lengthOf({ expires_at }: Entry): number {
  return expires_at ?? Number.MAX_VALUE
}

function formatEntry({ note: _, ...entry }: Entry): string {
  // Escaped, nothing in it is to be filled in again, or taken for what was no UTF-8.
  return JSON.stringify(entry).replaceAll('$', '\\u0024').replaceAll('\ufffd', '\\ufffd')
}

type Read =
  | { readonly kind: 'list'; readonly list: LocalListOptions }
  | { readonly kind: 'wrong'; readonly messages: readonly string[] }

function readJson(text: string, options: ListIssuers, { schema, parse }: ListBounds): Read {
  // What decoding puts where bytes are no UTF-8: the name it stands in is nobody's, and would revoke nothing.
  const lost = text.indexOf('\ufffd')
  if (lost !== -1) {
    const why = `what stands at character ${lost + 1} is not UTF-8, wanted UTF-8`
    return { kind: 'wrong', messages: [cannotRead([], why)] }
  }
  try {
    // A byte order mark is none of its text, as in YAML.
    const parsed = schema.safeParse(parse(text.replace(/^\ufeff/, '')))
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
    if (error instanceof JsonRefused || error instanceof SyntaxError)
      return { kind: 'wrong', messages: [error.message] }
    throw error
  }
}

const maxProblems = 20

/** An entry for an issuer that is none of ours would revoke nothing, and look as if it did. */
function findListConflicts({ entries }: LocalListOptions, options: ListIssuers): readonly CrossFinding[] {
  if (options === undefined) return []
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
