import { freePort } from '../../support/free-port.ts'
import { start } from '../processes.ts'
import { nginxHead } from '../upstream.ts'
import type { Contestant } from './contestant.ts'
import { answering, missingProgram } from './contestant.ts'

/** nginx with one worker, without a log, forwarding everything: it checks no tokens by itself. */
export const nginx: Contestant = async (world, cpus) => {
  const missing = missingProgram('nginx')
  if (missing !== undefined) return missing
  const port = await freePort()
  const file = world.write(
    `nginx-${port}.conf`,
    [
      nginxHead(world.directory, `nginx-${port}`),
      `upstream back { server ${world.answers.replace('http://', '')}; keepalive 256; keepalive_requests 1000000000; }`,
      `server { listen 127.0.0.1:${port} backlog=4096;`,
      'location / { proxy_pass http://back; proxy_http_version 1.1; proxy_set_header Connection ""; }',
      '} }',
    ].join('\n'),
  )
  return await answering(start(['nginx', '-e', 'stderr', '-c', file], { cpus }), port)
}
