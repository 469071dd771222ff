import { createHttpClient } from '../io/http-client.ts'
import type { Shell } from './shell.ts'
import { exitCodes, sayFailure } from './shell.ts'

const defaultUrl = 'http://127.0.0.1:9464/livez'

/**
 * Asks a running gateway how it is: for a container's HEALTHCHECK, whose image has no curl.
 *
 * @param options `url`: what to ask. The configuration file is not: it may say where the gateway listens after a restart.
 */
export async function health({ url = defaultUrl }: { readonly url?: string }, shell: Shell): Promise<number> {
  const client = createHttpClient({})
  try {
    const { status, body } = await client.send({ method: 'GET', url }, { maxBodyBytes: 65_536, deadlineMs: 2000 })
    shell.out(body.toString('utf8'))
    return status === 200 ? exitCodes.ok : exitCodes.failure
  } catch (error) {
    return sayFailure(shell, error)
  } finally {
    client.close()
  }
}
