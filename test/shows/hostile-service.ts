// The service behind the gateway as nginx: where it is measured how long others wait, it must take no more of the machine
// than it has to. It answers what `hostile-attacker.ts` asks for: long answers, and else two bytes once a request has ended.
import { mkdirSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Nginx } from '../support/nginx.ts'
import { startNginx } from '../support/nginx.ts'

/** Starts it, with room for all connections that attackers make the gateway open. */
export function startService(): Promise<Nginx> {
  return startNginx({ connections: 16_384, format })
}

function format(directory: string, port: number, inner: number): readonly string[] {
  const files = join(directory, 'files/open')
  mkdirSync(files, { recursive: true })
  writeFileSync(join(files, 'mebibyte'), Buffer.alloc(1_048_576, 'x'))
  // Of holes: it takes no room, and is sent all the same.
  writeFileSync(join(files, 'gibibyte'), '')
  truncateSync(join(files, 'gibibyte'), 1_073_741_824)
  return [
    'sendfile on; keepalive_requests 1000000000; keepalive_timeout 60s; client_max_body_size 0;',
    `upstream inner { server 127.0.0.1:${inner}; keepalive 16; }`,
    `server { listen 127.0.0.1:${port} backlog=4096; root ${join(directory, 'files')};`,
    'location /open/mebibyte { } location /open/gibibyte { }',
    // By itself it would answer before a body has ended.
    'location / { if ($request_method = GET) { return 200 "ok"; } proxy_http_version 1.1;',
    'proxy_set_header Connection ""; proxy_pass http://inner; } }',
    `server { listen 127.0.0.1:${inner}; keepalive_requests 1000000000; location / { return 200 "ok"; } }`,
  ]
}
