// Bytes looked through four at a time: for a token an expression takes four times as long, and comparing a head as text
// ten times as long.
import { areShared, sharedWords } from './lent-reads.ts'

let viewed: ArrayBufferLike | undefined
let viewedWords: Int32Array = new Int32Array(0)

/** All of the memory that bytes are in. What is read nearly always comes to the same place. */
function wordsOf(bytes: Buffer): Int32Array {
  // Asking bytes for their buffer is a call into the engine.
  if (areShared(bytes)) return sharedWords
  const { buffer } = bytes
  if (buffer !== viewed) {
    viewed = buffer
    viewedWords = new Int32Array(buffer, 0, buffer.byteLength >> 2)
  }
  return viewedWords
}

/** What bytes may begin with. */
export type Beginning = { readonly bytes: Buffer; readonly words: Int32Array }

/** Copies bytes that others are to be compared with. */
export function copyBeginning(text: string): Beginning {
  const bytes = Buffer.allocUnsafeSlow(text.length)
  bytes.write(text, 'latin1')
  return { bytes, words: new Int32Array(bytes.buffer, 0, bytes.length >> 2) }
}

/** Whether bytes begin so. May say no where they do, if they do not begin at a word: whoever has to know looks closer. */
export function beginWith(bytes: Buffer, { bytes: wanted, words: wantedWords }: Beginning): boolean {
  if (bytes.length < wanted.length || bytes.byteOffset % 4 !== 0) return false
  const words = wordsOf(bytes)
  const begin = bytes.byteOffset >> 2
  for (let at = 0; at < wantedWords.length; at += 1) if (words[begin + at] !== wantedWords[at]) return false
  for (let at = wantedWords.length * 4; at < wanted.length; at += 1) if (bytes[at] !== wanted[at]) return false
  return true
}

/**
 * Whether all bytes of a part are visible ASCII characters or spaces (RFC 9110 §5.5, without the tab and obs-text). A no
 * may be one of those: whoever has to know looks closer.
 */
export function arePlain(bytes: Buffer, from: number, to: number): boolean {
  const words = wordsOf(bytes)
  const begin = bytes.byteOffset + from
  const end = bytes.byteOffset + to
  const firstWord = Math.min((begin + 3) >> 2, end >> 2)
  const lastWord = end >> 2
  let found = 0
  for (let at = firstWord; at < lastWord; at += 1) {
    const word = words[at] ?? 0
    // The highest bit of a byte is set where it is below 0x20, where it is 0x7f, or where it was set; a borrow only ever
    // sets one behind such a byte, and a carry only comes from one above ASCII.
    found |= (word - 0x20202020) | (word + 0x01010101) | word
  }
  return (
    (found & 0x80808080) === 0 &&
    areAllPlain(bytes, from, firstWord * 4 - bytes.byteOffset) &&
    areAllPlain(bytes, Math.max(from, lastWord * 4 - bytes.byteOffset), to)
  )
}

function areAllPlain(bytes: Buffer, from: number, to: number): boolean {
  for (let at = from; at < to; at += 1) {
    const byte = bytes[at] ?? 0
    if (byte < 0x20 || byte >= 0x7f) return false
  }
  return true
}
