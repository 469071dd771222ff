import assert from 'node:assert/strict'
import { testVectors } from '../acceptance/vectors.ts'
import { readRequest } from '../support/strict-reader.ts'
import { hold } from './hold.ts'
import { judge, skipEmptyLine } from './judge.ts'
import { openConnection } from './line.ts'
import type { WireWorld } from './world.ts'
import { openWireWorld } from './world.ts'

/** A message of llhttp's own tests, and what its strict parser makes of it. */
type Case = {
  readonly title: string
  readonly meta: { readonly type: string }
  readonly payload_b64: string
  readonly parser_error: { readonly reason: string } | null
  readonly messages: number
}
type Cases = { readonly cases: readonly Case[] }

// What llhttp stops at without refusing what came before; and its list of methods, where any token is one
// (RFC 9110 §9.1): a rule says which it wants.
const notRefused = /^(?:Pause on|Data after)|method/
const openRule = { id: 'open', match: { path: '/**' }, public: true, insecure: true }

function requestsOf({ cases }: Cases): readonly Case[] {
  return cases.filter(({ meta }) => meta.type.startsWith('request'))
}

function textOf({ payload_b64 }: Case): string {
  return Buffer.from(payload_b64, 'base64').toString('latin1')
}

/** The same with a Host in every head that has none: most of llhttp's messages are no requests for the want of one. */
function withHost(text: string): string {
  return text.replace(/(^|\r\n)([A-Z-]+ [^\r\n]* HTTP\/1\.[01]\r\n)(?![\s\S]*?^host:)/gim, '$1$2Host: a.test\r\n')
}

/** How many messages the strict grammar finds one after the other. */
function countStrict(text: string): number {
  for (let at = 0, count = 0; ; count += 1) {
    const read = readRequest(text, skipEmptyLine(text, at))
    // The reader has them, so that a judge can tell what is refused for its own sake from what is no HTTP at all.
    if (read.kind !== 'message' || read.hasOddExtension || /[\x80-\xff]/.test(read.target)) return count
    at = read.end
  }
}

testVectors<Cases>('the strict reader takes no message that llhttp refuses', 'llhttp/cases.json', (vectors) => {
  const refused = requestsOf(vectors).filter(
    ({ meta, parser_error }) =>
      (meta.type === 'request' && parser_error !== null && !notRefused.test(parser_error.reason)) ||
      meta.type.startsWith('request-lenient'),
  )
  assert.ok(refused.length > 70)

  for (const each of refused) {
    const mostly = each.meta.type === 'request' ? each.messages : 1
    assert.ok(countStrict(textOf(each)) <= mostly, each.title)
  }
})

for (const { name, spell } of [
  { name: 'as it is', spell: (text: string) => text },
  { name: 'with a Host', spell: withHost },
]) {
  testVectors<Cases>(
    `every request of llhttp, ${name}, is refused or forwarded in one reading`,
    'llhttp/cases.json',
    async (vectors, t) => {
      await using wire = await openWireWorld({ rules: [openRule] })
      const found = requestsOf(vectors)
      const forwarded = new Set<string>()

      for (const [at, each] of found.entries())
        await t.test(`${at} ${each.title} (${each.meta.type})`, async () => {
          if (await send(wire, spell(textOf(each)))) forwarded.add(each.title)
        })

      wire.assertBooks()
      t.diagnostic(`${found.length} messages, ${forwarded.size} forwarded at least in part`)
      assert.equal(found.length, 166)
      assert.ok(forwarded.size >= (spell === withHost ? 50 : 10), `${forwarded.size} forwarded`)
    },
  )
}

/** Sends the bytes at once, and once more in pieces of one byte; returns whether any of it was forwarded. */
async function send({ port, recorder }: WireWorld, text: string): Promise<boolean> {
  const expectation = judge(text)
  const statuses: (readonly number[])[] = []
  for (const cuts of [[], Array.from({ length: text.length - 1 }, (_, at) => at + 1)]) {
    using connection = await openConnection(port)
    const held = await hold(connection, text, expectation, recorder, cuts)
    assert.equal(held.wrong, undefined, JSON.stringify(text))
    statuses.push(held.statuses)
  }
  const [whole, cut] = statuses.map(untilRefused)
  assert.deepEqual(cut, whole, `cut into bytes it is another message: ${JSON.stringify(text)}`)
  return whole?.includes(200) === true
}

/** Behind a refusal nothing may come, or another one. */
function untilRefused(statuses: readonly number[]): readonly number[] {
  const refused = statuses.findIndex((status) => status !== 200)
  return refused === -1 ? statuses : statuses.slice(0, refused + 1)
}
