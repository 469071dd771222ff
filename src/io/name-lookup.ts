// Names to addresses, as the system finds them. While the servers of a name are silent its look-up holds one of the few
// threads there are for it, for longer than anybody waits: so there is never more than one for each name.
import type { LookupAddress, LookupOptions } from 'node:dns'
import { lookup } from 'node:dns'
import type { LookupFunction } from 'node:net'

/** `node:dns`'s own. */
type Ask = (
  name: string,
  options: LookupOptions & { readonly all: true },
  answer: (error: NodeJS.ErrnoException | null, found: LookupAddress[]) => void,
) => void
type Answer = Parameters<Ask>[2]

// Calls that gave up are not told apart from those that still wait.
const maxWaiting = 1000

/**
 * Makes a look-up that whatever connects can be given. Who asks for a name that is looked up already gets what that
 * finds; of more than a thousand the rest hear `EAI_AGAIN`, as from a system that cannot tell now.
 */
export function createNameLookup(ask: Ask): LookupFunction {
  const underWay = new Map<string, Answer[]>()
  return (name, options, callback) => {
    const key = JSON.stringify([name, options.family, options.hints, options.order, options.verbatim])
    const answer: Answer = (error, found) => {
      const [first] = found ?? []
      if (error !== null || options.all === true) callback(error, found)
      else callback(null, first?.address ?? '', first?.family)
    }
    const waiting = underWay.get(key)
    if (waiting === undefined) begin(key, name, options, answer)
    else if (waiting.length < maxWaiting) waiting.push(answer)
    else answer(Object.assign(new Error('Cannot look up: too many wait for it'), { code: 'EAI_AGAIN' }), [])
  }

  function begin(key: string, name: string, options: LookupOptions, first: Answer): void {
    const waiting = [first]
    ask(name, { ...options, all: true }, (error, found) => {
      underWay.delete(key)
      for (const answer of waiting) answer(error, found)
    })
    // Behind it: what it will not look up, it throws at once, and it answers later.
    underWay.set(key, waiting)
  }
}

/** The one of this process. */
export const lookUpName: LookupFunction = createNameLookup(lookup)
