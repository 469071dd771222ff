// Numbers by text, a million of them and more, outside of V8's heap: what is in the heap is looked through in every long
// collection, and a `Map` takes twice as much. Open addressing with linear probing (Knuth, The Art of Computer Programming,
// volume 3, §6.4); the texts stand in pages, in their order, and pages that are mostly empty become one.

/** What a `Map` of texts is, for numbers but NaN. */
export type TextTable = {
  readonly size: () => number
  /** Undefined where the text is not there. */
  readonly get: (text: string) => number | undefined
  /** Puts it behind all others, also one that was there. */
  readonly set: (text: string, value: number) => void
  /** Returns whether it was there. */
  readonly delete: (text: string) => boolean
  /** Deletes the first one, and returns it. */
  readonly shift: () => readonly [text: string, value: number] | undefined
  /**
   * All, in their order. Who goes through them while they change finds each that stays, once or more.
   */
  readonly entries: () => IterableIterator<readonly [text: string, value: number]>
  /** How many have such a value. */
  readonly count: (isOne: (value: number) => boolean) => number
  /** Deletes those that are over; each step has looked at one. Going on later is going through them as they are then. */
  readonly expire: (isOver: (value: number, text: () => string) => boolean) => Iterator<undefined>
}

type Page = {
  readonly number: number
  /** The texts, one behind the other: in Latin-1, or, where that has not all of a text, in UTF-16. */
  bytes: Buffer
  /** Where each text begins, and where the last one ends. */
  readonly starts: Uint32Array
  readonly hashes: Uint32Array
  /** NaN of one that is gone. */
  readonly values: Float64Array
  count: number
  live: number
  /** All before it have gone. */
  head: number
  before: Page | undefined
  /** Of a page that is gone, where who stands on it goes on. */
  behind: Page | undefined
}

const pageBits = 12
const mostOfPage = 1 << pageBits
const leastOfPage = 16
// Then it is full, whatever it may count: what has gone from the last page is kept with it.
const mostBytes = 262_144
const firstSlots = 32
// Of a hash, whether the text is in UTF-16; no bit of the tag, nor of the slot where there are fewer than 16 million.
const wideBit = 1 << 24

/**
 * Makes an empty one.
 *
 * @param seed 32 bits that nobody outside knows: texts that share a place with each other are harder to find.
 */
export function createTextTable(seed: number): TextTable {
  // Of each slot seven bits of a hash and one that says that it is taken: most texts that are not there cost one look.
  let tags = new Uint8Array(0)
  let places = new Uint32Array(0)
  let size = 0
  const pages: (Page | undefined)[] = []
  const unused: number[] = []
  let first: Page | undefined
  let last: Page | undefined
  return { size: () => size, get, set, delete: remove, shift, entries, count, expire }

  function get(text: string): number | undefined {
    const slot = find(text, hashOf(text, seed))
    return slot === undefined ? undefined : pageOf(places[slot]).values[atOf(places[slot])]
  }

  function set(text: string, value: number): void {
    const hash = hashOf(text, seed)
    const slot = find(text, hash)
    if (slot !== undefined) take(slot)
    if ((size + 1) * 2 > tags.length) grow()
    insert(hash, append(openPage(), text, hash, value))
    size += 1
  }

  function remove(text: string): boolean {
    const slot = find(text, hashOf(text, seed))
    if (slot === undefined) return false
    take(slot)
    return true
  }

  function shift(): readonly [string, number] | undefined {
    for (let page = first; page !== undefined; page = page.behind)
      for (; page.head < page.count; page.head += 1) {
        const value = page.values[page.head] ?? Number.NaN
        if (Number.isNaN(value)) continue
        const text = textAt(page, page.head)
        take(slotOf(page, page.head))
        return [text, value]
      }
    return undefined
  }

  function* entries(): IterableIterator<readonly [string, number]> {
    for (const [page, at] of all()) yield [textAt(page, at), page.values[at] ?? 0]
  }

  function count(isOne: (value: number) => boolean): number {
    let counted = 0
    for (let page = first; page !== undefined; page = page.behind)
      for (const value of page.values.subarray(0, page.count)) if (!Number.isNaN(value) && isOne(value)) counted += 1
    return counted
  }

  function* expire(isOver: (value: number, text: () => string) => boolean): Iterator<undefined> {
    for (const [page, at] of all()) {
      if (isOver(page.values[at] ?? 0, () => textAt(page, at))) take(slotOf(page, at))
      yield
    }
  }

  function* all(): IterableIterator<readonly [Page, number]> {
    for (let page = first; page !== undefined; page = page.behind)
      for (let at = 0; at < page.count; at += 1) if (!Number.isNaN(page.values[at])) yield [page, at]
  }

  function pageOf(place: number | undefined): Page {
    const page = pages[(place ?? 0) >>> pageBits]
    if (page === undefined) throw new Error('A slot of a table names a page that is gone')
    return page
  }

  /** The slot of a text; undefined where it is not there. */
  function find(text: string, hash: number): number | undefined {
    if (size === 0) return undefined
    const mask = tags.length - 1
    const tag = tagOf(hash)
    for (let slot = hash & mask; tags[slot] !== 0; slot = (slot + 1) & mask) {
      if (tags[slot] !== tag) continue
      const page = pageOf(places[slot])
      const at = atOf(places[slot])
      if (page.hashes[at] === hash && isText(page, at, text)) return slot
    }
    return undefined
  }

  /** The slot of one that is there: no slot before it is empty, so what it names is not of old. */
  function slotOf(page: Page, at: number): number {
    const mask = tags.length - 1
    const place = placeOf(page, at)
    let slot = (page.hashes[at] ?? 0) & mask
    while (places[slot] !== place) slot = (slot + 1) & mask
    return slot
  }

  /** Deletes what a slot names; those behind it that it kept from their own slot move up. */
  function take(slot: number): void {
    const page = pageOf(places[slot])
    page.values[atOf(places[slot])] = Number.NaN
    page.live -= 1
    size -= 1
    const mask = tags.length - 1
    let hole = slot
    for (let next = (hole + 1) & mask; tags[next] !== 0; next = (next + 1) & mask) {
      const own = (pageOf(places[next]).hashes[atOf(places[next])] ?? 0) & mask
      if (((next - own) & mask) < ((next - hole) & mask)) continue
      tags[hole] = tags[next] ?? 0
      places[hole] = places[next] ?? 0
      hole = next
    }
    tags[hole] = 0
    tidy(page)
  }

  /** Gives up a page that is empty, or mostly empty with one beside it. */
  function tidy(page: Page): void {
    if (page === last) return
    const { before, behind } = page
    if (page.live === 0) {
      link(before, behind)
      release(page)
    } else if (before !== undefined && isOneEnough(before, page)) merge(before, page)
    else if (behind !== undefined && behind !== last && isOneEnough(page, behind)) merge(page, behind)
  }

  /** What is left of two pages in one, which stands where they stood. */
  function merge(one: Page, other: Page): void {
    const both = [one, other]
    const merged = newPage(one.live + other.live)
    for (const page of both)
      for (let at = 0; at < page.count; at += 1) {
        const value = page.values[at] ?? Number.NaN
        if (Number.isNaN(value)) continue
        const slot = slotOf(page, at)
        places[slot] = append(merged, textAt(page, at), page.hashes[at] ?? 0, value)
        page.values[at] = Number.NaN
      }
    trim(merged)
    link(one.before, merged)
    link(merged, other.behind)
    for (const page of both) {
      release(page)
      // What has gone to the new page may be what he has not come to yet.
      page.behind = merged
    }
  }

  function link(before: Page | undefined, behind: Page | undefined): void {
    if (before === undefined) first = behind
    else before.behind = behind
    if (behind !== undefined) behind.before = before
  }

  function release(page: Page): void {
    pages[page.number] = undefined
    unused.push(page.number)
  }

  function newPage(most: number): Page {
    const number = unused.pop() ?? pages.length
    const [starts, hashes, held] = [new Uint32Array(most + 1), new Uint32Array(most), new Float64Array(most)]
    const bytes = Buffer.alloc(0)
    const page = {
      number,
      bytes,
      starts,
      hashes,
      values: held,
      count: 0,
      live: 0,
      head: 0,
      before: undefined,
      behind: undefined,
    }
    pages[number] = page
    return page
  }

  /** The last page, which has room for one more. */
  function openPage(): Page {
    if (last !== undefined && last.count < last.values.length && bytesOf(last) < mostBytes) return last
    const full = last
    last = newPage(full === undefined ? leastOfPage : Math.min(mostOfPage, full.count * 4))
    link(full, last)
    if (full !== undefined) {
      trim(full)
      tidy(full)
    }
    return last
  }

  function insert(hash: number, place: number): void {
    const mask = tags.length - 1
    let slot = hash & mask
    while (tags[slot] !== 0) slot = (slot + 1) & mask
    tags[slot] = tagOf(hash)
    places[slot] = place
  }

  function grow(): void {
    const slots = Math.max(firstSlots, tags.length * 2)
    tags = new Uint8Array(slots)
    places = new Uint32Array(slots)
    for (let page = first; page !== undefined; page = page.behind)
      for (let at = 0; at < page.count; at += 1)
        if (!Number.isNaN(page.values[at])) insert(page.hashes[at] ?? 0, placeOf(page, at))
  }
}

/** Returns the place of what was added. */
function append(page: Page, text: string, hash: number, value: number): number {
  const at = page.count
  const start = page.starts[at] ?? 0
  const end = start + (isWide(hash) ? 2 * text.length : text.length)
  if (end > page.bytes.length) page.bytes = resized(page.bytes, Math.max(end, 2 * page.bytes.length))
  page.bytes.write(text, start, encodingOf(hash))
  page.starts[at + 1] = end
  page.hashes[at] = hash
  page.values[at] = value
  page.count += 1
  page.live += 1
  return placeOf(page, at)
}

/** Nothing is added to it any more. */
function trim(page: Page): void {
  page.bytes = resized(page.bytes, bytesOf(page))
}

function bytesOf({ starts, count }: Page): number {
  return starts[count] ?? 0
}

/** Whether one page has room for what is left of two, with as much again that has gone. */
function isOneEnough(one: Page, other: Page): boolean {
  const live = one.live + other.live
  return live <= mostOfPage / 2 && live * 2 <= one.count + other.count
}

function placeOf({ number }: Page, at: number): number {
  return ((number << pageBits) | at) >>> 0
}

function atOf(place: number | undefined): number {
  return (place ?? 0) & (mostOfPage - 1)
}

function tagOf(hash: number): number {
  return (hash >>> 25) | 0x80
}

/** FNV-1a with a secret beginning, and the last step of MurmurHash3: a slot goes by the low bits, a tag by the high ones. */
function hashOf(text: string, seed: number): number {
  let hash = seed
  let units = 0
  for (let at = 0; at < text.length; at += 1) {
    const unit = text.charCodeAt(at)
    units |= unit
    hash = Math.imul(hash ^ unit, 0x0100_0193)
  }
  hash = Math.imul(hash ^ (hash >>> 16), 0x85eb_ca6b)
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2_ae35)
  hash ^= hash >>> 16
  return ((hash & ~wideBit) | (units > 0xff ? wideBit : 0)) >>> 0
}

function isWide(hash: number): boolean {
  return (hash & wideBit) !== 0
}

function encodingOf(hash: number): 'latin1' | 'utf16le' {
  return isWide(hash) ? 'utf16le' : 'latin1'
}

function textAt({ bytes, starts, hashes }: Page, at: number): string {
  return bytes.toString(encodingOf(hashes[at] ?? 0), starts[at], starts[at + 1])
}

/** Of a text of the same hash, and so in the same encoding. */
function isText({ bytes, starts, hashes }: Page, at: number, text: string): boolean {
  const start = starts[at] ?? 0
  const width = isWide(hashes[at] ?? 0) ? 2 : 1
  if ((starts[at + 1] ?? 0) - start !== text.length * width) return false
  for (let unit = 0; unit < text.length; unit += 1) {
    const from = start + unit * width
    const is = (bytes[from] ?? 0) | (width === 2 ? (bytes[from + 1] ?? 0) << 8 : 0)
    if (is !== text.charCodeAt(unit)) return false
  }
  return true
}

/** The beginning of some bytes in as many as there may be. */
function resized(bytes: Buffer, length: number): Buffer {
  const copy = Buffer.allocUnsafeSlow(length)
  bytes.copy(copy)
  return copy
}
