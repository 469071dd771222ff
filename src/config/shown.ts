// What of a configuration may be shown to whoever reads what is wrong with it: what the schema knows, and nothing else.
import { nearest } from '../base/nearest.ts'
import type { Path } from './problems.ts'
import { hideCredentials, isNameOfSecret, isSecretName, starred, startOfKey } from './secrets.ts'
import type { Schema } from './wanted.ts'
import { knownKeys, schemasAt, wantsScalar } from './wanted.ts'
import type { Entry, Span, Written } from './written.ts'

/** What may be shown of one document. */
export type Shown = {
  /**
   * A line of the text, by where it begins and how far it is shown, character for character, with `*` where a secret may
   * be; blank where nothing says that the text is a configuration.
   */
  readonly line: (start: number, end: number) => string
  /** Whether a value may be told: the schema wants no map or list where it stands, and it is no secret's. */
  readonly tells: (node: Written) => boolean
  /** A path, up to the last key that is not itself part of what may be a secret: whoever forgets `file:` makes a key of it. */
  readonly path: (path: Path) => Path
  /** What a key may be the rest of: `{ client_secret: hunt,er2 }` has two, and so has a URL with a user. */
  readonly cutBefore: (key: Entry | undefined) => string | undefined
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
  let sorted: readonly Piece[] | undefined
  let known: ReadonlySet<string> | undefined
  const lines = new Map<number, string>()
  const judge = () => (judged ??= judgeTree(root, text, top))
  return {
    line,
    tells: (node) => node.kind === 'scalar' && judge().pieces.get(node.span.start)?.isTold === true,
    path: tell,
    cutBefore: (key) => (key === undefined ? undefined : judge().rests.get(key)),
    isOurs,
  }

  function line(start: number, end: number): string {
    const held = lines.get(start)
    if (held !== undefined) return held
    const made = isOurs ? show(start, end) : ' '.repeat(end - start)
    lines.set(start, made)
    return made
  }

  function show(start: number, end: number): string {
    known ??= keysBelow(top)
    sorted ??= trusted ? [...judge().pieces.values()].sort((a, b) => a.span.start - b.span.start) : []
    let [done, from] = ['', start]
    for (let at = firstAfter(sorted, start); at < sorted.length; at += 1) {
      const piece = sorted[at]
      if (piece === undefined || piece.span.start >= end) break
      const told = piece.text().slice(Math.max(0, start - piece.span.start), end - piece.span.start)
      done += keysOnly(text.slice(from, Math.max(from, piece.span.start)), known) + told
      from = Math.min(end, piece.span.end)
    }
    if (from >= end) return done
    return done + keysOnly(text.slice(from, end), known)
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

/** The first that ends after a place, by halves: there are as many as a file has keys and values. */
function firstAfter(pieces: readonly Piece[], start: number): number {
  let [low, high] = [0, pieces.length]
  while (low < high) {
    const middle = (low + high) >> 1
    if ((pieces[middle]?.span.end ?? 0) > start) high = middle
    else low = middle + 1
  }
  return low
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
  /** Whether a secret may stand in it. */
  readonly takesSecret: boolean
  /** The key it stands under; none in a list. */
  readonly name: string
  /** Whether the schema takes something under a key. */
  readonly knows: (name: string) => boolean
  readonly at: (step: string | number) => Place
}

function createPlace(schemas: readonly Schema[]): Place {
  // What the schema does not know is one place, however deep it is: aliases multiply the paths to it.
  const nowhere = { keys: new Set<string>(), wantsScalar: false, takesSecret: false, name: '', knows: () => false }
  const open: Place = { ...nowhere, secret: false, at: (step) => (isSecretStep(step) ? secret : open) }
  const secret: Place = { ...nowhere, secret: true, at: () => secret }
  return place(schemas, false, '')

  function place(schemas: readonly Schema[], isSecret: boolean, name: string): Place {
    const below = new Map<string, Place>()
    const keys = new Set(knownKeys(schemas))
    const knows = (key: string) => keys.has(key) || schemasAt(schemas, [key]).length > 0
    const takesSecret = [...keys].some(isSecretName)
    return { keys, wantsScalar: wantsScalar(schemas), secret: isSecret, takesSecret, name, knows, at }

    function at(step: string | number): Place {
      const name = typeof step === 'number' ? '' : step
      // Names that are not in the schema are all alike, and a file may have a hundred thousand.
      const isOther = name !== '' && !keys.has(name) && mayStandUnder(name, undefined)
      const kind = isOther ? `${isSecretStep(step)} other` : name
      const held = below.get(kind)
      if (held !== undefined) return held
      const found = schemasAt(schemas, [typeof step === 'number' ? 0 : step])
      const secretBelow = isSecret || isSecretStep(step)
      const made = found.length > 0 ? place(found, secretBelow, name) : secretBelow ? secret : open
      below.set(kind, made)
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

/** A key or a value, and what is shown in its place: found out only for what is shown, since a file may have 300,000. */
type Piece = { readonly span: Span; readonly text: () => string; readonly isTold: boolean }
type Judged = {
  /** By where they start. */
  readonly pieces: ReadonlyMap<number, Piece>
  /** Those whose key may be a secret. */
  readonly untold: ReadonlySet<Entry>
  /** Those that may be the rest of a secret, with its name where the schema knows it. */
  readonly rests: ReadonlyMap<Entry, string>
}

function judgeTree(root: Written | undefined, text: string, top: Place): Judged {
  const pieces = new Map<number, Piece>()
  const untold = new Set<Entry>()
  const rests = new Map<Entry, string>()
  const followed = new Map<Written, Set<Place>>()
  /** Whether a secret is empty, and no key that is known has come since: what follows may be it, in a wrong column. */
  let isSecretEmpty = false
  if (root !== undefined) visit(root, top)
  return { pieces, untold, rests }

  function visit(node: Written, place: Place): void {
    if (node.kind === 'alias') follow(node.target, place)
    else if (node.kind === 'map') visitMembers(node, place)
    else if (node.kind === 'list') visitItems(node.items, place.at(0))
    else putValue(node, place.wantsScalar && !place.secret && mayStandUnder(place.name, node.value))
  }

  /** Once for each place: aliases of aliases would be followed without end. */
  function follow(target: Written, place: Place): void {
    const places = followed.get(target) ?? new Set()
    if (places.has(place)) return
    followed.set(target, places.add(place))
    visit(target, place)
  }

  function visitItems(items: readonly Written[], place: Place): void {
    let isRest = false
    for (const [at, item] of items.entries()) {
      // `[http://user:hunter,2@host]`: a comma ends it.
      isRest = text[item.span.start - 1] === ',' && (isRest || isHeldBack(items[at - 1]))
      if (isRest && item.kind === 'scalar') putValue(item, false)
      else visit(item, place)
    }
  }

  /** Whether a value, without quotes, is not told as it stands: a comma may have ended it too early. */
  function isHeldBack(node: Written | undefined): boolean {
    if (node?.kind !== 'scalar' || !node.plain || isEmpty(node)) return false
    return pieces.get(node.span.start)?.isTold !== true || hideCredentials(String(node.value)) !== String(node.value)
  }

  function visitMembers({ entries, span }: Extract<Written, { kind: 'map' }>, place: Place): void {
    const isNamed = namesSecret(entries)
    const inFlow = text[span.start] === '{'
    let cut: string | undefined
    let before: Written | undefined
    for (const [name, entry] of entries) {
      const { key, value } = entry
      const raw = text.slice(key.start, key.end)
      if (isNamed || place.keys.has(name)) {
        isSecretEmpty = false
        // With its colon it is shown in any case: a large file has little else.
        if (raw !== name || text[key.end] !== ':') put(key, true, () => raw)
      } else {
        // `{ client_secret: hunt,er2 }`: a comma ends it.
        const isRest = isEmpty(value) || /\s/.test(name) || (raw === name && text[key.start - 1] === ',')
        // `{ maxage: 30s,clientid: a }` has two keys.
        const isKey = !isEmpty(value) && nearest(name, place.keys) !== undefined
        if (inFlow && isRest && !isKey && isHeldBack(before)) cut ??= 'value'
        if (cut !== undefined && isRest) rests.set(entry, cut)
        // `{ client_secret, hunter2 }`, and `{ hunter2 }` in place of it; and what has the name of a secret for its value.
        const isAlone = inFlow && place.takesSecret && isEmpty(value) && !beginsWithName(name, place.keys)
        const isSecret =
          place.secret ||
          rests.has(entry) ||
          isAlone ||
          (isSecretEmpty && nearest(name, place.keys) === undefined) ||
          holdsSecretName(value)
        if (isSecret) untold.add(entry)
        put(key, false, () => (isSecret ? starred(raw) : shownOfKey(raw, name, place.keys)))
      }
      isSecretEmpty ||= isEmpty(value) && isSecretName(name)
      if (inFlow && (value.kind === 'scalar' || value.kind === 'alias') && isSecretName(name))
        cut = place.keys.has(name) ? name : 'secret'
      before = value
      if (isNamed && value.kind === 'scalar') putValue(value, true)
      else if (value.kind === 'scalar' && !place.knows(name)) putValue(value, false)
      else visit(value, place.at(name))
    }
  }

  function putValue({ span, value }: Extract<Written, { kind: 'scalar' }>, isTold: boolean): void {
    const raw = text.slice(span.start, span.end)
    put(span, isTold, () => (isTold ? shownOfValue(raw, value) : starred(raw)))
  }

  /** What an alias puts where a secret is stays hidden. */
  function put(span: Span, isTold: boolean, text: () => string): void {
    if (pieces.get(span.start)?.isTold !== false && span.end > span.start)
      pieces.set(span.start, { span, isTold, text })
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

/** `{ client_secret:hunter2 }`, of which the name is told. */
function beginsWithName(name: string, known: ReadonlySet<string>): boolean {
  const begun = startOfKey(name, known)
  return (begun !== name && isSecretName(begun)) || nearest(begun, known) !== undefined
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
