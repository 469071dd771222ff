// RFC 4648 §5, canonical only: no padding, no foreign characters, no stray bits in the last character.

const value = new Int8Array(128).fill(-1)
for (const [at, char] of [...'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'].entries()) {
  value[char.charCodeAt(0)] = at
}

/**
 * Decodes base64url, refusing every spelling but the one an encoder writes (RFC 7515 §2, RFC 4648 §3.5).
 * Two spellings of one byte string would be two names for one token.
 *
 * @returns The bytes, or undefined when the text is not canonical base64url.
 */
export function decodeBase64url(text: string): Buffer | undefined {
  const length = text.length
  const tail = length & 3
  if (tail === 1) return undefined
  for (let at = 0; at < length; at += 1) {
    const code = text.charCodeAt(at)
    if (code > 127 || (value[code] as number) < 0) return undefined // in range: code ≤ 127
  }
  if (tail !== 0) {
    const last = value[text.charCodeAt(length - 1)] as number // in range: checked in the loop
    if ((last & (tail === 2 ? 15 : 3)) !== 0) return undefined
  }
  return Buffer.from(text, 'base64url')
}

/** Encodes bytes, or the UTF-8 of a string, as base64url without padding. */
export function encodeBase64url(bytes: Uint8Array | string): string {
  return (typeof bytes === 'string' ? Buffer.from(bytes, 'utf8') : Buffer.from(bytes)).toString('base64url')
}
