// Requests that are good, and what an attacker would make of them. A message carries its number in the target.
import type { Random } from '../support/random.ts'

/** Makes the next message, one to three requests of it, mostly changed in one to three places. */
export function makeMessage(random: Random, number: number): string {
  let text = makeRequest(random, number)
  if (random.oneIn(6)) text += makeRequest(random, number)
  if (random.oneIn(12)) text += makeRequest(random, number)
  // Some stay good: that they pass is the other half of the test.
  if (random.oneIn(4)) return text
  for (let changes = 1 + random.below(3); changes > 0; changes -= 1) text = mutate(random, text)
  return text
}

const methods = ['GET', 'GET', 'GET', 'POST', 'POST', 'PUT', 'DELETE', 'HEAD', 'OPTIONS', 'PATCH', 'REPORT', 'QUERY']
const plainLines = [
  'Accept: */*',
  'User-Agent: fuzz/1.0 (a; b) c',
  'X-Pass: one',
  'X-Pass: two, three',
  'X-Pass:no space',
  'X-Pass:\ttab\t ',
  'X-Pass:',
  'X-Pass: caf\xe9 \xff',
  'Cookie: a=b; c="d"',
  'Accept-Encoding: gzip, deflate',
  'Connection: keep-alive',
  'Connection: x-other',
  'Content-Type: text/plain',
  'Cache-Control: no-cache',
  'Via: 1.0 fred',
  'If-None-Match: "xyzzy"',
] as const
const oddLines = [
  'Connection: close',
  'Connection: x-pass',
  'Connection: X-Forwarded-For, Host',
  'Connection: close, close',
  'Connection: Upgrade\r\nUpgrade: websocket',
  'Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\nConnection: Upgrade, HTTP2-Settings',
  'TE: trailers',
  'Keep-Alive: timeout=5',
  'Proxy-Connection: keep-alive',
  'Trailer: X-End',
  'X-Forwarded-For: 6.6.6.6',
  'x_forwarded_for: 6.6.6.6',
  'X-Forwarded-Proto: https',
  'x-auth-subject: attacker',
  'X_Auth_Subject: attacker',
  'x.auth.subject: attacker',
  'Authorization: Basic eDp5',
  'Authorization: Bearer nonsense',
  '__proto__: x',
  'constructor: y',
  'X-Original-URL: /orders/1',
] as const
const framings = [
  'Content-Length: 5',
  'Content-Length: 05',
  'Content-Length: +5',
  'Content-Length: -5',
  'Content-Length: 5, 5',
  'Content-Length: 5 5',
  'Content-Length: 0x5',
  'Content-Length: 5.0',
  'Content-Length: 5e0',
  'Content-Length: "5"',
  'Content-Length:',
  'Content-Length: ',
  'Content-Length: 0',
  'Content-Length: 18446744073709551621',
  'Content-Length: 5;a',
  'content-length:5',
  'CONTENT-LENGTH: 5 ',
  'Content-Length : 5',
  'Content_Length: 5',
  'Content-Length\t: 5',
  'Transfer-Encoding: chunked',
  'Transfer-Encoding: Chunked',
  'Transfer-Encoding:chunked ',
  'Transfer-Encoding: \tchunked',
  'Transfer-Encoding: chunked, chunked',
  'Transfer-Encoding: ,chunked',
  'Transfer-Encoding: chunked,',
  'Transfer-Encoding: gzip, chunked',
  'Transfer-Encoding: chunked, identity',
  'Transfer-Encoding: identity',
  'Transfer-Encoding: xchunked',
  'Transfer-Encoding: chunkedchunked',
  'Transfer-Encoding: "chunked"',
  'Transfer-Encoding: chunked;a=b',
  'Transfer-Encoding:',
  'Transfer-Encoding : chunked',
  'Transfer-Encoding\x0b: chunked',
  'Transfer-Encoding: \x0bchunked',
  'Transfer-Encoding: chun\x00ked',
  'Transfer-Encoding: chunked\r\n ',
  'Transfer-Encoding:\r\n chunked',
  ' Transfer-Encoding: chunked',
  'X: y\rTransfer-Encoding: chunked',
  'X: y\nTransfer-Encoding: chunked',
  'Host: b.test',
  'Host: a.test',
  'Host:',
  'host: a.test, b.test',
  'Host: a.test@b.test',
  'Host: a.test/b',
  'Expect: 100-continue',
  'Expect: 100-Continue, x',
  ': no name',
  'no colon',
  'X-Sp ace: 1',
  'X-\xe9: 1',
  'X-Del: \x7f',
  'X-Nul: \x00',
  'X-Esc: \x1b[0m',
] as const
const targets = [
  '/open/a',
  '/open/a',
  '/open/a',
  '/open/a-b_c~d',
  '/orders/7',
  '/orders/7',
  '/open/%7e',
  '/open/a.b',
  'http://a.test/open/a',
  'HTTP://A.test:80/open/a',
  'http://b.test/open/a',
] as const

function makeRequest(random: Random, number: number): string {
  const method = random.pick(methods)
  const version = random.oneIn(12) ? '1.0' : '1.1'
  const lines = ['Host: a.test']
  for (let count = random.below(4); count > 0; count -= 1) lines.push(random.pick(plainLines))
  if (random.oneIn(4)) lines.push(random.pick(oddLines))
  let body = ''
  if (/^(?:POST|PUT|PATCH|QUERY)$/.test(method)) {
    if (version === '1.1' && random.oneIn(2)) {
      lines.push('Transfer-Encoding: chunked')
      body = makeChunks(random)
    } else {
      body = random.pick(['', 'x', 'hello', 'GET / HTTP/1.1\r\n\r\n', 'x'.repeat(random.below(600))])
      lines.push(`Content-Length: ${body.length}`)
    }
  }
  // Not always first: a reader must not count on it.
  if (lines.length > 1 && random.oneIn(4)) lines.push(lines.shift() ?? '')
  return `${method} ${random.pick(targets)}?n=${number} HTTP/${version}\r\n${lines.map((line) => `${line}\r\n`).join('')}\r\n${body}`
}

function makeChunks(random: Random): string {
  let text = ''
  for (let count = random.below(4); count > 0; count -= 1) {
    const data = random.pick(['a', 'hello', '\r\n', '0\r\n\r\n', 'x'.repeat(1 + random.below(300))])
    const hex = random.pick([
      data.length.toString(16),
      data.length.toString(16).toUpperCase(),
      `0${data.length.toString(16)}`,
    ])
    const extension = random.oneIn(4) ? random.pick([';a', ';a=b', ';a="b c"', ';a;b=c', ';a="\\""']) : ''
    text += `${hex}${extension}\r\n${data}\r\n`
  }
  const last = random.oneIn(6) ? random.pick(['000', '0;a=b', '0000000']) : '0'
  const trailers = random.oneIn(6)
    ? random.pick(['X-End: 1\r\n', 'X-End:\r\nX-Sum: a b\r\n', 'Content-Length: 3\r\n'])
    : ''
  return `${text}${last}\r\n${trailers}\r\n`
}

const bytes = [
  '\r',
  '\n',
  '\r\n',
  '\r\n\r\n',
  '\n\n',
  ' ',
  '\t',
  '\0',
  '\x0b',
  '\x0c',
  '\x7f',
  '\x80',
  '\xa0',
  '\xff',
  ':',
  ';',
  ',',
  '"',
  '\\',
  '0',
  '1',
  'f',
  '-',
  '+',
  '#',
  '/',
  '.',
  '%2f',
  '_',
]

const mutations: readonly ((random: Random, text: string) => string)[] = [
  insertBytes,
  insertBytes,
  (random, text) => splice(text, random.below(text.length), 1 + (random.oneIn(4) ? random.below(8) : 0), ''),
  (random, text) => splice(text, random.below(text.length), 1, random.pick(bytes)),
  (random, text) => splice(text, random.below(text.length), 1, String.fromCharCode(random.below(256))),
  flipBit,
  inLines((random, lines) => void lines.splice(1 + random.below(lines.length), 0, random.pick(framings))),
  inLines((random, lines) => void lines.splice(1 + random.below(lines.length), 0, random.pick(framings))),
  inLines((random, lines) => void lines.splice(1 + random.below(lines.length), 0, random.pick(oddLines))),
  inLines((random, lines) => void lines.splice(1 + random.below(lines.length), 1, random.pick(framings))),
  inLines((random, lines) => void lines.push(lines[1 + random.below(lines.length)] ?? 'X: y')),
  inLines((random, lines) => void lines.splice(random.below(lines.length), 1)),
  inLines((random, lines) => void lines.reverse().splice(random.below(lines.length), 0, 'X: y')),
  inLines(changeCase),
  inLines(grow),
  inLines((random, lines) => void lines.splice(0, 1, makeStartLine(random, lines[0] ?? ''))),
  inLineEnds,
  inChunkSizes,
  inChunkSizes,
  (random, text) => text.slice(0, random.below(text.length)),
  (random, text) => text.slice(random.below(Math.min(40, text.length))),
  (random, text) => random.pick(['\r\n', '\r\n\r\n', '\n', ' ', '\0', 'x']) + text,
  (random, text) => text + random.pick(['\r\n', '\r\n\r\n', '\n', ' ', 'GET ', 'x', '0\r\n\r\n']),
]

function mutate(random: Random, text: string): string {
  return text === '' ? text : random.pick(mutations)(random, text)
}

function splice(text: string, at: number, without: number, piece: string): string {
  return text.slice(0, at) + piece + text.slice(at + without)
}

function insertBytes(random: Random, text: string): string {
  return splice(text, random.below(text.length + 1), 0, random.pick(bytes))
}

function flipBit(random: Random, text: string): string {
  const at = random.below(text.length)
  return splice(text, at, 1, String.fromCharCode(text.charCodeAt(at) ^ (1 << random.below(8))))
}

/** A change to the lines of the first head. */
function inLines(change: (random: Random, lines: string[]) => void): (random: Random, text: string) => string {
  return (random, text) => {
    const end = text.indexOf('\r\n\r\n')
    if (end === -1) return text
    const lines = text.slice(0, end).split('\r\n')
    change(random, lines)
    return lines.join('\r\n') + text.slice(end)
  }
}

function changeCase(random: Random, lines: string[]): void {
  const at = random.below(lines.length)
  const line = lines[at] ?? ''
  // Of ASCII alone: the upper case of other bytes is no byte.
  lines[at] = random.oneIn(2)
    ? line.replace(/[A-Z]+/g, (letters) => letters.toLowerCase())
    : line.replace(/[a-z]+/g, (letters) => letters.toUpperCase())
}

function grow(random: Random, lines: string[]): void {
  const at = 1 + random.below(lines.length)
  const kind = random.below(4)
  if (kind === 0) lines.splice(at, 0, `X-Long: ${'a'.repeat(random.pick([11_000, 12_000, 13_000, 17_000, 40_000]))}`)
  else if (kind === 1)
    lines.splice(at, 0, ...Array.from({ length: random.pick([80, 95, 101, 150]) }, () => 'X-Many: 1'))
  else if (kind === 2)
    lines[0] = (lines[0] ?? '').replace('?n=', `?${'a'.repeat(random.pick([7000, 8100, 8300, 9000]))}&n=`)
  else lines.splice(at, 0, `X-${'a'.repeat(random.pick([60, 300, 5000]))}: 1`)
}

function makeStartLine(random: Random, line: string): string {
  const [method = '', target = '', version = ''] = line.split(' ')
  switch (random.below(4)) {
    case 0:
      return `${random.pick(['get', 'CONNECT', 'TRACE', 'G(T', 'X', 'MKCOLA', '', 'GET\t', 'PRI', 'trace', 'A'.repeat(40)])} ${target} ${version}`
    case 1:
      return `${method} ${target} ${random.pick(['HTTP/1.2', 'HTTP/1.10', 'HTTP/0.9', 'HTTP/2.0', 'http/1.1', 'HTTP/1.1 ', 'HTTP/11', 'HTTP/1,1', 'RTSP/1.0', 'ICE/1.0', ''])}`
    case 2:
      return `${method} ${random.pick(['*', '', '/', 'open/a', '//a.test/open/a', '/open/../orders/7', '/open/a#b', '/open/\xe9', 'a.test:80', 'ftp://a.test/open/a', '/open/a?\x7f', '/open/ a', '/open/%zz', '/open/a?#'])} ${version}`
    default:
      return line.replace(' ', random.pick(['  ', '\t', '\x0b', ' \t', '\r', '']))
  }
}

/** One line end of the head, or of the chunks, becomes another. */
function inLineEnds(random: Random, text: string): string {
  const ends = [...text.matchAll(/\r\n/g)].map(({ index }) => index)
  if (ends.length === 0) return text
  return splice(
    text,
    random.pick(ends),
    2,
    random.pick(['\n', '\r', '\n\r', '\r\r\n', '\r\n ', '\r\n\t', '\r\n\r\n', '', '\0\r\n']),
  )
}

/** One line that looks like the size of a chunk becomes another. */
function inChunkSizes(random: Random, text: string): string {
  const sizes = [...text.matchAll(/\r\n([0-9a-fA-F]+)(?=[\r;])/g)]
  if (sizes.length === 0) return text
  const found = random.pick(sizes)
  const hex = found[1] ?? ''
  const other = random.pick([
    `${hex} `,
    ` ${hex}`,
    `+${hex}`,
    `-${hex}`,
    `0x${hex}`,
    `${hex}h`,
    `${hex}.0`,
    `${hex}_`,
    '',
    'g',
    `1${'0'.repeat(15)}${hex}`,
    `${'0'.repeat(16)}${hex}`,
    'ffffffffffffffff',
    (Number.parseInt(hex, 16) + 1).toString(16),
    `${hex};`,
    `${hex};a=`,
    `${hex};a="`,
    `${hex} ;a`,
    `${hex}; a`,
    `${hex};a=\x00`,
    `${hex};a=b\n`,
    `${hex};${'a'.repeat(random.pick([100, 240, 300, 20_000]))}`,
  ])
  return splice(text, found.index + 2, hex.length, other)
}
