// Bytes that come in parts, as the network cuts them.
import * as fc from 'fast-check'

/** Where to cut: shares of the whole. None is no cut. */
export const cuts = fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 6 })

/** Cuts bytes into parts, none of them empty. */
export function cutUp(bytes: Buffer, shares: readonly number[]): readonly Buffer[] {
  const places = [...shares.map((share) => Math.round(share * bytes.length)), bytes.length].sort((a, b) => a - b)
  return places.map((to, at) => bytes.subarray(places[at - 1] ?? 0, to)).filter((part) => part.length > 0)
}

/** Cuts bytes into single ones. */
export function crumble(bytes: Buffer): readonly Buffer[] {
  return Array.from(bytes, (_, at) => bytes.subarray(at, at + 1))
}

/** Reads a head as a connection does: again and again, for as long as it is not whole. */
export function readGrowing<T>(
  parts: readonly Buffer[],
  read: (bytes: Buffer, searched: number) => T | undefined,
): T | undefined {
  let held = Buffer.alloc(0)
  for (const part of parts) {
    const searched = held.length
    held = Buffer.concat([held, part])
    const found = read(held, searched)
    if (found !== undefined) return found
  }
  return undefined
}

/** What an attacker does to a text: characters put in, taken out and put in the place of others, lines twice. */
export function spoilt(texts: fc.Arbitrary<string>): fc.Arbitrary<string> {
  const odd = fc.constantFrom(...'\r\n\0 \t:,;+0x\x7f\x80\x0b', '\r\n', '\n\n', '\r\n\r\n', '\r\n ', 'chunked', '1.0')
  const change = fc.record({ share: fc.double({ min: 0, max: 1, noNaN: true }), taken: fc.nat(3), put: odd })
  return fc.tuple(texts, fc.array(change, { maxLength: 3 })).map(([text, changes]) => {
    let changed = text
    for (const { share, taken, put } of changes) {
      const at = Math.round(share * changed.length)
      changed = changed.slice(0, at) + put + changed.slice(at + taken)
    }
    return changed
  })
}
