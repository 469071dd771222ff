import { existsSync } from 'node:fs'
import { freePort } from '../../support/free-port.ts'
import { start } from '../processes.ts'
import { audience, issuer } from '../tokens.ts'
import type { Contestant } from './contestant.ts'
import { answering, missingProgram } from './contestant.ts'

const modules = '/usr/lib/apache2/modules'
const loaded = ['mpm_event', 'authn_core', 'authz_core', 'authz_user', 'proxy', 'proxy_http']

/** Apache with mod_auth_openidc as a resource server that verifies JWTs itself, and mod_proxy behind it. */
export const apache: Contestant = async (world, cpus) => {
  const missing = missingProgram('apache2')
  if (missing !== undefined) return missing
  if (!existsSync(`${modules}/mod_auth_openidc.so`))
    return { kind: 'missing', why: 'mod_auth_openidc is not installed (npm run bench:setup)' }
  const port = await freePort()
  const file = world.write(
    'apache.conf',
    `${[
      `ServerRoot ${world.directory}`,
      ...loaded.map((name) => `LoadModule ${name}_module ${modules}/mod_${name}.so`),
      `LoadModule auth_openidc_module ${modules}/mod_auth_openidc.so`,
      ...(process.getuid?.() === 0 ? ['User www-data', 'Group www-data'] : []),
      'ServerName bench.example',
      `Listen 127.0.0.1:${port}`,
      `PidFile ${world.directory}/apache.pid`,
      `DefaultRuntimeDir ${world.directory}`,
      `ErrorLog ${world.directory}/apache.log`,
      'LogLevel crit',
      'StartServers 1',
      'ServerLimit 1',
      'ThreadLimit 128',
      'ThreadsPerChild 128',
      'MaxRequestWorkers 128',
      'MaxConnectionsPerChild 0',
      'KeepAlive On',
      'MaxKeepAliveRequests 0',
      'KeepAliveTimeout 600',
      'OIDCCryptoPassphrase bench',
      // Key sets it takes by https only.
      `OIDCOAuthVerifyCertFiles rs256#${world.files.rs256}`,
      `ProxyPass / ${world.answers}/ keepalive=On max=128`,
      '<Location />',
      '  AuthType oauth20',
      '  <RequireAll>',
      `    Require claim iss:${issuer}`,
      `    Require claim aud:${audience}`,
      '  </RequireAll>',
      '</Location>',
    ].join('\n')}\n`,
  )
  return await answering(start(['apache2', '-f', file, '-DFOREGROUND'], { cpus }), port)
}
