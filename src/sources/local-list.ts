// The operator's own list of revoked tokens: works with any issuer, demands nothing of its tokens (product.md §2 and §6).
import * as z from 'zod'
import { list } from '../base/list.ts'
import { httpUrl } from '../base/options.ts'
import type { Clock } from '../base/time.ts'
import { maxNumericDate } from '../base/time.ts'
import { blacklistKinds } from '../spec/blacklist-feed.ts'
import type { RevocableToken, RevocationHit, RevocationIndex } from '../spec/revocation.ts'
import { createRevocationIndex } from '../spec/revocation.ts'
import type { BlacklistSection } from './blacklist.ts'

const date = z.iso.date()
// 1e9. What is less, such as 20261231 or 2026, was to be a date: as seconds it is long ago, and its entry would do nothing.
const earliestS = 1_000_000_000
const time = z
  .union([z.number().min(0).max(maxNumericDate), z.iso.datetime({ offset: true }), date], {
    error: 'expected seconds since 1970, a date, or a date and time with a zone',
  })
  .refine((written) => secondsOf(written) >= earliestS, {
    error: 'expected seconds since 1970 or a date like 2026-12-31, not before September 2001',
  })
const dayS = 86_400

/** Seconds since 1970 at which a time begins; a date is its day in UTC. */
function beginOf(written: z.output<typeof time>): number {
  return notTooLate(secondsOf(written))
}

/** The last second of a time: of a date that is the end of its day, so that nothing of the day named is left out. */
function endOf(written: z.output<typeof time>): number {
  return notTooLate(secondsOf(written) + (date.safeParse(written).success ? dayS - 1 : 0))
}

function secondsOf(written: string | number): number {
  return typeof written === 'number' ? written : Date.parse(written) / 1000
}

/** A date can be later than a number may be, and this is handed on as a number. */
function notTooLate(seconds: number): number {
  return Math.min(maxNumericDate, seconds)
}

const entry = z
  .strictObject({
    issuer: httpUrl.optional().describe('The configured issuer whose tokens are meant; absent: of every issuer.'),
    kind: z.enum(blacklistKinds).describe('What the value names; issued_before: every token issued until then.'),
    value: z.string().min(1).max(1024).describe('The claim, or the kid of a key; "*" for issued_before.'),
    issued_before: time
      .transform(endOf)
      .optional()
      .describe(
        "Only tokens issued until then, that second included; of a date its whole day (UTC), so today's refuses what is issued later today, too.",
      ),
    expires_at: time
      .transform(beginOf)
      .optional()
      .describe(
        "The token's `exp`, of a date its beginning (UTC): the entry holds until blacklist.purge_delay later; absent: for ever.",
      ),
    note: z.string().max(1024).optional().describe('For people.'),
  })
  .refine(({ kind, value }) => kind !== 'issued_before' || value === '*', {
    path: ['value'],
    error: 'expected "*" for kind issued_before',
  })
  .refine(({ kind, issued_before }) => kind !== 'issued_before' || issued_before !== undefined, {
    path: ['issued_before'],
    error: 'expected a time for kind issued_before',
  })

/** How many entries somebody may write, and how many of those before are kept beside them. */
export const maxListEntries = 100_000

/** The file named by `blacklist.local.file`. */
export const localListOptions = z.strictObject({
  version: z.literal(1),
  entries: list(entry).max(maxListEntries).describe('What is refused, whatever an issuer says.'),
})
/** The same with what was in force besides, which may be as many again. */
export const mergedListOptions = localListOptions.extend({ entries: z.array(entry) })
/** The operator's list as read. */
export type LocalListOptions = z.output<typeof localListOptions>

/** The operator's list, read once; a changed file makes a new one. */
export type LocalList = {
  /** What revokes a token of this issuer; its cause is `local`. */
  readonly find: (issuer: string, token: RevocableToken) => RevocationHit | undefined
}

/** The list of an operator who has none. */
export const emptyLocalList: LocalListOptions = { version: 1, entries: [] }

/**
 * Makes the index of an operator's list.
 *
 * @param options.purge_delay Milliseconds for which an entry holds on after its `expires_at`: a token is good for its
 *   leeway after its own.
 */
export function createLocalList(
  { entries }: LocalListOptions,
  { purge_delay }: Pick<BlacklistSection, 'purge_delay'>,
  { clock }: { readonly clock: Clock },
): LocalList {
  const everywhere = newIndex()
  const byIssuer = new Map<string, RevocationIndex>()
  for (const { issuer, kind, value, issued_before, expires_at } of entries)
    indexOf(issuer).put({ kind, value, issued_before, until: expires_at ?? maxNumericDate, cause: 'local' })
  return {
    find(issuer, token) {
      if (entries.length === 0) return undefined
      const atS = (clock.wallMs() - purge_delay) / 1000
      return everywhere.find(token, atS) ?? byIssuer.get(issuer)?.find(token, atS)
    },
  }

  function indexOf(issuer: string | undefined): RevocationIndex {
    if (issuer === undefined) return everywhere
    const index = byIssuer.get(issuer) ?? newIndex()
    byIssuer.set(issuer, index)
    return index
  }
}

function newIndex(): RevocationIndex {
  return createRevocationIndex({ capacity: Number.POSITIVE_INFINITY })
}
