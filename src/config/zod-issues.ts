import type * as z from 'zod'
import { nearest } from '../base/nearest.ts'
import { cannotRead } from './expand.ts'
import type { Finding, Path } from './problems.ts'
import { maxProblems } from './problems.ts'
import { hideCredentials, isSecretName, isSecretPath, startOfKey } from './secrets.ts'
import type { Shown } from './shown.ts'
import type { Schema } from './wanted.ts'
import { knownKeys, schemasAt, unionOptions, wanted, wantedBy, wantsScalar } from './wanted.ts'
import type { Entry, Written } from './written.ts'
import { findWritten } from './written.ts'

/** Stands for every message the schema did not write itself: hand `{ error: () => unsaid }` to safeParse. */
export const unsaid = '\0unsaid'

type Issue = z.core.$ZodIssue
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
  { tells }: Pick<Shown, 'tells'>,
): readonly Finding[] {
  return explain(issues, [schema], [], { root, tells })
}

/** What was read, and which of its values may be told. */
type Read = Pick<Shown, 'tells'> & { readonly root: Written }

function explain(issues: readonly Issue[], schemas: readonly Schema[], base: Path, read: Read): readonly Found[] {
  const found: Found[] = []
  // What is missing may only be misspelt.
  let lasting = 0
  for (const issue of issues) {
    if (lasting > maxProblems) break
    const here = explainOne(issue, schemas, base, read)
    lasting += here.filter(({ kind }) => kind !== 'missing').length
    found.push(...here)
  }
  const meant = new Set(found.flatMap((finding) => (finding.meant === undefined ? [] : [keyOf(finding.meant)])))
  return found.filter((finding) => finding.kind !== 'missing' || !meant.has(keyOf(finding.path)))
}

function explainOne(issue: Issue, schemas: readonly Schema[], base: Path, read: Read): readonly Found[] {
  const below = issue.path.map((step) => (typeof step === 'number' ? step : String(step)))
  const path = [...base, ...below]
  if (issue.code === 'unrecognized_keys') {
    const known = knownKeys(schemasAt(schemas, below))
    const beside = below.length === 0 ? [] : knownKeys(schemasAt(schemas, below.slice(0, -1)))
    return issue.keys.map((key) => unknownKey([...path, key], known, beside))
  }
  const node = findWritten(read.root, path)
  const here = schemasAt(schemas, below)
  const expected = wanted(here)
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
  return [finding(isMismatch(issue) ? 'mismatch' : 'other', 'value', `expected ${says ?? limit ?? expected}${got}`)]

  function finding(kind: Found['kind'], at: 'key' | 'value', why: string): Found {
    return { kind, path, at, message: why.startsWith('Cannot ') ? why : cannotRead(path, why) }
  }
}

function unknownKey(path: Path, known: readonly string[], beside: readonly string[]): Found {
  const [key, outer] = [String(path.at(-1)), path.at(-2)]
  if (key === '<<') return unknown('there are no merge keys, wanted the keys themselves')
  const guess = nearest(key, known) ?? abbreviated(key, known)
  // `jwks: { url: … }` is jwks_uri.
  const other = guess === undefined ? nearest(`${outer}_${key}`, beside) : undefined
  if (other !== undefined && other !== outer) return unknown(`no such key, did you mean "${other}", beside ${outer}?`)
  const parent = path.slice(0, -1)
  // `{ client_secret:hunter2 }` is one key to YAML.
  const begun = startOfKey(key, known)
  const nearly = nearest(begun, known)
  if (/[^\w.-]/.test(key) && begun !== key && (nearly !== undefined || isSecretName(begun)))
    return { ...unknown('no ": " after the key'), meant: [...parent, nearly ?? begun] }
  const meant = guess === undefined ? undefined : [...parent, guess]
  const list = known.length > 0 && known.length <= 12 ? `, wanted one of ${known.join(', ')}` : ''
  const hint = guess === undefined ? list : `, did you mean "${guess}"?`
  const found = unknown(`no such key${hint}`)
  return meant === undefined ? found : { ...found, meant }

  function unknown(why: string): Found {
    return { kind: 'unknown', path, at: 'key', message: cannotRead(path, why) }
  }
}

/** The only one of these that begins so: `aud` is audience. */
function abbreviated(key: string, known: readonly string[]): string | undefined {
  const whole = known.filter((each) => key.length >= 3 && each.startsWith(key))
  return whole.length === 1 ? whole[0] : undefined
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
function show(node: NonNullable<ReturnType<typeof findWritten>>, { tells }: Read, wantsScalar: boolean): string {
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
