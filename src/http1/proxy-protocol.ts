// The PROXY protocol, versions 1 and 2 (proxy-protocol.txt of HAProxy): what a balancer says of a client, before the
// client's own first byte.
import { isIPv4, isIPv6, SocketAddress } from 'node:net'
import { unixAddress } from '../base/unix-address.ts'

/** A whole header. */
export type ProxyHeader = {
  /**
   * The client's address; `unix:` for one on a Unix socket; undefined where the connection is the balancer's own (LOCAL),
   * or it does not know (UNKNOWN, AF_UNSPEC).
   */
  readonly address: string | undefined
  /** How long it is. */
  readonly bytes: number
}

const signature1 = Buffer.from('PROXY ')
const signature2 = Buffer.from('\r\n\r\n\0\r\nQUIT\n')
// Version 1 has it so; version 2 could have 64 KiB, and a balancer sends a few hundred bytes.
const maxBytes1 = 107
const maxBytes2 = 4096
const headBytes2 = 16
const line1 = /^PROXY TCP([46]) ([0-9A-Fa-f.:]{2,39}) ([0-9A-Fa-f.:]{2,39}) (0|[1-9]\d{0,4}) (0|[1-9]\d{0,4})\r\n$/
const unknown1 = /^PROXY UNKNOWN(?: [ -~]*)?\r\n$/
// Family and transport of version 2, and how long its addresses are. There are no datagrams here.
const families2: ReadonlyMap<number, { readonly family: 'none' | 'ipv4' | 'ipv6' | 'unix'; readonly bytes: number }> =
  new Map([
    [0x00, { family: 'none', bytes: 0 }],
    [0x11, { family: 'ipv4', bytes: 12 }],
    [0x21, { family: 'ipv6', bytes: 36 }],
    [0x31, { family: 'unix', bytes: 216 }],
  ])
const crc32cType = 0x03

/**
 * Reads the header that a connection must begin with.
 *
 * @returns The header; `malformed` for what is none, told as soon as it is certain; undefined while it is not whole.
 */
export function readProxyHeader(bytes: Buffer): ProxyHeader | 'malformed' | undefined {
  if (begins(bytes, signature2)) return bytes.length < headBytes2 ? undefined : read2(bytes)
  if (begins(bytes, signature1)) return read1(bytes)
  return 'malformed'
}

/** Whether bytes begin as these do, as far as they go. */
function begins(bytes: Buffer, signature: Buffer): boolean {
  const length = Math.min(bytes.length, signature.length)
  return bytes.subarray(0, length).equals(signature.subarray(0, length))
}

function read1(bytes: Buffer): ProxyHeader | 'malformed' | undefined {
  const end = bytes.subarray(0, maxBytes1).indexOf('\n')
  if (end === -1) return bytes.length < maxBytes1 ? undefined : 'malformed'
  const line = bytes.toString('latin1', 0, end + 1)
  if (unknown1.test(line)) return { address: undefined, bytes: end + 1 }
  const [, family, from = '', to = '', ...ports] = line1.exec(line) ?? []
  const isAddress = family === '4' ? isIPv4 : isIPv6
  if (family === undefined || !isAddress(from) || !isAddress(to) || ports.some((port) => Number(port) > 65_535))
    return 'malformed'
  return { address: family === '4' ? from : canonical(from), bytes: end + 1 }
}

function read2(bytes: Buffer): ProxyHeader | 'malformed' | undefined {
  const command = bytes[12]
  const length = headBytes2 + bytes.readUInt16BE(14)
  if ((command !== 0x20 && command !== 0x21) || length > maxBytes2) return 'malformed'
  const isLocal = command === 0x20
  const known = families2.get(bytes[13] ?? 0)
  if (!isLocal && (known === undefined || length < headBytes2 + known.bytes)) return 'malformed'
  if (bytes.length < length) return undefined
  // What a LOCAL one holds besides is not looked at.
  if (isLocal || known === undefined) return { address: undefined, bytes: length }
  const header = bytes.subarray(0, length)
  if (!areGood(header, headBytes2 + known.bytes)) return 'malformed'
  return { address: addressOf(header, known.family), bytes: length }
}

function addressOf(header: Buffer, family: 'none' | 'ipv4' | 'ipv6' | 'unix'): string | undefined {
  switch (family) {
    case 'none':
      return undefined
    case 'unix':
      return unixAddress
    case 'ipv4':
      return [...header.subarray(headBytes2, headBytes2 + 4)].join('.')
    case 'ipv6': {
      const groups = Array.from({ length: 8 }, (_, at) => header.readUInt16BE(headBytes2 + at * 2).toString(16))
      return canonical(groups.join(':'))
    }
  }
}

/** The one spelling that everybody uses (RFC 5952). */
function canonical(address: string): string {
  return new SocketAddress({ address, family: 'ipv6' }).address
}

/** Whether what follows the addresses is a list of type, length and value, and a checksum among them is right. */
function areGood(header: Buffer, from: number): boolean {
  let at = from
  while (at < header.length) {
    if (header.length - at < 3) return false
    const next = at + 3 + header.readUInt16BE(at + 1)
    if (next > header.length) return false
    if (header[at] === crc32cType && !(next === at + 7 && isChecksum(header, at + 3))) return false
    at = next
  }
  return true
}

/** CRC-32C of the header, with its own four bytes as zeros. */
function isChecksum(header: Buffer, at: number): boolean {
  let crc = 0xffff_ffff
  for (let index = 0; index < header.length; index += 1) {
    crc ^= index >= at && index < at + 4 ? 0 : (header[index] ?? 0)
    for (let bit = 0; bit < 8; bit += 1) crc = (crc >>> 1) ^ (crc & 1 ? 0x82f6_3b78 : 0)
  }
  return ~crc >>> 0 === header.readUInt32BE(at)
}
