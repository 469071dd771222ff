// Headers of the PROXY protocol, version 2, as a balancer would write them.

const signature = Buffer.from('0d0a0d0a000d0a515549540a', 'hex')

/** The parts of a header; the length is that of its body unless told otherwise. */
export type HeaderParts = {
  readonly command?: number
  readonly family?: number
  readonly body?: Buffer
  readonly length?: number
}

/** Puts a header of version 2 together. */
export function header2({ command = 0x21, family = 0x11, body = Buffer.alloc(0), length }: HeaderParts): Buffer {
  const head = Buffer.from([command, family, 0, 0])
  head.writeUInt16BE(length ?? body.length, 2)
  return Buffer.concat([signature, head, body])
}

/** Source and destination over TCP by IPv4, then TLVs. */
export function ipv4(from: readonly number[], ...tlvs: readonly Buffer[]): Buffer {
  return header2({ body: Buffer.concat([Buffer.from([...from, 127, 0, 0, 1, 0x30, 0x39, 0x1f, 0x90]), ...tlvs]) })
}

/** One TLV. */
export function tlv(type: number, value: Buffer): Buffer {
  const head = Buffer.from([type, 0, 0])
  head.writeUInt16BE(value.length, 1)
  return Buffer.concat([head, value])
}

/** With the checksum that an independent table-driven CRC-32C gives, as the last TLV. */
export function withChecksum(header: Buffer): Buffer {
  const length = header.length - 16 + 7
  const whole = Buffer.concat([header, tlv(0x03, Buffer.alloc(4))])
  whole.writeUInt16BE(length, 14)
  whole.writeUInt32BE(crc32c(whole), whole.length - 4)
  return whole
}

const table = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte
  for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? 0x82f63b78 ^ (value >>> 1) : value >>> 1
  return value >>> 0
})

/** CRC-32C; of "123456789" it is e3069283. */
export function crc32c(bytes: Buffer): number {
  let crc = 0xffffffff
  for (const byte of bytes) crc = (table[(crc ^ byte) & 0xff] ?? 0) ^ (crc >>> 8)
  return (crc ^ 0xffffffff) >>> 0
}
