// What of a configuration may be shown to whoever reads what is wrong with it: what the schema knows, and nothing else.
import { nearest } from '../base/nearest.ts'
import type { Path } from './problems.ts'
import { hideCredentials, isNameOfSecret, isSecretName, starred, startOfKey } from './secrets.ts'
import type { Schema } from './wanted.ts'
import { knownKeys, schemasAt, wantsScalar } from './wanted.ts'
import type { Entry, Span, Written } from './written.ts'

/** What may be shown of one document. */
export type Shown = {
  /** The text, character for character, with `*` where a secret may be; blank where nothing says that it is a configuration. */
  readonly text: () => string
  /** Whether a value may be told: the schema wants no map or list where it stands, and it is no secret's. */
  readonly tells: (node: Written) => boolean
  /** A path, up to the last key that is not itself part of what may be a secret: whoever forgets `file:` makes a key of it. */
  readonly path: (path: Path) => Path
  /** Whether the document has a key that the schema knows, or nearly so: another file may hold anything. */
  readonly isOurs: boolean
}

/**
 * Finds what may be shown of a text.
 *
 * @param root What was read from the text, if it could be read at all: it says which values stand where the schema wants them.
 * @param trusted Whether it says so of all of them; otherwise only the keys of the schema are shown, and no value.
 */
export function createShown(text: string, root: Written | undefined, trusted: boolean, schema: Schema): Shown {
  const names = knownKeys([schema])
  const isOurs = names.length === 0 || (trusted ? hasKnownKey(root, names) : mentions(text, names))
  const top = createPlace([schema])
  let judged: Judged | undefined
  let shown: string | undefined
  const judge = () => (judged ??= judgeTree(root, text, top))
  return {
    text: () => (shown ??= isOurs ? show() : text.replaceAll(/[^\n]/g, ' ')),
    tells: (node) => node.kind === 'scalar' && judge().pieces.get(node.span.start)?.isTold === true,
    path: tell,
    isOurs,
  }

  function show(): string {
    const known = keysBelow(top)
    const pieces = trusted ? [...judge().pieces.values()].sort((a, b) => a.span.start - b.span.start) : []
    let [done, from] = ['', 0]
    for (const { span, text: told } of pieces) {
      done += keysOnly(text.slice(from, span.start), known) + told
      from = span.end
    }
    return done + keysOnly(text.slice(from), known)
  }

  function tell(path: Path): Path {
    let place = top
    let node = root
    for (const [at, step] of path.entries()) {
      while (node?.kind === 'alias') node = node.target
      const entry = node?.kind === 'map' ? node.entries.get(String(step)) : undefined
      if (typeof step === 'string' && !place.keys.has(step)) {
        const told =
          place.secret || (entry !== undefined && judge().untold.has(entry)) ? '' : startOfKey(step, place.keys)
        if (told !== step) return [...path.slice(0, at), ...(told === '' ? [] : [told])]
      }
      place = place.at(step)
      node = node?.kind === 'list' && typeof step === 'number' ? node.items[step] : entry?.value
    }
    return path
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

/** A place in every document of one schema. */
type Place = {
  readonly keys: ReadonlySet<string>
  readonly wantsScalar: boolean
  /** Whether a key on the way there says that it is a secret's. */
  readonly secret: boolean
  /** The key it stands under; none in a list. */
  readonly name: string
  readonly at: (step: string | number) => Place
}

function createPlace(schemas: readonly Schema[]): Place {
  // What the schema does not know is one place, however deep it is: aliases multiply the paths to it.
  const nowhere = { keys: new Set<string>(), wantsScalar: false, name: '' }
  const open: Place = { ...nowhere, secret: false, at: (step) => (isSecretStep(step) ? secret : open) }
  const secret: Place = { ...nowhere, secret: true, at: () => secret }
  return place(schemas, false, '')

  function place(schemas: readonly Schema[], isSecret: boolean, name: string): Place {
    const below = new Map<string, Place>()
    return { keys: new Set(knownKeys(schemas)), wantsScalar: wantsScalar(schemas), secret: isSecret, name, at }

    function at(step: string | number): Place {
      const name = typeof step === 'number' ? '' : step
      const held = below.get(name)
      if (held !== undefined) return held
      const found = schemasAt(schemas, [typeof step === 'number' ? 0 : step])
      const secretBelow = isSecret || isSecretStep(step)
      const made = found.length > 0 ? place(found, secretBelow, name) : secretBelow ? secret : open
      below.set(name, made)
      return made
    }
  }
}

function isSecretStep(step: string | number): boolean {
  return typeof step === 'string' && isSecretName(step)
}

/** Every key that the schema knows, wherever. */
function keysBelow(place: Place): ReadonlySet<string> {
  const inList = place.at(0)
  const below = [...place.keys].map((key) => place.at(key))
  const deeper = inList.keys.size > 0 ? [...below, inList] : below
  return new Set([...place.keys, ...deeper.flatMap((each) => [...keysBelow(each)])])
}

/** A key or a value, and what is shown in its place. */
type Piece = { readonly span: Span; readonly text: string; readonly isTold: boolean }
type Judged = {
  /** By where they start. */
  readonly pieces: ReadonlyMap<number, Piece>
  /** Those whose key may be a secret. */
  readonly untold: ReadonlySet<Entry>
}

function judgeTree(root: Written | undefined, text: string, top: Place): Judged {
  const pieces = new Map<number, Piece>()
  const untold = new Set<Entry>()
  const followed = new Map<Written, Set<Place>>()
  if (root !== undefined) visit(root, top)
  return { pieces, untold }

  function visit(node: Written, place: Place): void {
    if (node.kind === 'alias') follow(node.target, place)
    else if (node.kind === 'map') visitMembers(node.entries, place)
    else if (node.kind === 'list') for (const item of node.items) visit(item, place.at(0))
    else putValue(node, place.wantsScalar && !place.secret && mayStandUnder(place.name, node.value))
  }

  /** Once for each place: aliases of aliases would be followed without end. */
  function follow(target: Written, place: Place): void {
    const places = followed.get(target) ?? new Set()
    if (places.has(place)) return
    followed.set(target, places.add(place))
    visit(target, place)
  }

  function visitMembers(entries: ReadonlyMap<string, Entry>, place: Place): void {
    const isNamed = namesSecret(entries)
    let isSecretEmpty = false
    for (const [name, entry] of entries) {
      const { key, value } = entry
      const raw = text.slice(key.start, key.end)
      if (isNamed || place.keys.has(name)) {
        // With its colon it is shown in any case: a large file has little else.
        if (raw !== name || text[key.end] !== ':') put(key, raw, true)
      } else {
        // `{ client_secret, hunter2 }`; and what has the name of a secret for its value.
        const isSecret =
          place.secret || (isSecretEmpty && nearest(name, place.keys) === undefined) || holdsSecretName(value)
        if (isSecret) untold.add(entry)
        put(key, isSecret ? starred(raw) : shownOfKey(raw, name, place.keys), false)
      }
      isSecretEmpty ||= isEmpty(value) && isSecretName(name)
      if (isNamed && value.kind === 'scalar') putValue(value, true)
      else visit(value, place.at(name))
    }
  }

  function putValue({ span, value }: Extract<Written, { kind: 'scalar' }>, isTold: boolean): void {
    const raw = text.slice(span.start, span.end)
    put(span, isTold ? shownOfValue(raw, value) : starred(raw), isTold)
  }

  /** What an alias puts where a secret is stays hidden. */
  function put(span: Span, text: string, isTold: boolean): void {
    if (pieces.get(span.start)?.isTold !== false && span.end > span.start)
      pieces.set(span.start, { span, text, isTold })
  }
}

/** Whether a map is `{ file: … }` or `{ env: … }` with what is surely a name. */
function namesSecret(entries: ReadonlyMap<string, Entry>): boolean {
  const [[name, { value }] = ['', { value: undefined }]] = entries
  return entries.size === 1 && value?.kind === 'scalar' && isNameOfSecret(name, value.value)
}

/** Whoever forgets what a file is for writes into `file:` what should be in it. */
function mayStandUnder(name: string, value: unknown): boolean {
  return (name !== 'file' && name !== 'env') || isNameOfSecret(name, value)
}

function holdsSecretName(value: Written): boolean {
  return value.kind === 'scalar' && typeof value.value === 'string' && isSecretName(value.value)
}

function isEmpty(value: Written): boolean {
  return value.kind === 'scalar' && (value.value === null || value.value === '')
}

function shownOfKey(raw: string, name: string, known: ReadonlySet<string>): string {
  const told = startOfKey(name, known)
  const begun = `${/^["']?/.exec(raw)?.[0]}${told}`
  // With escapes, what stands there is not what it says.
  if (!raw.startsWith(begun)) return starred(raw)
  return told === name ? raw : starred(raw, begun.length)
}

function shownOfValue(raw: string, value: unknown): string {
  if (typeof value !== 'string' || hideCredentials(value) === value) return raw
  const quote = /^["']?/.exec(raw)?.[0] ?? ''
  const inner = raw.slice(quote.length, raw.length - quote.length)
  return inner === value ? `${quote}${hideCredentials(inner)}${quote}` : starred(raw)
}

const wordsAndMore = /\n|#[^\n]*|[\w.-]+|[^\w.\-\s{}[\],:"'|>=#]+/g
const colon = /["']?[ \t]*[:=]/y

/** Of text that nothing is known of: keeps its marks, and the keys of the schema where a key may stand. */
function keysOnly(text: string, known: ReadonlySet<string>): string {
  if (!/[^\s{}[\],:"'-]/.test(text)) return text
  let isFirst = true
  return text.replaceAll(wordsAndMore, (found, at: number) => {
    const wasFirst = isFirst
    isFirst = found === '\n' || (isFirst && found === '-')
    if (found === '\n' || found === '-') return found
    if (found.startsWith('#')) return `#${starred(found.slice(1))}`
    colon.lastIndex = at + found.length
    return known.has(found) && (wasFirst || colon.test(text)) ? found : starred(found)
  })
}
