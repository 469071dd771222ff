import type { Configuration } from '../configuration.ts'
import type { Outbox } from './outbox.ts'
import type { Publisher } from './publisher.ts'
import type { SourceNumbers } from './worker-messages.ts'

/** How one worker comes to run what the primary runs. */
export type Handover = {
  /** Hands over what is in use now, unless the worker has it, or is on its way to it. */
  readonly reloaded: () => void
  /** The worker runs what it was handed. */
  readonly configured: () => void
}

/** What is in use, with the numbers of its sources. */
export type InUse = { readonly configuration: Configuration; readonly sources: readonly SourceNumbers[] }

/**
 * Makes the way to a worker that listens. One configuration is under way at a time: with a long list it takes 33 MB, and
 * several of them in a row would look as if the worker read nothing. Of those that come meanwhile the last one counts, and
 * the lists of the others are not sent at all.
 */
export function createHandover(
  { worker, startedText }: { readonly worker: number; readonly startedText: string },
  {
    outbox,
    inUse,
    publisher,
  }: {
    readonly outbox: Outbox
    /** Whose lists the publisher follows at that time. */
    readonly inUse: () => InUse
    readonly publisher: Pick<Publisher, 'hand' | 'runs'>
  },
): Handover {
  let handed: InUse | undefined
  let isUnderWay = false
  return {
    reloaded,
    configured() {
      isUnderWay = false
      publisher.runs(outbox)
      reloaded()
    },
  }

  function reloaded(): void {
    if (isUnderWay) return
    isUnderWay = true
    // What is in use when it is its turn: what waits for a list that is on its way may be old by then.
    outbox.queue(async (deliver) => {
      const before = handed
      const now = inUse()
      // What is equal is held once.
      handed = now
      if (before !== undefined && isSame(before, now)) {
        isUnderWay = false
        return
      }
      try {
        await publisher.hand(outbox, deliver)
        configure(now)
      } catch (error) {
        // The worker has what it had: the next reload hands over again.
        handed = before
        isUnderWay = false
        throw error
      }
    })
  }

  function configure({ configuration, sources }: InUse): void {
    outbox.send({
      kind: 'configure',
      worker,
      file: configuration.file,
      text: configuration.text,
      files: [...configuration.files].map(([file, bytes]) => ({ file, base64: bytes.toString('base64') })),
      hash: configuration.hash,
      sources: [...sources],
      startedText,
    })
  }
}

/** Whether a worker would be told the same. The hash is of text and list alone: a certificate may be another. */
function isSame(a: InUse, b: InUse): boolean {
  const [filesOfA, filesOfB] = [a.configuration.files, b.configuration.files]
  return (
    a.configuration.hash === b.configuration.hash &&
    JSON.stringify(a.sources) === JSON.stringify(b.sources) &&
    filesOfA.size === filesOfB.size &&
    [...filesOfA].every(([file, bytes]) => filesOfB.get(file)?.equals(bytes) === true)
  )
}
