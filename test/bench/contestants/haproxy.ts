import { readFileSync } from 'node:fs'
import { freePort } from '../../support/free-port.ts'
import { start } from '../processes.ts'
import { audience, issuer } from '../tokens.ts'
import type { Contestant } from './contestant.ts'
import { answering, missingProgram } from './contestant.ts'

/** What HAProxy does: `bare` forwards everything, the others let good tokens through. */
export type HaproxySetting = {
  readonly verify: 'bare' | 'rs256' | 'es256'
  readonly upstream?: 'answers' | 'sink'
  readonly tls?: true
  readonly threads?: number
  /** Writes a line for each request to its stdout, as in a container; absent: it writes none. */
  readonly log?: true
}

/** HAProxy, with one thread unless more are wanted. */
export function haproxy({ verify, upstream = 'answers', tls, threads = 1, log }: HaproxySetting): Contestant {
  return async (world, cpus) => {
    const missing = missingProgram('haproxy')
    if (missing !== undefined) return missing
    const { certificate } = world.files
    if (tls === true && certificate === undefined)
      return { kind: 'missing', why: 'openssl is not installed (npm run bench:setup)' }
    const port = await freePort()
    const pair =
      tls === true && certificate !== undefined
        ? ` ssl crt ${world.write('haproxy.pem', readFileSync(certificate.cert, 'utf8') + readFileSync(certificate.key, 'utf8'))}`
        : ''
    const checks = verify === 'bare' ? [] : checksOf(verify.toUpperCase(), world.files[verify])
    const file = world.write(
      `haproxy-${port}.cfg`,
      `${[
        'global',
        `  nbthread ${threads}`,
        '  maxconn 4096',
        ...(log === true ? ['  log stdout format raw local0 info'] : []),
        'defaults',
        ...(log === true ? ['  log global', '  option httplog'] : []),
        '  mode http',
        '  timeout connect 2s',
        '  timeout client 60s',
        '  timeout server 60s',
        '  http-reuse always',
        'frontend front',
        `  bind 127.0.0.1:${port}${pair}`,
        ...checks.map((each) => `  ${each}`),
        '  default_backend back',
        'backend back',
        `  server upstream ${world[upstream].replace('http://', '')}`,
      ].join('\n')}\n`,
    )
    return await answering(start(['haproxy', '-db', '-f', file], { cpus }), port, tls === true ? 'https' : 'http')
  }
}

/** As its manual shows it: signature, issuer, audience, expiry. No scope, which it would have to search for. */
function checksOf(algorithm: string, key: string): readonly string[] {
  const deny = 'http-request deny deny_status 401'
  return [
    'http-request set-var(txn.token) http_auth_bearer',
    `http-request set-var(txn.alg) var(txn.token),jwt_header_query('$.alg')`,
    `http-request set-var(txn.exp) var(txn.token),jwt_payload_query('$.exp','int')`,
    'http-request set-var(txn.now) date()',
    `${deny} unless { var(txn.alg) -m str ${algorithm} }`,
    `${deny} unless { var(txn.token),jwt_payload_query('$.iss') -m str ${issuer} }`,
    `${deny} unless { var(txn.token),jwt_payload_query('$.aud') -m str ${audience} }`,
    `${deny} if { var(txn.exp),sub(txn.now) -m int lt 0 }`,
    `${deny} unless { var(txn.token),jwt_verify(txn.alg,"${key}") 1 }`,
  ]
}
