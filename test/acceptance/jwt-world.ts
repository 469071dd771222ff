// What the tests of JWTs have in common.
import { goodClaims, jwkOf, keys } from './forge.ts'
import type { World } from './harness.ts'
import { openWorld } from './harness.ts'

/** The public key of k1 as texts an attacker may key an HMAC with. */
export const spki = keys.good.publicKey.export({ format: 'pem', type: 'spki' }) as string // pem is text
/** See `spki`. */
export const publicJwk = JSON.stringify(jwkOf(keys.good, { kid: 'k1' }))

/** Keys under names of their own, so that each row finds the set it speaks of. */
const setsByRow: Readonly<Record<string, readonly unknown[]>> = {
  'use-enc': [jwkOf(keys.second, { kid: 'use-enc', use: 'enc' })],
  noalg: [jwkOf(keys.second, { kid: 'noalg' })],
  private: [{ ...keys.second.privateKey.export({ format: 'jwk' }), kid: 'private' }],
}

/** A gateway with those keys beside the good ones, and one rule. */
export async function openTable(): Promise<World> {
  const rules = [{ id: 'read', match: { path: '/read/**' }, scopes: ['read'] }]
  return await openWorld({
    rules,
    before(a) {
      a.keys = [...a.keys, ...Object.values(setsByRow).flat()]
    },
  })
}

/** Claims as the table writes them: null removes one, of a time `+300` is from now and the rest its own JSON. */
export function payloadOf(world: World, patch: Readonly<Record<string, unknown>>): string {
  const claims: Record<string, unknown> = goodClaims({
    iss: world.a.url,
    key: keys.good,
    kid: 'k1',
    nowS: world.nowS(),
  })
  const raw: string[] = []
  if ('scp' in patch) delete claims['scope']
  for (const [name, value] of Object.entries(patch)) {
    delete claims[name]
    if (value === null) continue
    if (!['exp', 'nbf', 'iat'].includes(name))
      claims[name] =
        typeof value === 'string' ? value.replace('ISS_A', world.a.url).replace('ISS_А', `${world.a.url}А`) : value
    else if (/^[+-]\d+$/.test(String(value))) claims[name] = world.nowS() + Number(value)
    else raw.push(`"${name}":${String(value)}`)
  }
  return [JSON.stringify(claims).slice(0, -1), ...raw].join(',').concat('}')
}
