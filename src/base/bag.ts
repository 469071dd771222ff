// A set of what lives shortly. A `Set` or a `Map` makes a new table for every few entries that came and went, and V8 makes
// it where things live long, once the first has lived: each table left behind keeps what it held until a long collection
// of garbage. With connections in it that was most of what a broken connection cost.

/** Something that can be in a bag, and in one at a time. */
export type Bagged = {
  /** Where in its bag it is; undefined while it is in none. The bag's own. */
  slot?: number | undefined
}

/** Things in no order, each once. */
export type Bag<T extends Bagged> = {
  readonly size: () => number
  /** Throws a TypeError for what is in another bag. */
  readonly add: (item: T) => void
  readonly has: (item: T) => boolean
  /** @returns Whether it was there. */
  readonly delete: (item: T) => boolean
  /** All that are there now; what comes and goes meanwhile does not change it. */
  readonly all: () => readonly T[]
}

/** Makes an empty bag. */
export function createBag<T extends Bagged>(): Bag<T> {
  const items: T[] = []
  return { size: () => items.length, add, has, delete: remove, all: () => items.slice() }

  function has(item: T): boolean {
    return item.slot !== undefined && items[item.slot] === item
  }

  function add(item: T): void {
    if (has(item)) return
    if (item.slot !== undefined) throw new TypeError('Cannot add: it is in another bag')
    item.slot = items.length
    items.push(item)
  }

  function remove(item: T): boolean {
    if (item.slot === undefined || !has(item)) return false
    const last = items.pop()
    if (last !== undefined && last !== item) {
      items[item.slot] = last
      last.slot = item.slot
    }
    item.slot = undefined
    return true
  }
}
