import type { Configuration } from '../configuration.ts'
import type { Outbox } from './outbox.ts'
import type { Publisher } from './publisher.ts'

/** How one worker comes to run what the primary runs. */
export type Handover = {
  /** Hands over what is in use now, unless the worker has it, or is on its way to it. */
  readonly reloaded: () => void
  /** The worker runs what it was handed. */
  readonly configured: () => void
}

/**
 * Makes the way to a worker that listens. One configuration is under way at a time: with a long list it takes 33 MB, and
 * several of them in a row would look as if the worker read nothing. Of those that come meanwhile the last one counts:
 * one that has been replaced does not come into force any more.
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
    readonly inUse: () => Configuration
    readonly publisher: Pick<Publisher, 'hand'>
  },
): Handover {
  let handed: Configuration | undefined
  let isUnderWay = false
  return {
    reloaded,
    configured() {
      isUnderWay = false
      reloaded()
    },
  }

  function reloaded(): void {
    if (isUnderWay) return
    isUnderWay = true
    outbox.queue(async (deliver) => {
      if (handed !== undefined && isSame(handed, inUse())) {
        // What is equal is held once.
        handed = inUse()
        isUnderWay = false
        return
      }
      try {
        await publisher.hand(outbox, deliver)
        // What is in use once the worker has its lists: what was when they began may be old by now.
        const now = inUse()
        configure(now)
        handed = now
      } catch (error) {
        // The worker has what it had: the next reload hands over again.
        isUnderWay = false
        throw error
      }
    })
  }

  function configure(configuration: Configuration): void {
    outbox.send({
      kind: 'configure',
      worker,
      file: configuration.file,
      text: configuration.text,
      files: [...configuration.files].map(([file, bytes]) => ({ file, base64: bytes.toString('base64') })),
      hash: configuration.hash,
      startedText,
    })
  }
}

/** Whether a worker would be told the same. The hash is of text and list alone: a certificate may be another. */
function isSame(a: Configuration, b: Configuration): boolean {
  return (
    a.hash === b.hash &&
    a.files.size === b.files.size &&
    [...a.files].every(([file, bytes]) => b.files.get(file)?.equals(bytes) === true)
  )
}
