// The door to the YAML parser: text in, what is written there out, with its places.
import type { CST, Document, Pair, ParsedNode } from 'yaml'
import { Composer, isAlias, isMap, isScalar, isSeq, Lexer, Parser, Schema } from 'yaml'
import { cannotRead, maxDepth, maxValues } from './expand.ts'
import type { Finding, Path } from './problems.ts'
import { maxProblems } from './problems.ts'
import type { ParserError } from './slips.ts'
import { explainSyntax } from './slips.ts'
import type { Entry, Span, Written } from './written.ts'

/** What was read of a text. */
export type Parsed = {
  readonly root: Written | undefined
  /** What makes it no YAML we take; the tree is then only good for hiding secrets. */
  readonly findings: readonly Finding[]
  readonly repeated: readonly Finding[]
  /** Braces that were hidden from YAML where it takes them for a map. */
  readonly braces: readonly Finding[]
}

/** Parses with the token stack watched: the composer behind it recurses, and 5,000 `[` must not reach it (CVE-2026-33532). */
export function parseYaml(text: string): Parsed {
  try {
    const lexer = new Lexer()
    const parser = new Parser()
    const tokens: CST.Token[] = []
    const marks: Span[] = []
    const errors: ParserError[] = []
    let values = 0
    let documents = 0
    let opened = 0
    for (const lexeme of lexer.lex(shield(text))) {
      if (/^(?:["']|[[\]{}]$)/.test(lexeme)) marks.push({ start: parser.offset, end: parser.offset + lexeme.length })
      for (const token of parser.next(lexeme)) {
        if (token.type === 'document') documents += 1
        if (token.type !== 'error') tokens.push(token)
        else errors.push({ code: 'UNEXPECTED_TOKEN', message: token.message, pos: placeOf(token) })
      }
      // What follows a second document, or a template, is not told: `{{` opens a map that is a key.
      if (errors.length > maxErrors || documents > 1 || (opened > 1 && lexeme !== '{')) break
      opened = lexeme === '{' ? opened + 1 : 0
      if (beginsValue.test(lexeme)) values += 1
      if (values > maxValues) return unparsed(document(`it has more than ${maxValues} keys, values and commas`))
      // The stack also holds the document and a scalar; only then is it worth counting.
      if (parser.stack.length > maxDepth && parser.stack.filter(isCollectionToken).length > maxDepth) {
        const at = { start: parser.offset - 1, end: parser.offset }
        return unparsed(document(`nested deeper than ${maxDepth}`, at))
      }
    }
    for (const token of parser.end()) tokens.push(token)
    return compose(tokens, errors, text, marks)
  } catch (cause) {
    // Whatever the library throws (it has thrown RangeError), the file is what caused it.
    const name = cause instanceof Error ? cause.name : 'unknown'
    return unparsed(document(`the YAML parser gave up (${name})`))
  }
}

/** What is found of a document as a whole. */
export function document(why: string, at: Span = { start: 0, end: 0 }): Finding {
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

function unparsed(finding: Finding): Parsed {
  return { root: undefined, findings: [finding], repeated: [], braces: [] }
}

// A text without quotes (the lexer's own mark), one with quotes, a block of text, brackets, anchors and tags, and what
// may stand before nothing.
// biome-ignore lint/suspicious/noControlCharactersInRegex: it is the mark.
const beginsValue = /^(?:\x1f$|["'|>[{&!]|[-,?]$)/

// One mistake makes the parser stumble several times, and of `maxProblems` each is to be among them.
const maxErrors = 5 * maxProblems
const enough = new Error('more than enough is wrong')

type Token = { readonly offset: number; readonly source?: unknown }

/** Where the parser says that something is, in one of its three ways. */
function placeOf(source: number | Token | ParserError['pos']): ParserError['pos'] {
  if (typeof source === 'number') return [source, source + 1]
  if (!('offset' in source)) return [source[0], source[1]]
  return [source.offset, source.offset + (typeof source.source === 'string' ? source.source.length : 1)]
}

function isCollectionToken({ type }: { readonly type: string }): boolean {
  return type === 'block-map' || type === 'block-seq' || type === 'flow-collection'
}

/** @param errors What the parser has said already; what the composer says is entered here. */
function compose(tokens: readonly CST.Token[], errors: ParserError[], text: string, marks: readonly Span[]): Parsed {
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
  // It has no other way to be stopped: of a file that is wrong all over, each mistake is an exception that is kept.
  Reflect.set(composer, 'onError', (source: number | Token | ParserError['pos'], code: string, message: string) => {
    // Before: what is thrown in a collection comes back as an error of it.
    if (errors.length > maxErrors) throw enough
    errors.push({ code, message, pos: placeOf(source) })
  })
  let first: Document.Parsed | undefined
  let second: Document.Parsed | undefined
  try {
    ;[first, second] = composer.compose(tokens, true, text.length)
  } catch (cause) {
    if (cause !== enough) throw cause
  }
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
    // No anchor is named so; hosts, addresses and patterns are.
    const isText = /^[.*/:]/.test(known.source)
    const why = isText ? 'quote it: a value that begins with * is an alias' : 'the alias has no anchor before it'
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
      if (sinks.repeated.length > maxProblems) return
      const why = `${isTwo ? 'a "-" is missing before it, or ' : ''}the key is here a second time`
      sinks.repeated.push({ path: below, at: key, first, message: cannotRead(below, why) })
    }
  }
}

/** Reads a scalar without quotes by YAML's core schema: numbers, true, false and null, everything else text. */
export function plainReader(): (plain: string) => unknown {
  const core = new Schema({ schema: 'core' })
  return (plain) => {
    for (const tag of core.tags) {
      if (tag.default !== true || tag.collection !== undefined || tag.test?.test(plain) !== true) continue
      const resolved = tag.resolve(plain, () => {}, {})
      return isScalar(resolved) ? resolved.value : resolved
    }
    return plain
  }
}
