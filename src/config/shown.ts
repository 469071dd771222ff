// What of a configuration may be shown to whoever reads what is wrong with it: all but what may be a secret.
import { nearest } from '../base/nearest.ts'
import type { Path } from './problems.ts'
import { hideCredentials, isNameOfSecret, isSecretName, isSecretPath, secretNameIn, starred } from './secrets.ts'
import type { Schema } from './wanted.ts'
import { knownKeys, schemasAt } from './wanted.ts'
import type { Entry, Span, Written } from './written.ts'

/** What may be shown of one document. */
export type Shown = {
  /** The text, character for character, with `*` where a secret may be; blank where nothing says that it is a configuration. */
  readonly text: () => string
  /** A path, up to the last key that is not itself part of what may be a secret: whoever forgets `file:` makes a key of it. */
  readonly path: (path: Path) => Path
  /** Whether the document has a key that the schema knows, or nearly so: another file may hold anything. */
  readonly isOurs: boolean
}

/**
 * Finds what may be shown of a text.
 *
 * @param root What was read from the text, if it could be read at all: it says where secrets are.
 * @param trusted Whether it says so of all of them; otherwise every line is searched for secret-bearing keys, too.
 */
export function createShown(text: string, root: Written | undefined, trusted: boolean, schema: Schema): Shown {
  const names = knownKeys([schema])
  const isOurs = names.length === 0 || (trusted ? hasKnownKey(root, names) : mentions(text, names))
  let shown: string | undefined
  return { text: () => (shown ??= isOurs ? show() : text.replaceAll(/[^\n]/g, ' ')), path: tell, isOurs }

  function show(): string {
    const spans = root === undefined ? [] : secretSpans(root, text, isKnown)
    const hidden = hideSpans(text, spans)
    return trusted ? hidden : hideLines(hidden)
  }

  function tell(path: Path): Path {
    for (const [at, step] of path.entries()) {
      if (typeof step === 'number') continue
      const above = path.slice(0, at)
      if (isSecretPath(above) && !isKnown(above, step)) return above
      const name = secretNameIn(step)
      if (name !== undefined) return [...above, name]
    }
    return path
  }

  function isKnown(path: Path, name: string): boolean {
    return knownKeys(schemasAt([schema], path)).includes(name)
  }
}

function hasKnownKey(root: Written | undefined, names: readonly string[]): boolean {
  if (root?.kind !== 'map') return false
  const keys = [...root.entries.keys()]
  return keys.length === 0 || keys.some((key) => names.includes(key) || nearest(key, names) !== undefined)
}

function mentions(text: string, names: readonly string[]): boolean {
  return names.some((name) => new RegExp(`^[ \\t{"']*${name}["']?\\s*:`, 'm').test(text))
}

/**
 * What stands under secret-bearing keys, but for what `{ file: … }` and `{ env: … }` surely name; and what is a credential
 * wherever it stands.
 */
function secretSpans(root: Written, text: string, isKnown: (path: Path, name: string) => boolean): readonly Span[] {
  const spans: Span[] = []
  // A large file has the same few keys in each of its entries.
  const judged = new Map<string, boolean>()
  const seen = { open: new Set<Written>(), secret: new Set<Written>() }
  visit(root, [], false)
  return spans

  function visit(node: Written, path: Path, secret: boolean): void {
    const visited = secret ? seen.secret : seen.open
    if (visited.has(node)) return
    visited.add(node)
    if (node.kind === 'alias') visit(node.target, path, secret)
    if (node.kind === 'map' && (!secret || isSection(node.entries, path))) visitMembers(node.entries, path, secret)
    else if (secret) spans.push(node.span)
    else if (node.kind === 'list') for (const [at, item] of node.items.entries()) visit(item, [...path, at], false)
    else if (node.kind === 'scalar' && typeof node.value === 'string')
      spans.push(...credentialSpans(node.value, node.span, text))
  }

  function judge(name: string): boolean {
    const known = judged.get(name) ?? isSecretName(name)
    judged.set(name, known)
    return known
  }

  /** A map of keys that are none by accident: `{ ${SECRET} }` has one, too. */
  function isSection(entries: ReadonlyMap<string, Entry>, path: Path): boolean {
    return isNamed(entries) || [...entries.keys()].every((name) => isKnown(path, name))
  }

  function visitMembers(entries: ReadonlyMap<string, Entry>, path: Path, secret: boolean): void {
    for (const [name, { key, value }] of entries) {
      const isSecret = !isNamed(entries) && (secret || judge(name))
      const begun = judge(name) ? secretNameIn(name) : undefined
      // With quotes or escapes, what stands there is not what it says.
      if (begun !== undefined)
        spans.push({ start: key.start + (text.startsWith(begun, key.start) ? begun.length : 0), end: key.end })
      // Anchors and tags are before the value.
      if (isSecret) spans.push({ start: key.end + (text[key.end] === ':' ? 1 : 0), end: value.span.start })
      visit(value, [...path, name], isSecret)
    }
  }
}

/** Whether a map is `{ file: … }` or `{ env: … }` with what is surely a name. */
function isNamed(entries: ReadonlyMap<string, Entry>): boolean {
  const [[name, { value }] = ['', { value: undefined }]] = entries
  return entries.size === 1 && value?.kind === 'scalar' && isNameOfSecret(name, value.value)
}

function credentialSpans(value: string, { start, end }: Span, text: string): readonly Span[] {
  if (hideCredentials(value) === value) return []
  const raw = text.slice(start, end)
  const hidden = hideCredentials(raw)
  // With escapes, what stands there is not what it says.
  if (raw.includes('\\') || hidden === raw) return [{ start, end }]
  const differs = Array.from({ length: raw.length }, (_, at) => at).filter((at) => raw[at] !== hidden[at])
  return [{ start: start + (differs[0] ?? 0), end: start + (differs.at(-1) ?? 0) + 1 }]
}

function hideSpans(text: string, spans: readonly Span[]): string {
  let shown = ''
  for (const { start, end } of [...spans].sort((a, b) => a.start - b.start))
    if (end > shown.length) {
      const from = Math.max(start, shown.length)
      shown += text.slice(shown.length, from) + starred(text.slice(from, end))
    }
  return shown + text.slice(shown.length)
}

// A key, quoted or not, and what parts it from its value: `=` in what is no YAML at all.
const keyOnLine = /(?<![\w.-])([\w.-]+)[^\w\s:=]{0,2}\s*[:=]/g
// The same of a key that lacks its colon: only where a key stands, for in a comment it is a word.
const keyWithoutColon = /(?:^|[{[,])\s*(?:- +)*["']?([\w.-]+)["']?\s+(?=[^\s:=])/g
// What ends a value that began above, if it is not indented deeper; an item of a list may belong to it.
const entryStart = /^\s*(?:- +)*["']?[\w.-]+["']?\s*:(?:\s|$)/
const namedInBraces = /^\s*\{\s*(file|env)\s*:\s*([^\s,{}"']+|\$\{\w+\}[^\s,{}"']*)\s*\}/
const namedOnLine = /^\s*(file|env):\s+([^\s"']+)\s*$/

/** For text that is not YAML: hides what follows a secret-bearing key, on its line and on those that are indented deeper. */
function hideLines(text: string): string {
  let keyIndent: number | undefined
  return text
    .replaceAll(/-----BEGIN .*?(?:-----END |$)/gs, hideCredentials)
    .split('\n')
    .map((line) => {
      if (keyIndent !== undefined && (indentOf(line) > keyIndent || !entryStart.test(line))) {
        const [, kind = '', name] = namedOnLine.exec(line) ?? []
        return isNameOfSecret(kind, name) ? line : starred(line)
      }
      const from = secretOn(line)
      keyIndent = from === undefined ? undefined : indentOf(line)
      return hideCredentials(from === undefined ? line : starred(line, from))
    })
    .join('\n')
}

/** Where on a line something follows a secret-bearing key and is not surely a name. */
function secretOn(line: string): number | undefined {
  const starts: number[] = []
  for (const key of [keyOnLine, keyWithoutColon])
    for (const match of line.matchAll(key)) {
      if (!isSecretName(match[1] ?? '')) continue
      const from = match.index + match[0].length
      const [, kind = '', name] = namedInBraces.exec(line.slice(from)) ?? []
      if (isNameOfSecret(kind, name)) continue
      starts.push(from)
      break
    }
  return starts.length === 0 ? undefined : Math.min(...starts)
}

/** How far in the first key of a line stands, behind the hyphens of a list. */
function indentOf(line: string): number {
  return /^\s*(?:- +)*/.exec(line)?.[0].length ?? 0
}
