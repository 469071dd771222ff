// nginx as the upstream that gateways are fooled in front of: it decodes paths, merges slashes, takes `X_User` for `X-User`.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'

const program = ['/usr/sbin/nginx', '/usr/bin/nginx', '/usr/local/bin/nginx'].find((path) => existsSync(path))

/** Why a test cannot have it; false where it can, and in CI, where that is a failure. */
export const nginxIsMissing =
  program === undefined && process.env['CI'] !== 'true' ? 'nginx is not installed (apt-get install nginx-light)' : false

/** What it answers for anything below /admin, in any spelling. */
export const secret = 'the secret below admin'

export type Nginx = AsyncDisposable & { readonly port: number }

/** Starts it on free ports: one server that decodes once, and one behind it that decodes again. */
export async function startNginx(): Promise<Nginx> {
  assert.ok(program !== undefined, 'Cannot start nginx: it is not installed')
  const directory = mkdtempSync(join(tmpdir(), 'postern-nginx-'))
  const [port, inner] = [await freePort(), await freePort()]
  const file = join(directory, 'nginx.conf')
  writeFileSync(file, configurationOf(directory, port, inner))
  const child = spawn(program, ['-e', 'stderr', '-p', directory, '-c', file], {
    stdio: ['ignore', 'ignore', 'inherit'],
  })
  child.unref()
  const kill = () => void child.kill('SIGKILL')
  process.once('exit', kill)
  for (let tries = 0; !(await answers(port)); tries += 1) {
    assert.ok(tries < 250 && child.exitCode === null, 'Cannot start nginx: it does not listen')
    await wait(20)
  }
  return {
    port,
    async [Symbol.asyncDispose]() {
      process.off('exit', kill)
      if (child.exitCode === null && child.signalCode === null) {
        const exited = once(child, 'exit')
        kill()
        await exited
      }
      rmSync(directory, { recursive: true, force: true })
    },
  }
}

// What a lax service reads besides the path and the identity it is told.
const overrides = [
  'x_original_url',
  'x_rewrite_url',
  'x_original_uri',
  'x_original_method',
  'x_forwarded_uri',
  'x_forwarded_path',
  'x_forwarded_method',
  'x_forwarded_prefix',
  'x_envoy_original_path',
  'x_http_method_override',
  'x_method_override',
  'x_http_method',
]
const identity = ['x_user', 'x_scope', 'x_client_id', 'x_token_claims', 'x_gw_id']

function configurationOf(directory: string, port: number, inner: number): string {
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
  const told = identity.map((name) => `$http_${name}`).join(',')
  const lax = [
    'underscores_in_headers on; ignore_invalid_headers off; merge_slashes on;',
    `location ~* ^/+admin { return 200 "${secret}"; }`,
  ]
  return [
    ...(process.getuid?.() === 0 ? ['user root;'] : []),
    'daemon off; master_process off;',
    `pid ${join(directory, 'pid')}; error_log stderr emerg;`,
    'events { worker_connections 256; }',
    'http { access_log off; large_client_header_buffers 4 32k; default_type text/plain;',
    ...temporary.map((name) => `${name}_temp_path ${join(directory, name)};`),
    `server { listen 127.0.0.1:${port}; ${lax.join('\n')}`,
    `location = /told { return 200 "${told};${overrides.map((name) => `$http_${name}`).join('')}"; }`,
    // With a variable the path goes on as it was decoded.
    `location / { proxy_pass http://127.0.0.1:${inner}$uri; } }`,
    `server { listen 127.0.0.1:${inner}; rewrite "^([^;]*);[^/]*(.*)$" $1$2; ${lax.join('\n')}`,
    'location / { return 200 "open $uri"; } }',
    '}',
  ].join('\n')
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo // it listens on a port
  server.close()
  await once(server, 'close')
  return port
}

async function answers(port: number): Promise<boolean> {
  const socket = connect(port, '127.0.0.1')
  try {
    await once(socket, 'connect')
    return true
  } catch {
    return false
  } finally {
    socket.destroy()
  }
}
