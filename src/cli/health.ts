import { load, loadFile } from '../config/load.ts'
import { gatewayOptions } from '../config/schema.ts'
import { createHttpClient } from '../io/http-client.ts'
import { splitAddress } from '../io/listen.ts'
import type { Shell } from './shell.ts'
import { exitCodes, sayFailure } from './shell.ts'

const defaultUrl = 'http://127.0.0.1:9464/livez'

/**
 * Asks a running gateway how it is: for a container's HEALTHCHECK, whose image has no curl.
 *
 * @param options `url`: what to ask; `config`: the file that says where the gateway listens. One that cannot be used, or
 *   is not there, is as none: the gateway may well be running with the one before it.
 */
export async function health(
  options: { readonly url?: string; readonly config?: string },
  shell: Shell,
): Promise<number> {
  const { config } = options
  const url = options.url ?? (config === undefined ? undefined : configuredUrl(config, shell)) ?? defaultUrl
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

function configuredUrl(file: string, { readFile, env }: Shell): string | undefined {
  const loaded = loadFile(file, readFile, (text) => load(gatewayOptions, { file, text }, { env }))
  return loaded.kind === 'refused' ? undefined : livezOf(loaded.value.listen.health)
}

/** What to ask on this machine of a gateway whose health listener is at an address. */
export function livezOf(address: string): string {
  const { host, port } = splitAddress(address)
  const near = { '0.0.0.0': '127.0.0.1', '::': '::1' }[host] ?? host
  return `http://${near.includes(':') ? `[${near}]` : near}:${port}/livez`
}
