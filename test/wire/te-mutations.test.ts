import assert from 'node:assert/strict'
import { testVectors } from '../acceptance/vectors.ts'
import { hold } from './hold.ts'
import { judge } from './judge.ts'
import { openConnection } from './line.ts'
import { openWireWorld } from './world.ts'

type Mutations = { readonly mutations: Readonly<Record<string, string>> }

const smuggled = 'GET /open/smuggled HTTP/1.1\r\nHost: a.test\r\nX-Ignore: '
const chunks = '5\r\nhello\r\n0\r\n\r\n'

/** What may stand behind the head, and the Content-Length it is given. */
const bodies = [
  { name: 'chunks, counted right', body: chunks, length: String(chunks.length) },
  // Whoever counts takes the second request for body; whoever reads chunks takes it for a request.
  { name: 'CL.TE', body: chunks + smuggled, length: String(chunks.length + smuggled.length) },
  // Whoever reads chunks takes it for body; whoever counts, for a request.
  { name: 'TE.CL', body: `${smuggled.length.toString(16)}\r\n${smuggled}\r\n0\r\n\r\n`, length: '4' },
  { name: 'no length', body: chunks, length: undefined },
] as const

/** One spelling with the placeholders of its tool filled in. */
function fill(template: string, length: string | undefined): string {
  const text = template
    .replaceAll('__METHOD__', 'POST')
    .replaceAll('__ENDPOINT__', '/open/a')
    .replaceAll('__RANDOM__', '1')
    .replaceAll('__HOST__', 'a.test')
  const counted = length === undefined ? text.replace(/Content-Length: [^\r\n]*\r\n/, '') : text
  return `${counted.replaceAll('__REPLACE_CL__', length ?? '')}\r\n`
}

testVectors<Mutations>(
  'every spelling of Transfer-Encoding is refused, or has one reading: ours, and the upstream finds no second request',
  'smuggling/te-mutations.json',
  async ({ mutations }, t) => {
    await using wire = await openWireWorld()
    const wrong: string[] = []
    const seen = { forwarded: 0, refused: 0 }

    for (const [name, base64] of Object.entries(mutations))
      for (const { name: probe, body, length } of bodies) {
        const text = fill(Buffer.from(base64, 'base64').toString('latin1'), length) + body
        const expectation = judge(text)
        using connection = await openConnection(wire.port)
        const held = await hold(connection, text, expectation, wire.recorder)
        if (held.wrong !== undefined) wrong.push(`${name} with ${probe}: ${held.wrong}: ${JSON.stringify(text)}`)
        for (const { target } of held.accepted) assert.notEqual(target, '/open/smuggled', name)
        seen[held.statuses[0] === 200 ? 'forwarded' : 'refused'] += 1
      }

    t.diagnostic(`${seen.forwarded} forwarded, ${seen.refused} refused`)
    assert.deepEqual(wrong, [])
    assert.equal(seen.forwarded + seen.refused, 134 * bodies.length)
    // Those whose odd byte stands in another header's value, or that say nothing about framing.
    assert.ok(seen.forwarded > 0)
    wire.assertBooks()
  },
)
