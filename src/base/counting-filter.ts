// Says quickly that a text is in no large Map: a Map of a million texts is memory that is not near, and most look-ups find
// nothing in it. A counting Bloom filter (Fan et al. 2000) of one hash: what was added and not deleted, it may be there.

/** Texts that were added and not deleted; each is added once. */
export type CountingFilter = {
  /** False only for a text that is not there. */
  readonly mayHave: (text: string) => boolean
  readonly add: (text: string) => void
  /** Of one that was added. */
  readonly delete: (text: string) => void
}

const firstCounters = 1024
const growth = 16
// 4 MiB. A million texts then share their counter with a fourth of those that are not there; ten million, with most.
const mostCounters = 4_194_304
// One that has got there stays: how many texts it counts is not known any more.
const full = 255
// Of a longer text the end: a UUID all but four letters, and what numbers count. Texts that end alike for longer than that
// are told from nothing: then the Map is asked, as without a filter.
const hashedLength = 32

/** Makes an empty one; `all` lists the texts that are there, and is asked when it has to grow. */
export function createCountingFilter(all: () => Iterable<string>): CountingFilter {
  let counters = new Uint8Array(firstCounters)
  let count = 0
  return {
    mayHave: (text) => counters[placeOf(text, counters.length)] !== 0,
    add(text) {
      count += 1
      if (count > counters.length / 2 && counters.length < mostCounters) grow()
      increment(counters, text)
    },
    delete(text) {
      count -= 1
      const place = placeOf(text, counters.length)
      const counted = counters[place] ?? 0
      if (counted > 0 && counted < full) counters[place] = counted - 1
    },
  }

  function grow(): void {
    counters = new Uint8Array(Math.min(counters.length * growth, mostCounters))
    for (const text of all()) increment(counters, text)
  }
}

function increment(counters: Uint8Array, text: string): void {
  const place = placeOf(text, counters.length)
  const counted = counters[place] ?? 0
  if (counted < full) counters[place] = counted + 1
}

/** FNV-1a, mixed once more: of a power of two only the low bits are looked at. */
function placeOf(text: string, counters: number): number {
  let hash = 0x811c_9dc5
  for (let at = Math.max(0, text.length - hashedLength); at < text.length; at += 1)
    hash = Math.imul(hash ^ text.charCodeAt(at), 0x0100_0193)
  hash ^= hash >>> 15
  return hash & (counters - 1)
}
