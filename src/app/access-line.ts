// The line the access log has of one request: made of texts that come again, since there is one for every request.
import type { UpstreamFailure } from '../gates/gate.ts'
import { digits, escaped, jsonString, maxValueLength, timestamp } from '../io/log-text.ts'

/** What is told about one request; undefined is written as null, so that every line has the same members but the last. */
export type AccessFields = {
  /** When the request began, milliseconds since 1970. */
  readonly timeMs: number
  readonly method: string
  /** Canonical, without the query. */
  readonly path: string
  readonly status: number
  readonly decision: 'allow' | 'deny'
  readonly reason: string
  /** The id of the rule that matched. */
  readonly rule: string | undefined
  /** The configured issuer, never one as received. */
  readonly issuer: string | undefined
  /** From `createFingerprint()`: it stands in the line as it is. */
  readonly fingerprint: string | undefined
  readonly clientAddress: string | undefined
  /** What the service behind us did, where that failed: the `kind` of `upstream_errors_total`. Absent from any other line. */
  readonly upstreamError: UpstreamFailure | undefined
  readonly durationUs: number
  /** The id of the request is `run-count`; `run` is the same for all requests of a process. */
  readonly run: string
  readonly count: number
}

/**
 * The access line of one request, without its line feed.
 *
 * @example {"timestamp":"2026-11-21T09:30:00.000Z","severity_text":"INFO","event.name":"request","http.request.method":"GET","url.path":"/orders/1","http.response.status_code":200,"decision":"allow","reason":"ok","rule":"read-orders","issuer":"https://login.example.com","token_fingerprint":"9f86d081884c7d65","client.address":"10.0.0.7","duration_us":182,"request_id":"5f1c9a02-1"}
 * @example …,"http.response.status_code":504,"decision":"allow",…,"request_id":"5f1c9a02-2","upstream_error":"upstream_timeout"}
 */
export function formatAccessLine(fields: AccessFields): string {
  const { timeMs, method, path, rule, fingerprint, clientAddress, upstreamError, durationUs, run, count } = fields
  const { before, behind } = outcomeOf(fields)
  // Of few pieces, which are put together once more when they are written. Joined like this the engine knows that they are
  // texts; in a template it makes sure of each.
  let line = timestamp(timeMs) + memberOf(methods, method, beforeMethod, beforePath)
  line += escaped(path)
  line += before
  if (rule !== undefined) line += escaped(rule)
  line += behind
  if (fingerprint === undefined) line += memberOf(clients, clientAddress, beforeClient, beforeDuration)
  else {
    line += fingerprint
    line += memberOf(clientsOfTokens, clientAddress, `"${beforeClient}`, beforeDuration)
  }
  line += Math.round(durationUs)
  line += idOf(run, Math.floor(count / 1000))
  const last = count < 1000 ? `${count}"}` : (lastDigits[count % 1000] ?? '')
  // A 502 of ours, and not one that the service has answered.
  return line + (upstreamError === undefined ? last : `${last.slice(0, -1)},"upstream_error":"${upstreamError}"}`)
}

const beforeMethod = 'Z","severity_text":"INFO","event.name":"request","http.request.method":'
const beforePath = ',"url.path":"'
const beforeClient = ',"client.address":'
const beforeDuration = ',"duration_us":'

/** What has few values comes again: it is looked up, with what stands around it, and not looked through. */
type Known = Map<string | undefined, string>
/** What stands around the rule, for one reason: with the quotes of what is there, or `null` in its place. */
type Outcome = Pick<AccessFields, 'status' | 'decision' | 'issuer'> & {
  readonly hasRule: boolean
  readonly hasToken: boolean
  readonly before: string
  readonly behind: string
}

const methods: Known = new Map()
const clients: Known = new Map()
const clientsOfTokens: Known = new Map()
const outcomes = new Map<string, Outcome[]>()
const maxKnown = 1000
const maxOutcomes = 32

function memberOf(known: Known, value: string | undefined, before: string, behind: string): string {
  const found = known.get(value)
  if (found !== undefined) return found
  const text = `${before}${jsonString(value)}${behind}`
  if (known.size >= maxKnown) known.clear()
  if ((value ?? '').length <= maxValueLength) known.set(value, text)
  return text
}

const lastDigits = digits.map((each) => `${each}"}`)
// Requests are counted: all but the last three digits stay the same for a while.
let knownId = { run: '', thousands: 0, text: idText('', 0) }

function idOf(run: string, thousands: number): string {
  if (run !== knownId.run || thousands !== knownId.thousands) knownId = { run, thousands, text: idText(run, thousands) }
  return knownId.text
}

function idText(run: string, thousands: number): string {
  return `,"request_id":"${escaped(run)}-${thousands === 0 ? '' : thousands}`
}

function outcomeOf({ status, decision, reason, issuer, rule, fingerprint }: AccessFields): Outcome {
  const hasRule = rule !== undefined
  const hasToken = fingerprint !== undefined
  let known = outcomes.get(reason)
  if (known === undefined) {
    if (outcomes.size >= maxKnown) outcomes.clear()
    known = []
    outcomes.set(reason, known)
  }
  for (const each of known)
    if (each.status === status && each.decision === decision && each.issuer === issuer)
      if (each.hasRule === hasRule && each.hasToken === hasToken) return each
  const said = `","http.response.status_code":${status},"decision":"${decision}","reason":${jsonString(reason)}`
  const made = {
    status,
    decision,
    issuer,
    hasRule,
    hasToken,
    before: `${said},"rule":${hasRule ? '"' : 'null'}`,
    behind: `${hasRule ? '"' : ''},"issuer":${jsonString(issuer)},"token_fingerprint":${hasToken ? '"' : 'null'}`,
  }
  if (known.length >= maxOutcomes) known.length = 0
  known.push(made)
  return made
}
