// Before a contestant is measured: does it do what it is measured for?
import { readFileSync } from 'node:fs'
import { get as getHttp } from 'node:http'
import { get as getHttps } from 'node:https'
import type { Proof, World } from '../world.ts'

/** Which tokens a contestant must tell apart; `open`: it lets everybody through. */
export type ProofKind = keyof World['proofs'] | 'open'

/** What of the world is needed to ask. */
export type ProofWorld = {
  readonly proofs: World['proofs']
  readonly files: Pick<World['files'], 'certificate'>
}

const refusals = [401, 403]

/**
 * Asks with a good token, without one and with every bad one.
 *
 * @returns What is wrong with the answers; undefined when nothing is.
 */
export async function findFault(origin: string, kind: ProofKind, world: ProofWorld): Promise<string | undefined> {
  const ask = (path: string, token?: string) => askStatus(`${origin}${path}`, token, world)
  if (kind === 'open') {
    const status = await ask('/open/0')
    return status === 200 ? undefined : `it answers ${status}, wanted 200`
  }
  const { good, bad }: Proof = world.proofs[kind]
  const passed = await ask('/r0/proof', good)
  if (passed !== 200) return `it answers a good token with ${passed}, wanted 200`
  for (const [name, token] of [['missing', undefined] as const, ...Object.entries(bad)]) {
    const status = await ask('/r0/proof', token)
    if (!refusals.includes(status)) return `it answers a token that is ${name} with ${status}, wanted 401 or 403`
  }
  return undefined
}

function askStatus(url: string, token: string | undefined, { files }: ProofWorld): Promise<number> {
  const headers: Record<string, string> = token === undefined ? {} : { authorization: `Bearer ${token}` }
  const ca = files.certificate === undefined ? [] : [readFileSync(files.certificate.cert)]
  return new Promise((resolve, reject) => {
    const options = { headers, agent: false, timeout: 10_000 }
    const request = url.startsWith('https:')
      ? getHttps(url, { ...options, ca, checkServerIdentity: () => undefined })
      : getHttp(url, options)
    request.on('timeout', () => request.destroy(new Error('it does not answer')))
    request.on('error', reject)
    request.on('response', (response) => {
      response.resume()
      response.on('end', () => resolve(response.statusCode ?? 0))
    })
  })
}
