import type { Problem } from '../../config/problems.ts'
import type { Principal } from '../../decision/decision.ts'
import { silentLog } from '../../io/log.ts'
import { createKnownTokens } from '../../sources/known-tokens.ts'
import type { Powers } from '../app.ts'
import type { ConfigurationSource, Running } from '../configuration.ts'
import { readConfiguration, retire, run } from '../configuration.ts'
import { createGatewayMetrics } from '../metrics.ts'
import { createSecrets } from '../secrets.ts'
import type { Explanation, Question } from './explain.ts'
import { explain } from './explain.ts'

// A little over the deadline of discovery and of what it leads to, one after the other.
const patienceMs = 5000
const pollMs = 20

/**
 * Explains a request without a running gateway: with a gateway of its own, that listens nowhere and asks the issuers
 * itself. Rejects as `explain` does.
 */
export async function explainOffline(
  source: ConfigurationSource,
  question: Question,
  powers: Powers,
): Promise<
  | { readonly kind: 'explained'; readonly explanation: Explanation }
  | { readonly kind: 'refused'; readonly problems: readonly Problem[] }
> {
  const { clock, env, readFile, fileMode } = powers
  const configuration = readConfiguration(source, { env, readFile, fileMode })
  if (configuration.kind === 'refused') return configuration
  const known = createKnownTokens<Principal>(clock.monotonicMs)
  const secrets = createSecrets(powers, silentLog)
  const deps = { ...powers, log: silentLog, known, counted: createGatewayMetrics(), ...secrets }
  const running = run(configuration, undefined, deps)
  try {
    const untilMs = clock.monotonicMs() + patienceMs
    // Not `sleep`: the command must not end before it has answered.
    while (!isSettled(running) && clock.monotonicMs() < untilMs)
      await new Promise((resolve) => setTimeout(resolve, pollMs))
    return {
      kind: 'explained',
      explanation: await explain(question, running, clock, running.configuration.options),
    }
  } finally {
    retire(running)
  }
}

/** Whether every source has its facts, or has failed to get them. */
function isSettled({ sources }: Running): boolean {
  return sources.every(({ jwks, blacklist }) => {
    const { loaded, failure } = jwks.state()
    const feed = blacklist?.state()
    return (loaded || failure !== undefined) && (feed === undefined || feed.loaded || feed.failure !== undefined)
  })
}
