import type * as z from 'zod'
import { safeParse } from 'zod'
import { nearest } from '../base/nearest.ts'
import { cannotRead } from './expand.ts'
import type { Finding, Path } from './problems.ts'
import { hideCredentials, isNameOfSecret, isSecretName, isSecretPath, startOfKey } from './secrets.ts'
import type { Shown } from './shown.ts'
import type { Schema } from './wanted.ts'
import {
  exampleOf,
  firstRequired,
  keysWithin,
  knownKeys,
  schemasAt,
  unionOptions,
  wanted,
  wantedBy,
  wantsScalar,
} from './wanted.ts'
import type { Entry, Written } from './written.ts'
import { findWritten } from './written.ts'

/** Stands for every message the schema did not write itself: hand `{ error: () => unsaid }` to safeParse. */
export const unsaid = '\0unsaid'

type Issue = z.core.$ZodIssue
type Told = NonNullable<ReturnType<typeof findWritten>>
type Found = Finding & {
  readonly kind: 'unknown' | 'missing' | 'mismatch' | 'other'
  /** For an unknown key: the path it was probably meant to be. */
  readonly meant?: Path
}

/**
 * Turns the issues of one parse into sentences with paths, in our voice.
 *
 * A union answers for the branch that comes closest; a key that is only misspelt is not also reported as missing.
 */
export function explainIssues(
  issues: readonly Issue[],
  schema: Schema,
  root: Written,
  { tells, cutBefore }: Pick<Shown, 'tells' | 'cutBefore'>,
): readonly Finding[] {
  return explain(issues, [schema], [], { root, tells, cutBefore })
}

/** What was read, and which of its values may be told. */
type Read = Pick<Shown, 'tells' | 'cutBefore'> & { readonly root: Written }

function explain(issues: readonly Issue[], schemas: readonly Schema[], base: Path, read: Read): readonly Found[] {
  const found = issues.flatMap((issue) => explainOne(issue, schemas, base, read))
  // What is missing may only be misspelt.
  const meant = new Set(found.flatMap((finding) => (finding.meant === undefined ? [] : [keyOf(finding.meant)])))
  return found.filter((finding) => finding.kind !== 'missing' || !meant.has(keyOf(finding.path)))
}

function explainOne(issue: Issue, schemas: readonly Schema[], base: Path, read: Read): readonly Found[] {
  const below = issue.path.map((step) => (typeof step === 'number' ? step : String(step)))
  const path = [...base, ...below]
  if (issue.code === 'unrecognized_keys') {
    const here = schemasAt(schemas, below)
    const within = keysWithin(here)
    // From the map itself outwards.
    const around = below.map((_, at) => knownKeys(schemasAt(schemas, below.slice(0, below.length - at))))
    const map = findWritten(read.root, path)
    const isItem = typeof path.at(-1) === 'number'
    const first = isItem && map?.kind === 'map' ? firstMeant(map.entries, here) : undefined
    const nearby: Nearby = { within, around: [...around, knownKeys(schemas)], first }
    return issue.keys.map((key) => {
      const cut = read.cutBefore(map?.kind === 'map' ? map.entries.get(key) : undefined)
      return unknownKey([...path, key], nearby, cut)
    })
  }
  const node = findWritten(read.root, path)
  const here = schemasAt(schemas, below)
  const expected = wantedAt(path, here)
  if (issue.code === 'invalid_key') {
    const said = issue.issues.map((inner) => inner.message).find((message) => message !== unsaid)
    return [finding('other', 'key', said ?? 'the key is not one that may stand here')]
  }
  const said = issue.message === unsaid ? undefined : issue.message
  const says = said === undefined ? undefined : wantedBy(said)
  if (node === undefined && issue.code !== 'custom') {
    return [finding('missing', 'key', `it is missing, wanted ${says ?? expected}`)]
  }
  if (issue.code === 'invalid_union' && issue.errors.length > 0) {
    const branch = closestBranch(issue.errors, unionOptions(here, issue.errors.length), path, read)
    if (branch !== undefined) return branch
  }
  if (said !== undefined && says === undefined) return [finding('other', 'value', said)]
  if (node?.kind === 'scalar' && node.value === null && node.span.start === node.span.end) {
    return [finding('mismatch', 'value', `it is empty, wanted ${says ?? expected}`)]
  }
  const got = node === undefined || isSecretPath(path) ? '' : `, got ${show(node, read, wantsScalar(here))}`
  const limit = says === undefined ? limitOf(issue) : undefined
  const hint = node === undefined ? undefined : hintOf(node, path, here)
  const why = `expected ${says ?? limit ?? expected}${got}${hint ?? ''}`
  // That its variable is not set, too, is no cause of it.
  const isCause = hint?.startsWith('; write { env: ') === true
  return [finding(isMismatch(issue) ? 'mismatch' : 'other', isCause ? 'key' : 'value', why)]

  function finding(kind: Found['kind'], at: 'key' | 'value', why: string): Found {
    return { kind, path, at, message: why.startsWith('Cannot ') ? why : cannotRead(path, why) }
  }
}

/** `- url: https://a.example`: the key that must be there, whose value the first one has, which is not known. */
function firstMeant(entries: ReadonlyMap<string, Entry>, here: readonly Schema[]): Nearby['first'] {
  const [key = '', entry] = entries.entries().next().value ?? []
  const meant = firstRequired(here)
  if (meant === undefined || entries.has(meant) || entry?.value.kind !== 'scalar') return undefined
  const { value } = entry.value
  return schemasAt(here, [meant]).some((schema) => safeParse(schema, value).success) ? { key, meant } : undefined
}

/** What is wanted, with an example where it is a map of certain keys: `a map, such as match: { path: … }`. */
function wantedAt(path: Path, here: readonly Schema[]): string {
  const expected = wanted(here)
  const example = expected === 'a map' ? exampleOf(here) : undefined
  const name = path.at(-1)
  if (example === undefined || name === undefined) return expected
  return `${expected}, such as ${typeof name === 'number' ? '' : `${name}: `}${example}`
}

/** How what is written could be put so that it fits. Tells nothing of it but the name of a variable. */
function hintOf(node: Told, path: Path, here: readonly Schema[]): string | undefined {
  const items = schemasAt(here, [0])
  if (node.kind === 'map') {
    const isItem = [...node.entries.keys()].some((key) => knownKeys(items).includes(key))
    return isItem ? '; is a "-" missing before it?' : undefined
  }
  const name = path.findLast((step) => typeof step === 'string') ?? ''
  if (node.kind === 'scalar' && node.value === '*' && forAllWithout.has(name)) return `; without ${name} it is for all`
  if (node.kind !== 'scalar') return undefined
  if (typeof node.value === 'number' || typeof node.value === 'boolean') {
    const quoted = String(node.value)
    return here.some((schema) => safeParse(schema, quoted).success) ? '; quote it' : undefined
  }
  if (wantsScalar(here) || typeof node.value !== 'string') return undefined
  if (wantsScalar(items)) return node.value.startsWith('-') ? '; no space after "-"' : '; write it in [ ]'
  const known = knownKeys(here)
  const variable = /^\$\{([A-Za-z_]\w*)\}$/.exec(node.value)?.[1]
  if (known.includes('env') && variable !== undefined) return `; write { env: ${variable} }`
  return known.includes('file') && isNameOfSecret('file', node.value) ? '; a path is written { file: … }' : undefined
}

const forAllWithout: ReadonlySet<string> = new Set(['methods', 'host', 'hosts'])

/** What is known about where a key is that is not known there. */
type Nearby = {
  /** The keys that may stand in its map, and in each one around that. */
  readonly around: readonly (readonly string[])[]
  readonly within: ReturnType<typeof keysWithin>
  readonly first: { readonly key: string; readonly meant: string } | undefined
}

/** @param cut What it may be the rest of. */
function unknownKey(path: Path, nearby: Nearby, cut: string | undefined): Found {
  const [key, outer] = [String(path.at(-1)), path.at(-2)]
  const { around, first, within } = nearby
  const [known = [], beside = []] = around
  if (cut !== undefined) return unknown(`no such key; a ${cut} with a comma in it is to be quoted`)
  if (key === '<<') return unknown('there are no merge keys, wanted the keys themselves')
  if (key.startsWith('//')) return unknown('no such key; a comment begins with #')
  const [, holder = '', kind] = /^(.+)_(file|env)$/.exec(key) ?? []
  if (within.some((each) => each.holder === holder && each.key === kind))
    return instead(holder, `no such key, wanted ${holder}: { ${kind}: … }`)
  if (first?.key === key && nearest(key, known) === undefined)
    return instead(first.meant, `no such key, did you mean "${first.meant}"?`)
  const guesses = guessed(key, known)
  const [guess] = guesses
  const elsewhere = guesses.length > 1 ? undefined : placeOf(path, nearby, guess !== undefined)
  if (elsewhere !== undefined) return elsewhere
  // `jwks: { url: … }` is jwks_uri.
  const other = guess === undefined ? nearest(`${outer}_${key}`, beside) : undefined
  if (other !== undefined && other !== outer) return unknown(`no such key, did you mean "${other}", beside ${outer}?`)
  // `{ client_secret:hunter2 }` is one key to YAML.
  const begun = startOfKey(key, known)
  const nearly = nearest(begun, known)
  if (/[^\w.-]/.test(key) && begun !== key && (nearly !== undefined || isSecretName(begun)))
    return instead(nearly ?? begun, 'no ": " after the key')
  if (guess === undefined) return unknown(`no such key${known.length > 0 ? `, wanted one of ${known.join(', ')}` : ''}`)
  const why = `no such key, did you mean ${guesses.map((each) => `"${each}"`).join(' or ')}?`
  return guesses.length > 1 ? unknown(why) : instead(guess, why)

  function instead(meant: string, why: string): Found {
    return { ...unknown(why), meant: [...path.slice(0, -1), meant] }
  }

  function unknown(why: string): Found {
    return { kind: 'unknown', path, at: 'key', message: cannotRead(path, why) }
  }
}

/** A key that is known in a map beside it, or in one around that; or nearly so, unless it `isLike` one of its own map. */
function placeOf(path: Path, { around, within }: Nearby, isLike: boolean): Found | undefined {
  const [parent, key] = [path.slice(0, -1), String(path.at(-1))]
  const holders = within.filter((each) => each.key === key).map(({ holder }) => holder)
  if (holders.length > 0) return inOneOf(holders, `no such key here, wanted within ${holders.join(' or ')}`)
  const up = around.findIndex((known) => known.includes(key))
  if (up > 0 && !isLike)
    return unknown(`no such key here, wanted beside ${parent.at(-up)}`, [...parent.slice(0, -up), key])
  const guess = isLike ? undefined : nearest(key, new Set(within.map((each) => each.key)))
  const guesses = within.filter((each) => each.key === guess).map(({ holder }) => holder)
  if (guess === undefined) return undefined
  return inOneOf(guesses, `no such key, did you mean "${guess}", within ${guesses.join(' or ')}?`)

  function inOneOf([holder, ...others]: readonly string[], why: string): Found {
    return unknown(why, holder === undefined || others.length > 0 ? undefined : [...parent, holder])
  }

  function unknown(why: string, meant: Path | undefined): Found {
    const found: Found = { kind: 'unknown', path, at: 'key', message: cannotRead(path, why) }
    return meant === undefined ? found : { ...found, meant }
  }
}

/** Those of its map that were most likely meant: `aud` is audience, and `timeout` one of head_timeout and body_timeout. */
function guessed(key: string, known: readonly string[]): readonly string[] {
  const near = nearest(key, known)
  if (near !== undefined) return [near]
  if (key.length < 3) return []
  const begun = known.filter((each) => each.startsWith(key))
  return begun.length === 1 ? begun : known.filter((each) => each.endsWith(`_${key}`))
}

/**
 * The findings of the branch that was most likely meant: of those whose type fits what is there, the one with the fewest.
 * Undefined when none fits, or two as well as each other: then the union speaks as a whole.
 */
function closestBranch(
  errors: readonly (readonly Issue[])[],
  options: readonly Schema[],
  path: Path,
  read: Read,
): readonly Found[] | undefined {
  let best: readonly Found[] | undefined
  let isTied = false
  for (const [at, issues] of errors.entries()) {
    const option = options[at]
    const found = explain(issues, option === undefined ? [] : [option], path, read)
    const fits = !found.some((finding) => finding.kind === 'mismatch' && keyOf(finding.path) === keyOf(path))
    if (!fits || (best !== undefined && found.length > best.length)) continue
    isTied = found.length === best?.length
    best = found
  }
  return isTied ? undefined : best
}

/** Whether an issue says that the value is of another kind, rather than a poor one of the right kind. */
function isMismatch(issue: Issue): boolean {
  const { code } = issue
  return code === 'invalid_type' || code === 'invalid_value' || code === 'invalid_format' || code === 'invalid_union'
}

/** The bound an issue names, for the schemas that wrote no message of their own. */
function limitOf(issue: Issue): string | undefined {
  if (issue.code === 'not_multiple_of') return `a multiple of ${issue.divisor}`
  if (issue.code !== 'too_small' && issue.code !== 'too_big') return undefined
  const bound = issue.code === 'too_small' ? issue.minimum : issue.maximum
  const unit = { string: 'character', array: 'item', set: 'item' }[String(issue.origin)]
  if (unit === undefined) {
    const than = issue.code === 'too_small' ? 'above' : 'below'
    const upTo = issue.code === 'too_small' ? 'at least' : 'at most'
    return `a number ${issue.inclusive === false ? than : upTo} ${bound}`
  }
  const most = issue.exact === true ? 'exactly' : issue.code === 'too_small' ? 'at least' : 'at most'
  return `${most} ${bound} ${unit}${bound === 1 ? '' : 's'}`
}

/**
 * A value as the file has it, for the end of a sentence; an environment variable is named, never told, and neither is a
 * credential. Where the schema wants a map or a list, only what kind it is: it may be the whole map, secret and all, as text.
 */
function show(node: Told, { tells }: Read, wantsScalar: boolean): string {
  if (node.kind === 'map') return showMap(node.entries, wantsScalar)
  if (node.kind === 'list') return node.items.length === 0 ? 'an empty list' : 'a list'
  if (typeof node.value === 'number') return tells(node) ? String(node.value) : 'a number'
  if (typeof node.value !== 'string') return String(node.value)
  if (!tells(node)) return 'text'
  const safe = hideCredentials(node.value)
  const text = safe.length > 60 ? `${safe.slice(0, 60)}…` : safe
  return node.value.includes('${') ? `${JSON.stringify(text)} (expanded)` : JSON.stringify(text)
}

/** A text that ends in a colon is a map to YAML, as `[unix:]` is. */
function showMap(entries: ReadonlyMap<string, Entry>, wantsScalar: boolean): string {
  const [[name, { value }] = ['', { value: undefined }]] = entries
  const isText = entries.size === 1 && value?.kind === 'scalar' && value.span.start === value.span.end
  return wantsScalar && isText ? `a map; quote it: ${JSON.stringify(`${name}:`)}` : 'a map'
}

function keyOf(path: Path): string {
  return JSON.stringify(path)
}
