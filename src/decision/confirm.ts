import type { Binding } from '../spec/mtls.ts'
import { isThumbprint } from '../spec/mtls.ts'
import type { Deny, Principal, Trail } from './decision.ts'
import { deny } from './decision.ts'

/**
 * Demands the proof of possession that a bound token needs (RFC 7800 `cnf`): the client's certificate (RFC 8705 §3). No
 * other method of proof is checked in this build, so a token that is bound in another way is never accepted: as a bearer
 * token it would be worth what a stolen one is (RFC 9449 §7.2). A wrapper's binding holds beside its answer's.
 *
 * @param certificate The thumbprint of the certificate that the client has shown; undefined where it has shown none.
 * @returns A denial `proof_missing` or `certificate_mismatch`, or undefined.
 */
export function confirm(
  { claims, wrapper }: Principal,
  certificate: string | undefined,
  trail?: Trail,
): Deny | undefined {
  const refused = prove(claims.binding, certificate) ?? prove(wrapper?.binding, certificate)
  trail?.({
    stage: 'confirm',
    passed: refused === undefined,
    is: `${told(claims.binding ?? wrapper?.binding)}, with ${certificate === undefined ? 'no certificate' : `the certificate ${certificate}`}`,
    wanted: 'a bearer token, or the certificate it is bound to',
  })
  return refused
}

function prove(binding: Binding | undefined, certificate: string | undefined): Deny | undefined {
  if (binding === undefined) return undefined
  if (binding.certificate === undefined || certificate === undefined) return deny('proof_missing')
  return isThumbprint(binding.certificate, certificate) ? undefined : deny('certificate_mismatch')
}

function told(binding: Binding | undefined): string {
  if (binding === undefined) return 'a bearer token'
  return binding.certificate === undefined
    ? 'a token that needs another proof than a certificate (by its cnf or type)'
    : `a token bound to the certificate ${binding.certificate}`
}
