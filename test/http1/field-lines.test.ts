import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { createLineFormatter, isHopeless, readFieldLines, readList } from '../../src/http1/field-lines.ts'
import type { FieldLimits } from '../../src/http1/limits.ts'

const roomy: FieldLimits = { bytes: 100_000, count: 1000, one: 50_000 }

/** Reads lines that each end in CR LF. */
function read(text: string, limits: FieldLimits = roomy) {
  const lines: string[] = []
  const names: string[] = []
  const problem = readFieldLines('request', text, 0, text.length, limits, lines, names)
  return problem ?? { lines, names }
}

const taken = [
  { sent: '', lines: [], because: 'no line at all' },
  { sent: 'A: b\r\n', lines: ['A', 'b'], because: 'a line' },
  { sent: 'A:b\r\n', lines: ['A', 'b'], because: 'no space after the colon' },
  { sent: 'A: \t b \t\r\n', lines: ['A', 'b'], because: 'white space around a value' },
  { sent: 'A:\r\n', lines: ['A', ''], because: 'an empty value' },
  { sent: 'A: \t \r\n', lines: ['A', ''], because: 'a value of white space' },
  { sent: 'A: b\tc d\r\n', lines: ['A', 'b\tc d'], because: 'white space within a value' },
  { sent: 'A: b:c:\r\n', lines: ['A', 'b:c:'], because: 'colons in a value' },
  { sent: 'A: \x80\xff\r\n', lines: ['A', '\x80\xff'], because: 'obs-text' },
  { sent: 'a: 1\r\nA: 2\r\na: 3\r\n', lines: ['a', '1', 'A', '2', 'a', '3'], because: 'a name repeated' },
  { sent: '__proto__: x\r\n', lines: ['__proto__', 'x'], because: 'a name that objects have' },
  { sent: "!#$%&'*+-.^_`|~09: x\r\n", lines: ["!#$%&'*+-.^_`|~09", 'x'], because: 'every mark a token may hold' },
] as const
for (const { sent, lines, because } of taken) {
  test(`readFieldLines() takes ${JSON.stringify(sent)}: ${because}`, () => {
    const found = read(sent)

    assert.deepEqual(found, { lines, names: lines.filter((_, at) => at % 2 === 0).map((name) => name.toLowerCase()) })
  })
}

const refused = [
  { sent: 'A : b\r\n', because: 'a space before the colon' },
  { sent: 'A\t: b\r\n', because: 'a tab before the colon' },
  { sent: ' A: b\r\n', because: 'a space before the name' },
  { sent: 'A: b\r\n c: d\r\n', because: 'obs-fold' },
  { sent: 'A: b\r\n\tc\r\n', because: 'obs-fold with a tab' },
  { sent: 'A: b\r\n \r\n', because: 'obs-fold of nothing' },
  { sent: ': b\r\n', because: 'an empty name' },
  { sent: 'A\r\n', because: 'no colon' },
  { sent: 'A\r\nB: c\r\n', because: 'the colon of the next line' },
  { sent: '\r\nA: b\r\n', because: 'an empty line before the end' },
  { sent: 'A: b\rc\r\n', because: 'a bare CR' },
  { sent: 'A: b\r\r\n', because: 'a bare CR before the line end' },
  { sent: 'A: b\nC: d\r\n', because: 'a bare LF' },
  { sent: 'A: \nb\r\n', because: 'a bare LF at the begin of a value' },
  { sent: 'A\n: b\r\n', because: 'a bare LF in a name' },
  { sent: 'A: \0\r\n', because: 'NUL' },
  { sent: 'A: \x1b[2J\r\n', because: 'an escape' },
  { sent: 'A: \x7f\r\n', because: 'DEL' },
  { sent: 'A: b\x0b\r\n', because: 'a vertical tab at the end of a value' },
  { sent: 'A\0: b\r\n', because: 'NUL in a name' },
  { sent: 'A\xa0: b\r\n', because: 'obs-text in a name' },
  { sent: 'A(b): c\r\n', because: 'a delimiter in a name' },
  { sent: '"A": b\r\n', because: 'a quoted name' },
] as const
for (const { sent, because } of refused) {
  test(`readFieldLines() refuses ${JSON.stringify(sent)}: ${because}`, () => {
    assert.equal(read(sent), 'malformed')
  })
}

const limits: FieldLimits = { bytes: 40, count: 3, one: 20 }
const limited = [
  { sent: 'A: b\r\n'.repeat(3), kept: true, because: 'as many lines as allowed' },
  { sent: 'A: b\r\n'.repeat(4), kept: false, because: 'a line more' },
  { sent: `Name:${'v'.repeat(16)}\r\n`, kept: true, because: 'a line as long as allowed' },
  { sent: `Name: \t${'v'.repeat(16)} \r\n`, kept: true, because: 'white space does not count' },
  { sent: `Name:${'v'.repeat(17)}\r\n`, kept: false, because: 'a longer line' },
  { sent: `${'n'.repeat(21)}:\r\n`, kept: false, because: 'a longer name' },
  { sent: `A: ${'v'.repeat(15)}\r\n`.repeat(2), kept: true, because: 'as many bytes as allowed' },
  { sent: `A: ${'v'.repeat(15)}\r\nA: ${'v'.repeat(16)}\r\n`, kept: false, because: 'a byte more' },
] as const
for (const { sent, kept, because } of limited) {
  test(`readFieldLines() ${kept ? 'takes' : 'finds too large'} ${JSON.stringify(sent)}: ${because}`, () => {
    const found = read(sent, limits)

    assert.equal(found === 'too_large', !kept)
    assert.notEqual(found, 'malformed')
  })
}

const character = fc.constantFrom(...'Aa0-_.:; \t\r\n\0\x7f\x80\xff"(,\x0b')
const line = fc.oneof(
  { weight: 3, arbitrary: fc.tuple(fc.constantFrom('A', 'host', 'X-Y_z.1'), fc.constantFrom(':', ': ', ':\t')) },
  { weight: 1, arbitrary: fc.tuple(fc.string({ unit: character, maxLength: 6 }), fc.constantFrom(':', ' :', '')) },
)
const text = fc
  .array(fc.tuple(line, fc.string({ unit: character, maxLength: 6 })), { maxLength: 4 })
  .map((lines) => lines.map(([[name, colon], value]) => `${name}${colon}${value}\r\n`).join(''))

test('readFieldLines() takes exactly the lines that fit the grammar (RFC 9110 §5, RFC 9112 §5)', () => {
  const fits = /^[A-Za-z0-9!#$%&'*+.^_`|~-]+:[\t\x20-\x7e\x80-\xff]*$/
  void fc.assert(
    fc.property(text, (sent) => {
      const lines = sent.split('\r\n').slice(0, -1)

      assert.equal(
        read(sent) !== 'malformed',
        lines.every((each) => fits.test(each)),
      )
    }),
    { numRuns: 5000 },
  )
})

test('readFieldLines() reads a name the same after a thousand others, and however it is spelt', () => {
  const before = read('X-Trace-Id: 1\r\nx-tRACE-iD: 2\r\n')
  for (let at = 0; at < 2500; at += 1) read(`X-Other-${at}: x\r\n`)

  const after = read('X-Trace-Id: 1\r\nx-tRACE-iD: 2\r\n')

  assert.deepEqual(after, before)
  assert.deepEqual(before, {
    lines: ['X-Trace-Id', '1', 'x-tRACE-iD', '2'],
    names: ['x-trace-id', 'x-trace-id'],
  })
})

const beginnings = [
  { text: '', hopeless: false },
  { text: 'GET / HTTP/1.1\r\nHost: a', hopeless: false },
  { text: 'GET / HTTP/1.1\r', hopeless: false },
  { text: 'A: \t\x80\xff', hopeless: false },
  { text: '\n', hopeless: true },
  { text: 'a\n', hopeless: true },
  { text: 'a\rb', hopeless: true },
  { text: 'a\r\r', hopeless: true },
  { text: 'a\0', hopeless: true },
  { text: '\x16\x03\x01', hopeless: true },
  { text: 'a\x7f', hopeless: true },
] as const
for (const { text: beginning, hopeless } of beginnings) {
  test(`isHopeless() ${hopeless ? 'gives up' : 'waits for more'} after ${JSON.stringify(beginning)}`, () => {
    assert.equal(isHopeless(beginning), hopeless)
  })
}

const lists = [
  { value: '', members: [] },
  { value: 'close', members: ['close'] },
  { value: 'Keep-Alive', members: ['keep-alive'] },
  { value: 'keep-alive, X-A ,\tUpgrade', members: ['keep-alive', 'x-a', 'upgrade'] },
  { value: ',, a ,,', members: ['a'] },
] as const
for (const { value, members } of lists) {
  test(`readList() finds ${JSON.stringify(members)} in ${JSON.stringify(value)}`, () => {
    assert.deepEqual(readList(value), members)
  })
}

test('readFieldLines() reads a line like the ones before it for what it is, whatever stood there last', () => {
  const names = ['Host', 'Accept', 'User-Agent', 'Content-Length', 'X-Own']
  const line = fc.record({
    name: fc.constantFrom(...names),
    // Nearly the same, so that most of one line is the beginning of another.
    value: fc.constantFrom('a', 'ab', 'a b', 'b', ''),
    ending: fc.constantFrom('\r\n', '\r\n', '\r\n', '\r\n', '\n', ' \r\n', '\r\r\n'),
    colon: fc.constantFrom(': ', ': ', ': ', ':', ' : '),
  })
  void fc.assert(
    fc.property(fc.array(line, { maxLength: 5 }), (lines) => {
      const isGood = lines.every(({ ending, colon }) => /^ ?\r\n$/.test(ending) && !colon.startsWith(' '))
      const text = lines.map(({ name, colon, value, ending }) => `${name}${colon}${value}${ending}`).join('')
      const found = read(text)
      if (!isGood) assert.equal(found, 'malformed')
      else
        assert.deepEqual(found, {
          lines: lines.flatMap(({ name, value }) => [name, value]),
          names: lines.map(({ name }) => name.toLowerCase()),
        })
    }),
    { numRuns: 3000 },
  )
})

test('readFieldLines() finds a line too large that was taken under a larger limit', () => {
  const text = `Accept: ${'a'.repeat(50)}\r\n`
  for (let times = 0; times < 5; times += 1)
    assert.deepEqual(read(text), { lines: ['Accept', 'a'.repeat(50)], names: ['accept'] })

  assert.equal(read(text, { ...roomy, one: 55 }), 'too_large')
})

test('createLineFormatter() writes names and values alternating, whatever it wrote before', () => {
  let known = 0
  const { format, isKnown } = createLineFormatter()
  const name = fc.constantFrom(
    'Server',
    'server',
    'Date',
    'Content-Type',
    'Set-Cookie',
    'X-Auth-Subject',
    'Host',
    '1',
    '__proto__',
  )
  const value = fc.constantFrom('', 'a', 'b', '1024', '__proto__', 'x'.repeat(300))
  const line = fc.tuple(name, value)
  const lists = fc.array(fc.array(line, { maxLength: 70 }), { minLength: 1, maxLength: 20 })
  void fc.assert(
    fc.property(lists, fc.nat(10), (all, times) => {
      for (const each of all) {
        const lines = each.flat()
        const wanted = each.map(([written, said]) => `${written}: ${said}\r\n`).join('')
        for (let count = 0; count <= times; count += 1) assert.equal(format([...lines]), wanted)
        // The very same list, too.
        for (let count = 0; count <= times; count += 1) assert.equal(format(lines), wanted)
        const mayBeKnown = each.every(([written]) => /^(?:server|date|content-type|host)$/i.test(written))
        assert.equal(isKnown(lines) && lines.length > 0, false, 'one that is not frozen is kept')
        Object.freeze(lines)
        for (let count = 0; count <= times; count += 1) assert.equal(format(lines), wanted)
        if (isKnown(lines)) known += 1
        assert.ok(mayBeKnown || !isKnown(lines), wanted)
      }
    }),
    { numRuns: 500 },
  )
  assert.ok(known > 100, `${known} were known`)
})
