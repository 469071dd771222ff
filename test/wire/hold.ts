// Sends bytes and holds what comes back, and what the upstream got, against what must become of them.
import { setTimeout as wait } from 'node:timers/promises'
import type { Message } from '../support/strict-reader.ts'
import { readResponse, valuesOf } from '../support/strict-reader.ts'
import type { Expectation, Expected } from './judge.ts'
import type { Connection, Next } from './line.ts'
import type { Recorder } from './recorder.ts'

/** What became of the bytes. */
export type Held = {
  /** Requests the gateway took for HTTP, forwarded or denied for what they ask for, up to the first that it did not. */
  readonly accepted: readonly Message[]
  /** Statuses in order. */
  readonly statuses: readonly number[]
  /** What is not as it must be; undefined where all is. */
  readonly wrong: string | undefined
  /** Whether the connection is good for another message. */
  readonly usable: boolean
}

// Time enough for an answer that must not come; more than one turn of an event loop that all of it shares.
const quietMs = 3
// They refuse the bytes, not what is asked for.
const refusals = [400, 413, 414, 431]

/** Sends bytes on a connection and judges everything that comes of them. */
export async function hold(
  connection: Connection,
  text: string,
  { each, closes, whole }: Expectation,
  recorder: Recorder,
  cuts: readonly number[] = [],
): Promise<Held> {
  const accepted: Message[] = []
  const statuses: number[] = []
  await connection.write(text, cuts)
  let refused = false
  for (const expected of each) {
    if (expected.kind === 'unfinished') return done(await quiet(connection))
    const method = expected.kind === 'refuse' ? 'GET' : expected.request.method
    const came = await connection.next(method)
    const next = headless(came, expected)
    // Whether what was refused is the last of its connection is not for us to say.
    if (next.kind === 'closed' && refused) return done(undefined)
    if (next.kind !== 'answer') return done(`${describe(next)} instead of ${describeWanted(expected)}`)
    const { answer } = next
    statuses.push(answer.status)
    const wrong = wrongIn(answer, expected, recorder)
    if (wrong !== undefined) return done(wrong)
    if (expected.kind === 'refuse') return done(came === next ? await closed(connection, answer) : undefined)
    refused = answer.status !== 200
    if (!refusals.includes(answer.status) && accepted.length === statuses.length - 1) accepted.push(expected.request)
    if (refused && /close/i.test(valuesOf(answer, 'connection').join())) return done(await closed(connection, answer))
  }
  if (closes) return done(await closed(connection))
  return { accepted, statuses, wrong: undefined, usable: whole && connection.isOpen() }

  function done(wrong: string | undefined): Held {
    return { accepted, statuses, wrong, usable: false }
  }
}

/** Nothing that was not whole was carried out. */
async function quiet(connection: Connection): Promise<string | undefined> {
  await wait(quietMs)
  const next = await connection.next('GET', 1)
  if (next.kind === 'answer' && next.answer.status < 400) return `${next.answer.status} to half a request`
  if (next.kind === 'broken') return describe(next)
  return undefined
}

/** A refusal of what may have been a HEAD, and was read as one: it ends with its head. */
function headless(next: Next, { kind }: Expected): Next {
  if (next.kind !== 'closed' || kind !== 'refuse') return next
  const answer = readResponse(next.rest, 0, 'HEAD', true)
  return answer.kind === 'message' && answer.end === next.rest.length ? { kind: 'answer', answer, interim: 0 } : next
}

/** The connection ends; a refusal of a HEAD may have been written by somebody who did not read so far, with its body. */
async function closed(connection: Connection, refusal?: Message): Promise<string | undefined> {
  const next = await connection.next()
  const body = refusal?.body === '' ? Number(valuesOf(refusal, 'content-length')[0]) : 0
  if (next.kind === 'closed' && (next.rest === '' || next.rest.length === body)) return undefined
  return `${describe(next)} instead of the end of the connection`
}

function wrongIn(answer: Message, expected: Expected, recorder: Recorder): string | undefined {
  const { status } = answer
  const said = `${status} ${answer.body.slice(0, 120)}`
  switch (expected.kind) {
    case 'unfinished':
      return undefined
    case 'refuse':
    case 'reject':
      return status >= 400 && status < 500 ? undefined : `${said} instead of ${describeWanted(expected)}`
    case 'deny':
      if (status !== 401) return `${said} instead of ${describeWanted(expected)}`
      return undefined
    case 'forward':
      if (status !== 200) return `${said} instead of ${describeWanted(expected)}`
      return wrongInForwarded(answer, expected.request, recorder)
    case 'either':
      if (status >= 400 && status < 500) return undefined
      return status === 200 ? wrongInForwarded(answer, expected.request, recorder) : said
    default:
      return 'an expectation of no kind'
  }
}

/** What the upstream answered here is an answer to this request, and what it got is this request. */
function wrongInForwarded(answer: Message, sent: Message, recorder: Recorder): string | undefined {
  const got = recorder.take(Number(valuesOf(answer, 'x-seen')[0]))
  if (got === undefined) return "an answer to nobody's request"
  const told = JSON.stringify({ method: got.method, target: got.target, body: got.body })
  if (got.method !== sent.method || got.body !== sent.body) return `the upstream got ${told}`
  if (sent.target.startsWith('/') && !sent.target.includes('%') && got.target !== sent.target)
    return `the upstream got ${told}`
  const options = valuesOf(sent, 'connection').join(',').toLowerCase()
  const [passed, wanted] = [valuesOf(got, 'x-pass'), valuesOf(sent, 'x-pass')]
  if (!options.includes('x-pass') && JSON.stringify(passed) !== JSON.stringify(wanted))
    return `the upstream got X-Pass ${JSON.stringify(passed)}`
  return undefined
}

function describeWanted(expected: Expected): string {
  return 'why' in expected ? `a refusal of ${expected.why}` : expected.kind
}

function describe(next: Next): string {
  if (next.kind === 'answer') return `an answer of ${next.answer.status}`
  return `${next.kind}${next.kind === 'broken' ? ` (${next.why})` : ''} after ${JSON.stringify(next.rest.slice(0, 200))}`
}
