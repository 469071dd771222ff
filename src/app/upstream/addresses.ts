// The addresses of a name, as they are now. Looked up by us and not by each connection: several addresses are several
// places, and what has moved is left.
import type { Deadlines } from '../../http1/deadlines.ts'
import { setDeadline } from '../../http1/deadlines.ts'
import type { Log } from '../../io/log.ts'
import { lookUpName } from '../../io/name-lookup.ts'

/** Finds every address of a name. Rejects when there is none. */
export type ResolveName = (name: string) => Promise<readonly string[]>

/** What looking names up needs. */
export type AddressesDeps = {
  readonly resolve: ResolveName
  readonly deadlines: Deadlines
  readonly log: Pick<Log, 'info' | 'warn'>
  /** Told when there are others than before, and when the first look-up is over. */
  readonly changed: () => void
}

/** The addresses of one name, until closed. */
export type Addresses = {
  /** The last that were found; empty while none ever was. */
  readonly list: () => readonly string[]
  /** They may be others by now: they are looked up again, though no more than once a second. */
  readonly doubt: () => void
  readonly close: () => void
}

const everyMs = 30_000
// While none is known requests are refused: the name may be there any moment.
const retryMs = 1000
// More are no places to go to, but a mistake or an attack.
const maxAddresses = 256

/** Looks a name up as the system does, in the order it has them. */
export const resolveName: ResolveName = (name) =>
  new Promise((resolve, reject) => {
    lookUpName(name, { all: true, order: 'verbatim' }, (error, found) => {
      if (error !== null || typeof found === 'string') reject(error)
      else resolve(found.map(({ address }) => address))
    })
  })

/** Looks a name up at once, and every 30 s from then on. */
export function createAddresses(name: string, { resolve, deadlines, log, changed }: AddressesDeps): Addresses {
  let held: readonly string[] | undefined
  let isLooking = false
  let isClosed = false
  let hasFailed = false
  let lookedMs = 0
  const deadline = { atMs: Number.POSITIVE_INFINITY, expire: look }
  deadlines.watch(deadline)
  look()
  return {
    list: () => held ?? [],
    doubt() {
      if (!isLooking) setDeadline(deadline, Math.min(deadline.atMs, lookedMs + retryMs))
    },
    close() {
      isClosed = true
      deadlines.unwatch(deadline)
    },
  }

  function look(): void {
    isLooking = true
    setDeadline(deadline, Number.POSITIVE_INFINITY)
    resolve(name).then(take, fail)
  }

  function take(found: readonly string[]): void {
    const next = [...new Set(found)].slice(0, maxAddresses)
    if (next.length === 0) fail(new Error('no address'))
    else if (looked()) {
      if (hasFailed) log.info('upstream_resolved', { name, addresses: next.length })
      hasFailed = false
      hold(next)
    }
  }

  function fail(error: unknown): void {
    if (!looked()) return
    const code = error instanceof Error && 'code' in error ? String(error.code) : 'no address'
    if (!hasFailed) log.warn('upstream_resolve_failed', { name, error: code, in_use: held?.length ?? 0 })
    hasFailed = true
    hold(held ?? [])
  }

  function looked(): boolean {
    isLooking = false
    lookedMs = deadlines.nowMs()
    return !isClosed
  }

  function hold(next: readonly string[]): void {
    setDeadline(deadline, lookedMs + (next.length === 0 ? retryMs : everyMs))
    // In another order they are the same places.
    if (held !== undefined && held.length === next.length && next.every((each) => held?.includes(each))) return
    held = next
    changed()
  }
}
