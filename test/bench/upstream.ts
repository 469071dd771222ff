// The services behind the contestants, on the load's processor: nginx for answers, a sink for bodies that come in.
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { freePort } from '../support/free-port.ts'
import type { Started } from './processes.ts'
import { start } from './processes.ts'

/** Bodies that are asked for and sent. */
export const bodySizes = { '1 KB': 1024, '100 KB': 102_400, '10 MB': 10_485_760 } as const

/** What nginx needs to run as nobody in particular, in a directory. */
export function nginxHead(directory: string, name: string): string {
  const paths = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
  return [
    // Of a master run by root the workers would be somebody who cannot read this directory.
    ...(process.getuid?.() === 0 ? ['user root;'] : []),
    'worker_processes 1; daemon off;',
    `pid ${join(directory, `${name}.pid`)}; error_log stderr crit;`,
    'events { worker_connections 4096; }',
    'http {',
    'access_log off; server_tokens off; keepalive_requests 1000000000; keepalive_timeout 1h; client_max_body_size 0;',
    ...paths.map((path) => `${path}_temp_path ${join(directory, `${name}-${path}`)};`),
  ].join('\n')
}

/** Starts nginx: 100 bytes for every path, a file for `/r0/bytes-N`, the key set for `/jwks.json`. */
export async function startAnswers(directory: string, jwks: string): Promise<Started & { readonly origin: string }> {
  const files = join(directory, 'files')
  mkdirSync(join(files, 'r0'), { recursive: true })
  for (const bytes of Object.values(bodySizes))
    writeFileSync(join(files, 'r0', `bytes-${bytes}`), Buffer.alloc(bytes, 'x'))
  const port = await freePort()
  const configuration = join(directory, 'upstream.conf')
  writeFileSync(join(files, 'jwks.json'), jwks)
  writeFileSync(
    configuration,
    [
      nginxHead(directory, 'upstream'),
      'sendfile on; open_file_cache max=100;',
      `server { listen 127.0.0.1:${port} backlog=4096; default_type text/plain; root ${files};`,
      `location / { return 200 "${'x'.repeat(100)}"; }`,
      'location /r0/bytes- { }',
      'location = /jwks.json { default_type application/json; }',
      '} }',
    ].join('\n'),
  )
  const started = start(['nginx', '-e', 'stderr', '-c', configuration], { cpus: '1' })
  return { ...started, origin: `http://127.0.0.1:${port}` }
}

/** Starts one of the programs in `stubs/`. */
export async function startStub(name: 'sink' | 'issuer'): Promise<Started & { readonly origin: string }> {
  const started = start([process.execPath, join(import.meta.dirname, 'stubs', `${name}.ts`)], { cpus: '1' })
  const port = await started.line((line) => (/^\d+$/.test(line) ? Number(line) : undefined))
  return { ...started, origin: `http://127.0.0.1:${port}` }
}
