// What kind a token says it is of. No RFC has one name for that, so each product has its own: `token_use` (Cognito),
// `token_type` and `tokenName` (ForgeRock), `typ` (Keycloak), `purpose` (Curity).
import type { Json } from '../base/json.ts'
import type { Claims } from './claims.ts'

/** What a token, or an answer about one, says of its kind, and in which claim. */
export type SaidKind = { readonly by: string; readonly isAccess: boolean }

const kindNames = ['token_use', 'token_type', 'typ', 'type', 'tokenName', 'purpose'] as const
const accessKinds = ['access', 'access_token', 'bearer']
const otherKinds = [
  ...['id', 'id_token', 'serialized-id', 'nonce', 'logout', 'userinfo'],
  ...['refresh', 'refresh_token', 'offline'],
  // Keycloak's, for clients that register themselves.
  ...['registrationaccesstoken', 'initialaccesstoken'],
]
// RFC 6749 §7.1, RFC 8693 §2.2.1, RFC 9449 §5; and the kind, where an issuer puts that.
const answeredTypes = [...accessKinds, 'n_a', 'dpop', 'pop']

/** The kind that claims name, in any of the words for it: another one than access counts first; undefined: none. */
export function saidKind({ all }: Claims): SaidKind | undefined {
  const other = kindNames.find((name) => isKind(all[name], otherKinds))
  if (other !== undefined) return { by: other, isAccess: false }
  const access = kindNames.find((name) => isKind(all[name], accessKinds))
  return access === undefined ? undefined : { by: access, isAccess: true }
}

/**
 * The claim by which an introspection answer (RFC 7662 §2.2) speaks of another token than an access token, or of a kind
 * that is not known; undefined where it says nothing of it.
 */
export function otherKindAnswered(claims: Claims): string | undefined {
  const { token_use: use, token_type: type } = claims.all
  if (use !== undefined && !isKind(use, accessKinds)) return 'token_use'
  if (type !== undefined && !isKind(type, answeredTypes)) return 'token_type'
  const said = saidKind(claims)
  return said?.isAccess === false ? said.by : undefined
}

/** Whether a `token_type`, or Keycloak's `typ`, is one that demands a proof with every use (RFC 9449 §5). */
export function needsProof(type: Json | undefined): boolean {
  return isKind(type, ['dpop', 'pop'])
}

function isKind(value: Json | undefined, kinds: readonly string[]): boolean {
  return typeof value === 'string' && kinds.includes(value.toLowerCase())
}
