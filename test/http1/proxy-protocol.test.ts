import assert from 'node:assert/strict'
import { SocketAddress } from 'node:net'
import { test } from 'node:test'
import fc from 'fast-check'
import { readProxyHeader } from '../../src/http1/proxy-protocol.ts'
import { crc32c, header2, ipv4, tlv, withChecksum } from '../support/proxy-header.ts'

const text = (line: string) => Buffer.from(line, 'latin1')
const ipv6Body = (from: string) => Buffer.from(`${from}${'0'.repeat(32)}3039${'1f90'}`, 'hex')
const longest = `PROXY TCP6 ${'ffff:'.repeat(7)}ffff ${'ffff:'.repeat(7)}ffff 65535 65535\r\n`
const many = (bytes: number) => tlv(0xe0, Buffer.alloc(bytes - 3))

const accepted = [
  { what: 'IPv4', bytes: text('PROXY TCP4 203.0.113.7 127.0.0.1 5 80\r\n'), address: '203.0.113.7' },
  { what: 'IPv6', bytes: text('PROXY TCP6 2001:DB8:0::1 ::1 5 80\r\n'), address: '2001:db8::1' },
  { what: 'the longest line but UNKNOWN', bytes: text(longest), address: 'ffff:'.repeat(8).slice(0, -1) },
  { what: 'UNKNOWN', bytes: text('PROXY UNKNOWN\r\n'), address: undefined },
  { what: 'UNKNOWN of 107 bytes', bytes: text(`PROXY UNKNOWN ${'f'.repeat(91)}\r\n`), address: undefined },
  { what: 'ports 0 and 65535', bytes: text('PROXY TCP4 1.2.3.4 1.2.3.4 0 65535\r\n'), address: '1.2.3.4' },
  { what: 'v2 IPv4', bytes: ipv4([203, 0, 113, 7]), address: '203.0.113.7' },
  {
    what: 'v2 IPv6',
    bytes: header2({ family: 0x21, body: ipv6Body('20010db8000000000000000000000001') }),
    address: '2001:db8::1',
  },
  {
    what: 'v2 IPv4 within IPv6',
    bytes: header2({ family: 0x21, body: ipv6Body('00000000000000000000ffffcb007107') }),
    address: '::ffff:203.0.113.7',
  },
  { what: 'v2 a Unix socket', bytes: header2({ family: 0x31, body: Buffer.alloc(216, 'a') }), address: 'unix:' },
  { what: 'v2 AF_UNSPEC', bytes: header2({ family: 0 }), address: undefined },
  { what: 'v2 LOCAL', bytes: header2({ command: 0x20, family: 0 }), address: undefined },
  {
    what: 'v2 LOCAL with whatever',
    bytes: header2({ command: 0x20, family: 0xff, body: Buffer.alloc(300, 1) }),
    address: undefined,
  },
  {
    what: 'v2 LOCAL with the addresses of the balancer',
    bytes: header2({ command: 0x20, body: Buffer.alloc(12, 1) }),
    address: undefined,
  },
  { what: 'v2 TLVs', bytes: ipv4([1, 2, 3, 4], tlv(1, text('h2')), tlv(4, Buffer.alloc(0))), address: '1.2.3.4' },
  { what: 'v2 of 4096 bytes', bytes: ipv4([1, 2, 3, 4], many(4096 - 28)), address: '1.2.3.4' },
  { what: 'v2 with its checksum', bytes: withChecksum(ipv4([1, 2, 3, 4], tlv(2, text('a')))), address: '1.2.3.4' },
] as const
for (const { what, bytes, address } of accepted) {
  test(`readProxyHeader() reads ${what}, byte by byte, and nothing behind it`, () => {
    for (let length = 0; length < bytes.length; length += 1)
      assert.equal(readProxyHeader(bytes.subarray(0, length)), undefined, `${length} bytes`)

    assert.deepEqual(readProxyHeader(bytes), { address, bytes: bytes.length })
    assert.deepEqual(readProxyHeader(Buffer.concat([bytes, text('GET / HTTP/1.1\r\n')])), {
      address,
      bytes: bytes.length,
    })
  })
}

const v1 = (rest: string) => text(`PROXY ${rest}\r\n`)
const broken = withChecksum(ipv4([1, 2, 3, 4]))
broken.writeUInt8(9, 16)
const refused = [
  { what: 'a request', bytes: text('GET / HTTP/1.1\r\n\r\n') },
  { what: 'a TLS greeting', bytes: Buffer.from('160301', 'hex') },
  { what: 'small letters', bytes: text('proxy TCP4 1.2.3.4 1.2.3.4 1 1\r\n') },
  { what: 'another transport', bytes: v1('UDP4 1.2.3.4 1.2.3.4 1 1') },
  { what: 'an IPv6 address as IPv4', bytes: v1('TCP4 ::1 ::1 1 1') },
  { what: 'an IPv4 address as IPv6', bytes: v1('TCP6 1.2.3.4 1.2.3.4 1 1') },
  { what: 'leading zeros in an address', bytes: v1('TCP4 01.2.3.4 1.2.3.4 1 1') },
  { what: 'an address of three numbers', bytes: v1('TCP4 1.2.3 1.2.3.4 1 1') },
  { what: 'an address with a zone', bytes: v1('TCP6 fe80::1%eth0 ::1 1 1') },
  { what: 'a bad destination', bytes: v1('TCP4 1.2.3.4 1.2.3.456 1 1') },
  { what: 'a port too high', bytes: v1('TCP4 1.2.3.4 1.2.3.4 65536 1') },
  { what: 'leading zeros in a port', bytes: v1('TCP4 1.2.3.4 1.2.3.4 01 1') },
  { what: 'a port too few', bytes: v1('TCP4 1.2.3.4 1.2.3.4 1') },
  { what: 'one word more', bytes: v1('TCP4 1.2.3.4 1.2.3.4 1 1 1') },
  { what: 'two spaces', bytes: v1('TCP4  1.2.3.4 1.2.3.4 1 1') },
  { what: 'a closing space', bytes: v1('TCP4 1.2.3.4 1.2.3.4 1 1 ') },
  { what: 'a tab', bytes: v1('TCP4\t1.2.3.4 1.2.3.4 1 1') },
  { what: 'a line feed alone', bytes: text('PROXY TCP4 1.2.3.4 1.2.3.4 1 1\n') },
  { what: 'a carriage return too many', bytes: text('PROXY TCP4 1.2.3.4 1.2.3.4 1 1\r\r\n') },
  { what: 'a control character after UNKNOWN', bytes: text('PROXY UNKNOWN \x01\r\n') },
  { what: 'UNKNOWNx', bytes: v1('UNKNOWNx') },
  { what: 'a line of 108 bytes', bytes: text(`PROXY UNKNOWN ${'f'.repeat(92)}\r\n`) },
  { what: '107 bytes and no line end', bytes: text(`PROXY UNKNOWN ${'f'.repeat(93)}`) },
  { what: 'version 1 in a header of version 2', bytes: header2({ command: 0x11, body: Buffer.alloc(12) }) },
  { what: 'a command of no meaning', bytes: header2({ command: 0x22, body: Buffer.alloc(12) }) },
  { what: 'a command of no meaning without addresses', bytes: header2({ command: 0x2f, family: 0 }) },
  { what: 'datagrams', bytes: header2({ family: 0x12, body: Buffer.alloc(12) }) },
  { what: 'a family of no meaning', bytes: header2({ family: 0x41, body: Buffer.alloc(12) }) },
  { what: 'a transport of no meaning', bytes: header2({ family: 0x10, body: Buffer.alloc(12) }) },
  { what: 'addresses cut short', bytes: header2({ body: Buffer.alloc(11) }) },
  { what: 'IPv6 addresses cut short', bytes: header2({ family: 0x21, body: Buffer.alloc(35) }) },
  { what: 'a TLV cut short', bytes: ipv4([1, 2, 3, 4], Buffer.from([1, 0])) },
  { what: 'a TLV longer than the header', bytes: ipv4([1, 2, 3, 4], Buffer.from([1, 0, 2, 0])) },
  { what: 'a length of 4097 bytes, told at once', bytes: header2({ length: 4081 }) },
  { what: 'a checksum that is wrong', bytes: broken },
  { what: 'a checksum of three bytes', bytes: ipv4([1, 2, 3, 4], tlv(3, Buffer.alloc(3))) },
] as const
for (const { what, bytes } of refused) {
  test(`readProxyHeader() refuses ${what}`, () => {
    assert.equal(readProxyHeader(bytes), 'malformed')
  })
}

test('readProxyHeader() never throws, never takes garbage, and never waits for ever', () => {
  const anything = fc.oneof(
    fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes)),
    fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.concat([text('PROXY '), bytes])),
    fc.string({ unit: 'grapheme-ascii', maxLength: 120 }).map((line) => text(`PROXY ${line}\r\n`)),
    fc
      .record({
        command: fc.constantFrom(0x20, 0x21, 0x22),
        family: fc.integer({ min: 0, max: 255 }),
        body: fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes)),
      })
      .map(header2),
  )
  fc.assert(
    fc.property(anything, (bytes) => {
      const read = readProxyHeader(bytes)
      if (read === 'malformed') return
      const isSecond = bytes.length > 0 && bytes[0] === 0x0d
      if (read === undefined) {
        assert.ok(bytes.length < (isSecond ? 4096 : 107))
        return
      }
      assert.ok(read.bytes <= bytes.length && read.bytes <= (isSecond ? 4096 : 107))
      if (isSecond) assert.equal(bytes.subarray(0, 12).toString('latin1'), '\r\n\r\n\0\r\nQUIT\n')
      else assert.match(bytes.toString('latin1', 0, read.bytes), /^PROXY (?:UNKNOWN|TCP[46] [^\r\n]+)[ -~]*\r\n$/)
      // Less of it is no header, and more of it is the same one.
      assert.equal(readProxyHeader(bytes.subarray(0, read.bytes - 1)), undefined)
      assert.deepEqual(readProxyHeader(bytes.subarray(0, read.bytes)), read)
    }),
    { numRuns: 5000 },
  )
})

test('readProxyHeader() reads the address that was written, in either version', () => {
  const port = fc.integer({ min: 0, max: 65_535 })
  fc.assert(
    fc.property(fc.ipV4(), port, port, (address, from, to) => {
      const numbers = address.split('.').map(Number)
      const line = text(`PROXY TCP4 ${address} 127.0.0.1 ${from} ${to}\r\n`)
      assert.deepEqual(readProxyHeader(line), { address, bytes: line.length })
      assert.deepEqual(readProxyHeader(ipv4(numbers)), { address, bytes: 28 })
    }),
  )
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 16, maxLength: 16 }), (bytes) => {
      const read = readProxyHeader(header2({ family: 0x21, body: ipv6Body(Buffer.from(bytes).toString('hex')) }))
      assert.ok(typeof read === 'object' && read.address !== undefined)
      const line = text(`PROXY TCP6 ${read.address} ::1 1 1\r\n`)
      assert.deepEqual(readProxyHeader(line), { address: read.address, bytes: line.length })
      const full = Array.from({ length: 8 }, (_, at) => Buffer.from(bytes).toString('hex', at * 2, at * 2 + 2))
      assert.equal(new SocketAddress({ address: full.join(':'), family: 'ipv6' }).address, read.address)
    }),
  )
})

test('the checksum these tests write is CRC-32C', () => {
  assert.equal(crc32c(text('123456789')).toString(16), 'e3069283')
})
