import { createHash } from 'node:crypto'
import type * as z from 'zod'
import type { SecretDeps } from '../io/files.ts'
import { saidOfUnreadable } from '../io/files.ts'
import { cannotRead, expandWritten, variablesUnexpanded } from './expand.ts'
import type { Mended } from './mend.ts'
import { firstIssues, mend } from './mend.ts'
import { otherKind } from './other-kinds.ts'
import type { Finding, Path, Place, Problem } from './problems.ts'
import { maxProblems } from './problems.ts'
import { findSecretProblems } from './secret-problems.ts'
import { createShown } from './shown.ts'
import { isUtf16 } from './slips.ts'
import { knownKeys } from './wanted.ts'
import type { Places, Written } from './written.ts'
import { createPlaces, findWritten } from './written.ts'
import { document, parseYaml, plainReader } from './yaml.ts'
import { explainIssues, unsaid } from './zod-issues.ts'

/** A configuration that may be used, or everything that is wrong with it, in the order of the file. */
export type Loaded<T> =
  | {
      readonly kind: 'loaded'
      readonly value: T
      /** SHA-256 of the text, hexadecimal. */
      readonly hash: string
      /** Where a path is written, for whoever finds something to say about it later; what is missing stands at its parent's key. */
      readonly locate: (path: Path) => Place
      /** What we read as it was meant, and other readers of YAML refuse. */
      readonly warnings: readonly Problem[]
    }
  | Refused

/** Everything that is wrong with a file. */
export type Refused = { readonly kind: 'refused'; readonly problems: readonly Problem[] }

/** What loading needs from outside. */
export type LoadDeps = {
  readonly env: Readonly<Record<string, string | undefined>>
  /**
   * When given, every secret (`{ file: … }` or `{ env: … }` under a secret-bearing key) is read as a test, and one that
   * cannot be used is a problem at its place. Left out where secrets are not mounted, as in CI.
   */
  readonly readFile?: SecretDeps['readFile']
  /** Permission bits, for the same test; left out, they are not looked at. */
  readonly fileMode?: SecretDeps['mode']
}

/** A condition that spans several values, found broken once the schema is content. */
export type CrossFinding = {
  readonly path: Path
  readonly message: string
  /** What is said instead where nothing is written at `path`: its default is only what the other value does not go with. */
  readonly unwritten?: { readonly path: Path; readonly message: string }
}

/** How the value that is judged as a whole stands to its document: what the schema refused was left out of it. */
export type Whole = Pick<Mended<unknown>, 'original' | 'isWhole'>

/** Nothing was left out. */
export const nothingLeftOut: Whole = { original: (path) => path, isWhole: () => true }

// security.md §4.1.
const maxBytes = 1_048_576

/**
 * Reads one YAML document against a schema, and reports every problem in one run, with its place, up to `maxProblems`.
 *
 * In order: what makes it no YAML (then nothing else is said); repeated keys, aliases and environment variables; every
 * issue of the schema and the secrets; `refine`, on what the schema is content with. Never throws for any text.
 *
 * @param schema A message of its own that begins with `expected ` also gets the value that was found instead.
 * @param refine Cross-field conditions; a message is prefixed with `Cannot read <path>: ` unless it begins with `Cannot `.
 *   Paths are those of the value it is given.
 */
export function load<S extends z.ZodType>(
  schema: S,
  source: { readonly file: string; readonly text: string },
  deps: LoadDeps,
  refine?: (value: z.output<S>, whole: Whole) => readonly CrossFinding[],
): Loaded<z.output<S>> {
  const { file } = source
  const unread = (text: string, finding: Finding) =>
    refused(createPlaces(file, text, undefined, createShown(text, undefined, false, schema)), [finding])
  if (Buffer.byteLength(source.text) > maxBytes) return unread('', document(`it is larger than ${maxBytes} bytes`))
  if (isUtf16(source.text)) return unread('', document('the file is UTF-16, wanted UTF-8'))
  // A byte order mark is not part of the first line's columns.
  const text = source.text.replace(/^\ufeff/, '')
  // What decoding puts where bytes are no UTF-8; whoever has written it himself has lost a character, too.
  const lost = text.indexOf('\ufffd')
  if (lost !== -1)
    return unread(text, document('what stands here is not UTF-8, wanted UTF-8', { start: lost, end: lost + 1 }))
  if (text.includes('\r') && !text.includes('\n')) return unread('', document('its lines end in CR alone, wanted LF'))
  const parsed = parseYaml(text)
  const shown = createShown(text, parsed.root, parsed.findings.length === 0, schema)
  const places = createPlaces(file, text, parsed.root, shown)
  if (parsed.findings.length > 0 || parsed.root === undefined) return refused(places, parsed.findings)
  const root = parsed.root
  const names = knownKeys([schema])
  const other = root.kind === 'map' ? otherKind(root.entries, names) : undefined
  if (other !== undefined) return refused(places, [document(other.why, other.at)])
  if (root.kind === 'map' && !shown.isOurs)
    return refused(places, [document(`it has none of the keys of a configuration, such as ${names[0]}`)])

  const expanded = expandWritten(root, { env: deps.env, text, resolvePlain: plainReader() })
  const before = [...parsed.repeated, ...expanded.findings]
  if (!expanded.complete || before.length > maxProblems) return refused(places, before)

  const result = schema.safeParse(expanded.value, { error: () => unsaid })
  if (!result.success) {
    const issues = explainIssues(firstIssues(result.error.issues), schema, root, shown)
    // What is wrong with a value that could not be told is a consequence of that.
    const told = issues.filter(
      ({ path, at }) => at !== 'value' || !expanded.unknown.some((cause) => related(path, cause)),
    )
    // More is one mistake many times, and looking for others besides would only keep probes waiting for longer.
    if (told.length > maxProblems) return refused(places, [...before, ...told])
    const mended = refine === undefined ? undefined : mend(schema, expanded.value)
    const crossed = mended === undefined ? [] : cross(mended.value, mended)
    const secrets = findSecretProblems(expanded.value, root, deps)
    return refused(places, [...before, ...told, ...crossed, ...secrets])
  }

  const crossed = cross(result.data, nothingLeftOut)
  const found = [...before, ...crossed, ...findSecretProblems(expanded.value, root, deps)]
  if (found.length > 0) return refused(places, found)
  return {
    kind: 'loaded',
    value: result.data,
    hash: hashOf(source.text),
    locate: (path) => places.ofPath(path, 'value'),
    warnings: tell(places, parsed.braces),
  }

  function cross(value: z.output<S>, whole: Whole): readonly Finding[] {
    const doubled = parsed.repeated.map(({ path }) => entryOf(path))
    const found = (refine?.(value, whole) ?? [])
      .map((finding) => atWritten(finding, root, whole.original))
      // What is wrong with a part that was left out, or beside it or a repeated key in the same entry, may be its consequence.
      .filter(({ path }) => whole.isWhole(entryOf(path)) && !doubled.some((entry) => related(path, entry)))
    if (found.length === 0) return []
    const unexpanded = variablesUnexpanded(text, deps.env)
    return found.map((finding) => written({ ...finding, message: unexpanded(finding.message) }))
  }
}

/** SHA-256 of a file's text, hexadecimal. */
export function hashOf(text: string): string {
  return createHash('sha256').update(text).digest('hex')
}

/** Gives the text of a file, in UTF-8, to `parse`, which throws nothing; a file that cannot be read is refused as a whole. */
export function loadFile<T>(
  file: string,
  read: (file: string) => Buffer | string,
  parse: (text: string) => T,
): T | Refused {
  try {
    return parse(read(file).toString())
  } catch (cause) {
    const message = `Cannot read configuration: the file ${saidOfUnreadable(cause)}`
    return { kind: 'refused', problems: [{ file, line: 1, column: 1, path: '', message, excerpt: '', caretLength: 1 }] }
  }
}

/** The innermost list entry that a path leads into; the path itself where there is none. */
function entryOf(path: Path): Path {
  const at = path.findLastIndex((step) => typeof step === 'number')
  return at === -1 ? path : path.slice(0, at + 1)
}

/** The finding at a place that is written, if one of its two is. */
function atWritten(
  { path, message, unwritten }: CrossFinding,
  root: Written,
  original: (path: Path) => Path,
): CrossFinding {
  const first = { path: original(path), message }
  if (unwritten === undefined || findWritten(root, first.path) !== undefined) return first
  const other = { ...unwritten, path: original(unwritten.path) }
  return findWritten(root, other.path) === undefined ? first : other
}

function written({ path, message }: CrossFinding): Finding {
  return { path, at: 'value', message: message.startsWith('Cannot ') ? message : cannotRead(path, message) }
}

function refused(places: Places, findings: readonly Finding[]): Refused {
  return { kind: 'refused', problems: tell(places, findings) }
}

/** In the order of the file; of more than `maxProblems` the last says that there are more. */
function tell(places: Places, findings: readonly Finding[]): readonly Problem[] {
  // Two checks of one value may come to the same sentence.
  const problems = new Map(
    findings
      .slice(0, maxProblems)
      .map(places.problem)
      .map((each) => [`${each.line}:${each.column}:${each.message}`, each]),
  )
  const told = [...problems.values()].sort((a, b) => a.line - b.line || a.column - b.column)
  const last = told.at(-1)
  if (last === undefined || findings.length <= maxProblems) return told
  return [
    ...told,
    { ...last, path: '', message: cannotRead([], 'more is wrong with it than is told here'), excerpt: '' },
  ]
}

/** Whether one of two paths leads through the other. */
function related(a: Path, b: Path): boolean {
  const length = Math.min(a.length, b.length)
  return a.slice(0, length).every((step, at) => step === b[at])
}
