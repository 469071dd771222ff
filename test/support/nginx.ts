// nginx, in one process, on free ports.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { freePort } from './free-port.ts'
import { endChild } from './processes.ts'

const program = ['/usr/sbin/nginx', '/usr/bin/nginx', '/usr/local/bin/nginx'].find((path) => existsSync(path))

/** Why a test cannot have it; false where it can, and in CI, where that is a failure. */
export const nginxIsMissing =
  program === undefined && process.env['CI'] !== 'true' ? 'nginx is not installed (apt-get install nginx-light)' : false

export type Nginx = AsyncDisposable & { readonly port: number }

/** What a configuration says of its servers: directives of `http`, for a directory of their own. */
export type Servers = {
  readonly connections: number
  /** @param inner The port of a server behind the first, where one is wanted. */
  readonly format: (directory: string, port: number, inner: number) => readonly string[]
}

/** Starts it; once it listens, its files are in place. */
export async function startNginx(servers: Servers): Promise<Nginx> {
  assert.ok(program !== undefined, 'Cannot start nginx: it is not installed')
  const directory = mkdtempSync(join(tmpdir(), 'postern-nginx-'))
  const [port, inner] = [await freePort(), await freePort()]
  const file = join(directory, 'nginx.conf')
  writeFileSync(file, configurationOf(directory, servers.connections, servers.format(directory, port, inner)))
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
      await endChild(child)
      rmSync(directory, { recursive: true, force: true })
    },
  }
}

function configurationOf(directory: string, connections: number, servers: readonly string[]): string {
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
  return [
    ...(process.getuid?.() === 0 ? ['user root;'] : []),
    'daemon off; master_process off;',
    `pid ${join(directory, 'pid')}; error_log stderr emerg;`,
    `events { worker_connections ${connections}; }`,
    'http { access_log off; default_type text/plain;',
    ...temporary.map((name) => `${name}_temp_path ${join(directory, name)};`),
    ...servers,
    '}',
  ].join('\n')
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
