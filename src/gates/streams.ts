// Exchanges without a foreseeable end: whoever holds one open is judged again and again (product.md §8).
import type { Allow, Deny, DenyReason } from '../decision/decision.ts'
import type { Deadline, Deadlines } from '../http1/deadlines.ts'
import { setDeadline } from '../http1/deadlines.ts'
import type { Serving } from './gate.ts'

/** What makes an exchange a long one: protocols were switched, or the media type says so. */
export const streamKinds = ['upgrade', 'event_stream', 'grpc'] as const
/** What makes an exchange a long one. */
export type StreamKind = (typeof streamKinds)[number]

/** Why we end a stream: the token is no longer good, or we go away. */
export type CutReason = DenyReason | 'shutdown'

/** A long exchange under way. */
export type OpenStream = {
  readonly kind: StreamKind
  readonly allow: Allow
  /** Ends it in the words of its protocol; called once. */
  readonly cut: (why: CutReason) => void
  /** Ends it at once: a second after `cut` it is still there. */
  readonly abort: () => void
}

/** All streams of one process. */
export type Streams = {
  /** Watches a stream. The owner calls what is returned when it is over. */
  readonly open: (stream: OpenStream) => () => void
  /** Cuts all of them; resolves when they have ended. One that is still there at the next look is aborted. */
  readonly shutDown: () => Promise<void>
  /** Aborts those that were cut and are still there. */
  readonly abort: () => void
}

/** What it needs. */
export type StreamsDeps = {
  /** For the grace: a stream is held open no longer because the process stood still. */
  readonly clock: { readonly monotonicMs: () => number }
  readonly deadlines: Deadlines
  /** A stream is judged by the configuration of the moment: lists that only an older one had grow old. */
  readonly serving: () => Pick<Serving, 'gateway' | 'streamGraceMs'>
  readonly streamOpened: (kind: StreamKind) => void
  readonly streamEnded: (kind: StreamKind, reason: CutReason | 'finished') => void
  readonly failed: (error: unknown) => void
}

type Watched = OpenStream & {
  /** When it was first found to be no longer allowed. */
  deniedMs: number | undefined
  why: CutReason | undefined
  /** Since when a verdict is waited for; undefined where none is. */
  askedMs: number | undefined
}

// A second, and looks that are a little early must not make it one and a half.
const everyMs = 950
// A look-up ends within 3 s; what takes this long is a bug, which must not hold a stream open.
const maxAskedMs = 10_000

/** Makes the watch of one process. It has no timer of its own, and costs nothing while there is no stream. */
export function createStreams(deps: StreamsDeps): Streams {
  const { clock, deadlines, serving, streamOpened, streamEnded, failed } = deps
  const open = new Set<Watched>()
  const deadline: Deadline = { atMs: Number.POSITIVE_INFINITY, expire: look }
  let emptied: (() => void) | undefined
  return {
    open(stream) {
      const watched: Watched = { ...stream, deniedMs: undefined, why: undefined, askedMs: undefined }
      if (open.size === 0) {
        deadlines.watch(deadline)
        setDeadline(deadline, deadlines.nowMs() + everyMs)
      }
      open.add(watched)
      streamOpened(stream.kind)
      return () => close(watched)
    },
    shutDown() {
      const { promise, resolve } = Promise.withResolvers<void>()
      emptied = resolve
      // Time for a last word, also where it was about to be looked.
      setDeadline(deadline, deadlines.nowMs() + everyMs)
      for (const each of open) cut(each, 'shutdown')
      if (open.size === 0) resolve()
      return promise
    },
    abort() {
      for (const { why, abort } of open) if (why !== undefined) abort()
    },
  }

  function look(): void {
    setDeadline(deadline, deadlines.nowMs() + everyMs)
    const { gateway, streamGraceMs } = serving()
    const nowMs = clock.monotonicMs()
    for (const each of open) {
      if (each.why !== undefined) each.abort()
      else if (each.askedMs !== undefined) remind(each, each.askedMs)
      else if (each.deniedMs === undefined || nowMs >= each.deniedMs + streamGraceMs) judge(each)
    }

    function judge(each: Watched): void {
      try {
        const found = gateway.recheck(each.allow)
        if (found instanceof Promise) wait(each, found, streamGraceMs)
        else act(each, found, streamGraceMs)
      } catch (error) {
        giveUp(each, error)
      }
    }
  }

  function wait(each: Watched, verdict: Promise<Deny | undefined>, graceMs: number): void {
    each.askedMs = deadlines.nowMs()
    verdict
      .finally(() => {
        each.askedMs = undefined
      })
      .then((denied) => act(each, denied, graceMs))
      .catch((error) => giveUp(each, error))
  }

  /** Asks no second time while the first answer is on its way. */
  function remind(each: Watched, askedMs: number): void {
    const forMs = deadlines.nowMs() - askedMs
    if (forMs >= maxAskedMs) giveUp(each, new Error(`Cannot judge a stream: no verdict for ${forMs} ms`))
  }

  function giveUp(each: Watched, error: unknown): void {
    failed(error)
    cut(each, 'internal_error')
  }

  function act(each: Watched, denied: Deny | undefined, graceMs: number): void {
    if (denied === undefined) {
      // A list that was too old is not any more.
      each.deniedMs = undefined
      return
    }
    const nowMs = clock.monotonicMs()
    each.deniedMs ??= nowMs
    if (nowMs >= each.deniedMs + graceMs) cut(each, denied.reason)
  }

  function cut(each: Watched, why: CutReason): void {
    if (each.why !== undefined || !open.has(each)) return
    each.why = why
    each.cut(why)
  }

  function close(watched: Watched): void {
    if (!open.delete(watched)) return
    streamEnded(watched.kind, watched.why ?? 'finished')
    if (open.size > 0) return
    deadlines.unwatch(deadline)
    emptied?.()
  }
}
