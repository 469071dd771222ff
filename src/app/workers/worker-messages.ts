// What the primary and its workers say to each other: JSON, one message at a time, in order. Both ends are this program,
// and still nothing is believed before it is read.
import * as z from 'zod'
import { blacklistCauses, blacklistKinds } from '../../spec/blacklist-feed.ts'
import { signatureAlgorithms } from '../../spec/jws.ts'
import type { Revocation } from '../../spec/revocation.ts'

const count = z.int().min(0)
/** Which keys are meant: `keysId` of the issuer's sources. */
const source = z.string().max(256)
/** Whose list is meant. */
const issuer = z.string()
const time = z.number()
const hash = z.string().max(256)
const problem = z.string().max(8192)

// A million of these are sent: as lists they take half of what objects would.
const entry = z.tuple([
  z.enum(blacklistKinds),
  z.string().min(1).max(1024),
  /** `issued_before`; null: all. */
  time.nullable(),
  /** `until`, without the purge delay. */
  time,
  z.enum(blacklistCauses),
])
/** One revocation on its way: kind, value, issued_before, until, cause. */
export type WireEntry = z.output<typeof entry>

const listState = z.strictObject({
  /** When the last good poll began; null: never. */
  good: z.strictObject({ startedMs: time, wallMs: time }).nullable(),
  totalLive: count,
  unlisted: count,
  leftOutUntil: time,
  serverTimeS: time,
  toldMs: time,
  /** For how many entries there is room, and for how long (ms) they are kept past their end. */
  cacheSize: count,
  purgeDelay: time,
})
/** What a list is beside its entries. */
export type ListState = z.output<typeof listState>

const toWorker = z.discriminatedUnion('kind', [
  /** A key set as it was fetched; what the worker had is replaced. */
  z.strictObject({ kind: z.literal('keys'), source, document: z.string(), startedMs: time, startedWallMs: time }),
  /** The primary has looked, and what it found was sent before; a key that is still missing is not asked for until then. */
  z.strictObject({ kind: z.literal('keys_looked'), ask: count, untilMs: time }),
  /** A whole list: put together beside the one in use, and swapped for it at the end. Each slice is acknowledged. */
  z.strictObject({ kind: z.literal('list_begin'), issuer }),
  z.strictObject({
    kind: z.literal('list_slice'),
    issuer,
    part: z.enum(['index', 'inherited', 'added']),
    entries: z.array(entry),
  }),
  z.strictObject({ kind: z.literal('list_end'), issuer, state: listState }),
  /** Entries that have come, for the list in use and for one being put together. */
  z.strictObject({ kind: z.literal('list_added'), issuer, entries: z.array(entry) }),
  z.strictObject({ kind: z.literal('list_state'), issuer, state: listState }),
  z.strictObject({
    kind: z.literal('configure'),
    /** The worker's own number, from 1. */
    worker: count,
    file: z.string(),
    /** The very bytes the primary has read: a path might lead to others by now. */
    text: z.string(),
    /** The same of the files it names: the operator's list and certificates; no secrets. */
    files: z.array(z.strictObject({ file: z.string(), base64: z.base64() })),
    hash,
    /** The text that the primary started with: what needs a restart is as it says. */
    startedText: z.string(),
  }),
  /** The certificate of the front door, key and all; before the first configuration, and when there is another. */
  z.strictObject({ kind: z.literal('tls'), cert: z.string(), key: z.string(), clientCa: z.string().nullable() }),
  /** Comes with a socket. Numbered from 1, since one that the kernel drops on its way does not come at all. */
  z.strictObject({ kind: z.literal('connection'), number: count }),
  /** So many were handed over: what has not come of them is lost. Answered with `connections`. */
  z.strictObject({ kind: z.literal('handed'), through: count }),
  z.strictObject({ kind: z.literal('report'), ask: count }),
  /** Every answer from now on is the last on its connection. */
  z.strictObject({ kind: z.literal('announce_close') }),
  z.strictObject({ kind: z.literal('drain'), timeoutMs: time }),
])
/** What a worker is told. */
export type ToWorker = z.output<typeof toWorker>

const row = z.tuple([z.array(z.string()).readonly(), z.array(z.number()).readonly()]).readonly()

const toPrimary = z.discriminatedUnion('kind', [
  /** Listens to what it is told from now on. */
  z.strictObject({ kind: z.literal('hello') }),
  z.strictObject({ kind: z.literal('took') }),
  z.strictObject({ kind: z.literal('configured'), hash }),
  /** The keys and lists of every required issuer have come: said once of each configuration. */
  z.strictObject({ kind: z.literal('loaded') }),
  /** Connections: the number it has got to, the numbers that have not come, and how many are open now. */
  z.strictObject({ kind: z.literal('connections'), through: count, lost: z.array(count), open: count }),
  /** It cannot do what it was told, and ends. */
  z.strictObject({ kind: z.literal('failed'), problem }),
  z.strictObject({
    kind: z.literal('look_for_key'),
    ask: count,
    source,
    kid: z.string().nullable(),
    algorithm: z.enum(signatureAlgorithms.names),
    iat: time.nullable(),
    arrivedMs: time,
  }),
  z.strictObject({
    kind: z.literal('report'),
    ask: count,
    metrics: z.array(z.tuple([z.string(), z.array(row).readonly()]).readonly()).readonly(),
  }),
  z.strictObject({ kind: z.literal('drained'), cutOff: count }),
])
/** What the primary is told. */
export type ToPrimary = z.output<typeof toPrimary>

/** Reads what a worker was told; undefined for what is no message of ours. */
export function parseToWorker(message: unknown): ToWorker | undefined {
  return toWorker.safeParse(message).data
}

/** Reads what the primary was told; undefined for what is no message of ours. */
export function parseToPrimary(message: unknown): ToPrimary | undefined {
  return toPrimary.safeParse(message).data
}

/** Entries as they travel. */
export function writeEntries(entries: readonly Revocation[]): WireEntry[] {
  return entries.map(({ kind, value, issued_before, until, cause }) => [
    kind,
    value,
    issued_before ?? null,
    until,
    cause,
  ])
}

/** An entry that has travelled. */
export function readEntry([kind, value, issuedBefore, until, cause]: WireEntry): Revocation {
  return { kind, value, issued_before: issuedBefore ?? undefined, until, cause }
}
