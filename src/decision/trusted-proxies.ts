// Whose word about the client is taken: whoever is believed may say who is asking, from where, and whether by https.
import * as z from 'zod'
import { list } from '../base/list.ts'
import { unixAddress } from '../base/unix-address.ts'

const address = z.union([z.ipv4(), z.ipv6(), z.cidrv4(), z.cidrv6()])

const entry = z
  .string()
  .refine((text) => text === unixAddress || (address.safeParse(text).success && !/\/0+$|^::ffff:/i.test(text)), {
    error: 'expected an address or a block like 10.0.0.0/8, not every address there is, or unix:',
    abort: true,
  })
  .check((context) => {
    const block = blockOf(context.value)
    if (block === undefined || block.written === block.first) return
    // One address may have been meant as well as all of them.
    const message = `expected a block that begins where it says, perhaps ${block.begins}, or an address without /`
    context.issues.push({ code: 'custom', message, input: context.value })
  })

/** Peers whose word about the client is taken. */
export const trustedProxiesOptions = list(entry)
  .max(1000)
  .refine((entries) => !areEverybody(entries), {
    error: 'every address there is is in it: whoever connects would be believed',
  })
  .prefault([])
  .describe(
    'Addresses and blocks whose X-Forwarded-*, Forwarded, Via, X-Real-IP and Client-Cert are believed; `unix:` for whoever connects to a Unix socket.',
  )

/** Addresses as numbers of IPv6, where those of IPv4 stand at `::ffff:0:0` (RFC 4291 §2.5.5.2), as Node compares the two. */
type Block = {
  readonly written: bigint
  readonly first: bigint
  readonly last: bigint
  /** How it is written. */
  readonly begins: string
}

const mapped = 0xffff_0000_0000n
// Those that anybody can have: RFC 1122 §3.2.1.3 keeps the first block of IPv4, RFC 1112 §4 and on those from 224; RFC 4291 §2.4.
const everybody: readonly Pick<Block, 'first' | 'last'>[] = [
  { first: mapped + 0x0100_0000n, last: mapped + 0xdfff_ffffn },
  { first: 0x2000n << 112n, last: (0x4000n << 112n) - 1n },
]

function areEverybody(entries: readonly string[]): boolean {
  const blocks = entries.flatMap((text) => blockOf(text) ?? [])
  const sorted = blocks.sort((a, b) => (a.first < b.first ? -1 : 1))
  return everybody.some(({ first, last }) => {
    let next = first
    for (const block of sorted) if (block.first <= next && block.last >= next) next = block.last + 1n
    return next > last
  })
}

/** Undefined for what is neither address nor block, as `unix:`. */
function blockOf(text: string): Block | undefined {
  if (!address.safeParse(text).success) return undefined
  const [host = '', bits] = text.split('/')
  const isIpv4 = !host.includes(':')
  const hostname = URL.parse(isIpv4 ? `http://${host}` : `http://[${host}]`)?.hostname
  if (hostname === undefined) return undefined
  const written = isIpv4 ? mapped + numberOf(hostname.split('.'), 10, 8n) : numberOf(groupsOf(hostname), 16, 16n)
  const free = BigInt((isIpv4 ? 32 : 128) - Number(bits ?? (isIpv4 ? 32 : 128)))
  const first = (written >> free) << free
  return { written, first, last: first + (1n << free) - 1n, begins: `${format(first, isIpv4)}/${bits}` }
}

/** The eight groups of an IPv6 address in brackets. */
function groupsOf(hostname: string): readonly string[] {
  const [before = '', after] = hostname.slice(1, -1).split('::')
  const groups = (text: string) => text.split(':').filter((group) => group !== '')
  const [head, tail] = [groups(before), groups(after ?? '')]
  return [...head, ...Array.from({ length: 8 - head.length - tail.length }, () => '0'), ...tail]
}

function numberOf(parts: readonly string[], base: 10 | 16, bits: bigint): bigint {
  return parts.reduce((sum, part) => (sum << bits) | BigInt(Number.parseInt(part, base)), 0n)
}

function format(number: bigint, isIpv4: boolean): string {
  const parts = (count: number, bits: bigint) =>
    Array.from({ length: count }, (_, at) => (number >> (BigInt(count - 1 - at) * bits)) & ((1n << bits) - 1n))
  if (isIpv4) return parts(4, 8n).join('.')
  const groups = parts(8, 16n).map((part) => part.toString(16))
  return URL.parse(`http://[${groups.join(':')}]`)?.hostname.slice(1, -1) ?? groups.join(':')
}
