import { createHash } from 'node:crypto'
import type { CST, Pair, ParsedNode } from 'yaml'
import { Composer, isAlias, isMap, isScalar, isSeq, Lexer, Parser, Schema } from 'yaml'
import type * as z from 'zod'
import type { SecretDeps } from '../io/files.ts'
import { saidOfUnreadable } from '../io/files.ts'
import { cannotRead, expandWritten, maxDepth, maxValues } from './expand.ts'
import type { Mended } from './mend.ts'
import { firstIssues, mend } from './mend.ts'
import { otherKind } from './other-kinds.ts'
import type { Finding, Path, Place, Problem } from './problems.ts'
import { maxProblems } from './problems.ts'
import { findSecretProblems } from './secret-problems.ts'
import { isSecretPath } from './secrets.ts'
import { createShown } from './shown.ts'
import { explainSyntax, isUtf16 } from './slips.ts'
import { knownKeys } from './wanted.ts'
import type { Entry, Places, Span, Written } from './written.ts'
import { createPlaces, findWritten } from './written.ts'
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
  const parsed = parse(text)
  const shown = createShown(text, parsed.root, parsed.findings.length === 0, schema)
  const places = createPlaces(file, text, parsed.root, shown)
  if (parsed.findings.length > 0 || parsed.root === undefined) return refused(places, parsed.findings)
  const root = parsed.root
  const names = knownKeys([schema])
  const other = root.kind === 'map' ? otherKind(root.entries, names) : undefined
  if (other !== undefined) return refused(places, [document(other.why, other.at)])
  if (root.kind === 'map' && !shown.isOurs)
    return refused(places, [document(`it has none of the keys of a configuration, such as ${names[0]}`)])

  const core = new Schema({ schema: 'core' })
  const expanded = expandWritten(root, { env: deps.env, text, resolvePlain: (plain) => resolvePlain(core, plain) })
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
    const doubled = parsed.repeated.map(({ path }) => entryOf(path)).filter((path) => path.length > 0)
    return (
      (refine?.(value, whole) ?? [])
        .map((finding) => atWritten(finding, root, whole.original))
        // What is wrong with a part that was left out, or beside it or a repeated key in the same entry, may be its consequence.
        .filter(({ path }) => whole.isWhole(entryOf(path)) && !doubled.some((entry) => related(path, entry)))
        .map(written)
    )
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

function document(why: string, at: Span = { start: 0, end: 0 }): Finding {
  return { path: [], at, message: cannotRead([], why) }
}

// Private use, so that no file has them by accident; one that has them is read as it is.
const openBrace = '\ue000'
const closeBrace = '\ue001'

/**
 * Hides the braces of `/{name}` and `${NAME}` from YAML, to which they open a map: `{ path: /orders/{id} }` then means
 * what everybody who writes it means. One character stands for one, so every place stays where it is.
 */
function shield(text: string): string {
  if (holdsShield(text)) return text
  return text.replaceAll(/(?<=[/$])\{([^{}[\]\s,"'#]*)\}/g, `${openBrace}$1${closeBrace}`)
}

function holdsShield(text: string): boolean {
  return text.includes(openBrace) || text.includes(closeBrace)
}

function unshield(value: unknown): unknown {
  return typeof value === 'string' ? value.replaceAll(openBrace, '{').replaceAll(closeBrace, '}') : value
}

type Parsed = {
  readonly root: Written | undefined
  /** What makes it no YAML we take; the tree is then only good for hiding secrets. */
  readonly findings: readonly Finding[]
  readonly repeated: readonly Finding[]
  /** Braces that were hidden from YAML where it takes them for a map. */
  readonly braces: readonly Finding[]
}

/** Parses with the token stack watched: the composer behind it recurses, and 5,000 `[` must not reach it (CVE-2026-33532). */
function parse(text: string): Parsed {
  try {
    const lexer = new Lexer()
    const parser = new Parser()
    const tokens: CST.Token[] = []
    const marks: Span[] = []
    let values = 0
    for (const lexeme of lexer.lex(shield(text))) {
      if (/^(?:["']|[[\]{}]$)/.test(lexeme)) marks.push({ start: parser.offset, end: parser.offset + lexeme.length })
      for (const token of parser.next(lexeme)) tokens.push(token)
      if (beginsValue.test(lexeme)) values += 1
      if (values > maxValues) return unparsed(document(`it has more than ${maxValues} keys, values and commas`))
      // The stack also holds the document and a scalar; only then is it worth counting.
      if (parser.stack.length > maxDepth && parser.stack.filter(isCollectionToken).length > maxDepth) {
        const at = { start: parser.offset - 1, end: parser.offset }
        return unparsed(document(`nested deeper than ${maxDepth}`, at))
      }
    }
    for (const token of parser.end()) tokens.push(token)
    return compose(tokens, text, marks)
  } catch (cause) {
    // Whatever the library throws (it has thrown RangeError), the file is what caused it.
    const name = cause instanceof Error ? cause.name : 'unknown'
    return unparsed(document(`the YAML parser gave up (${name})`))
  }
}

function unparsed(finding: Finding): Parsed {
  return { root: undefined, findings: [finding], repeated: [], braces: [] }
}

// A text without quotes (the lexer's own mark), one with quotes, a block of text, brackets, and what may stand before nothing.
// biome-ignore lint/suspicious/noControlCharactersInRegex: it is the mark.
const beginsValue = /^(?:\x1f$|["'|>[{]|[-,?]$)/

function isCollectionToken({ type }: { readonly type: string }): boolean {
  return type === 'block-map' || type === 'block-seq' || type === 'flow-collection'
}

function compose(tokens: readonly CST.Token[], text: string, marks: readonly Span[]): Parsed {
  const composer = new Composer({
    schema: 'core',
    merge: false,
    // Looked for in toWritten, which needs no square of the keys for it.
    uniqueKeys: false,
    stringKeys: true,
    resolveKnownTags: false,
    prettyErrors: false,
    logLevel: 'silent',
  })
  const [first, second] = composer.compose(tokens, true, text.length)
  const errors = [...(first?.errors ?? []), ...(first?.warnings ?? [])]
  const findings = [...explainSyntax(errors, text, marks)]
  if (findings.length === 0 && second !== undefined) {
    const at = Math.max(0, (second.contents?.range ?? second.range)[0] - 1)
    const start = Math.max(text.lastIndexOf('\n---', at), text.lastIndexOf('\n...', at)) + 1
    findings.push(document('it holds more than one YAML document, wanted one', { start, end: start + 3 }))
  }
  const contents = first?.contents
  const repeated: Finding[] = []
  const bad: Finding[] = []
  const braces: Finding[] = []
  const root = toWritten(contents ?? null, { start: 0, end: 0 }, [], new Map(), {
    repeated,
    bad,
    braces,
    unshield: holdsShield(text) ? (value) => value : unshield,
  })
  return { root, findings: findings.length > 0 ? findings : bad, repeated, braces }
}

type Anchors = Map<string, Written>
type Sinks = {
  readonly repeated: Finding[]
  readonly bad: Finding[]
  readonly braces: Finding[]
  readonly unshield: (value: unknown) => unknown
}

/** Recursion is bounded: the token stack never held more than `maxDepth` collections. */
function toWritten(node: unknown, at: Span, path: Path, anchors: Anchors, sinks: Sinks, inFlow = false): Written {
  const known = node as ParsedNode | null // the composer makes nothing else
  if (known === null) return { kind: 'scalar', span: { start: at.end, end: at.end }, value: null, plain: true }
  const span = { start: known.range[0], end: known.range[1] }
  if (isAlias(known)) {
    const target = anchors.get(known.source)
    if (target !== undefined) return { kind: 'alias', span, target }
    const scalar: Written = { kind: 'scalar', span, value: null, plain: false }
    if (sinks.bad.length > maxProblems) return scalar
    // No anchor is named so; hosts and patterns are.
    const isText = /^[.*/]/.test(known.source)
    const quoted = isSecretPath(path) ? 'quote it' : `quote it: "*${known.source}"`
    const why = isText ? quoted : 'the alias has no anchor before it'
    sinks.bad.push({ path, at: span, message: cannotRead(path, why) })
    return scalar
  }
  let isTwo = false
  const written = convert()
  // Only now: an alias inside its own anchor would be a circle.
  if (known.anchor !== undefined) anchors.set(known.anchor, written)
  return written

  function convert(): Written {
    if (isScalar(known)) {
      if (inFlow && known.type === 'PLAIN' && sinks.unshield(known.value) !== known.value)
        sinks.braces.push({ path, at: span, message: 'quote it: other YAML parsers refuse braces here' })
      return { kind: 'scalar', span, value: sinks.unshield(known.value), plain: known.type === 'PLAIN' && !known.tag }
    }
    const flow = inFlow || ((isMap(known) || isSeq(known)) && known.flow === true)
    if (isSeq(known)) {
      const items = known.items.map((item, index) => toWritten(item, span, [...path, index], anchors, sinks, flow))
      return { kind: 'list', span, items }
    }
    const entries = new Map<string, Entry>()
    for (const pair of isMap(known) ? known.items : []) addEntry(entries, pair, flow)
    return { kind: 'map', span, entries }
  }

  function addEntry(entries: Map<string, Entry>, pair: Pair<unknown, unknown>, inFlow: boolean): void {
    if (!isScalar(pair.key) || !pair.key.range) return // not a scalar: NON_STRING_KEY has been reported
    const name = String(sinks.unshield(pair.key.value))
    const below = [...path, name]
    const key = { start: pair.key.range[0], end: pair.key.range[1] }
    const value = toWritten(pair.value ?? null, key, below, anchors, sinks, inFlow)
    const first = entries.get(name)?.key
    if (first === undefined) entries.set(name, { key, value })
    else if (!isTwo) {
      // What a list's map begins with begins the next one, and what follows is no repetition.
      isTwo = !inFlow && typeof path.at(-1) === 'number' && entries.keys().next().value === name
      const why = `${isTwo ? 'a "-" is missing before it, or ' : ''}the key is here a second time`
      sinks.repeated.push({ path: below, at: key, first, message: cannotRead(below, why) })
    }
  }
}

/** Reads a scalar without quotes by YAML's core schema: numbers, true, false and null, everything else text. */
function resolvePlain(core: Schema, plain: string): unknown {
  for (const tag of core.tags) {
    if (tag.default !== true || tag.collection !== undefined || tag.test?.test(plain) !== true) continue
    const resolved = tag.resolve(plain, () => {}, {})
    return isScalar(resolved) ? resolved.value : resolved
  }
  return plain
}
