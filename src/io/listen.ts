// Listening on an address, or on a Unix socket whose file is ours to make and to leave.
import { lstatSync, statSync, unlinkSync } from 'node:fs'
import type { AddressInfo, Server } from 'node:net'
import { connect } from 'node:net'
import { dirname } from 'node:path'
import { codeOf } from '../base/errors.ts'
import { unixAddress } from '../base/unix-address.ts'

/** Where a server listens: a port of an address, or the path of a Unix socket. */
export type ListenAddress = { readonly host: string; readonly port: number } | { readonly path: string }

// Whoever is in our group may connect, as a balancer beside us; others may not.
const socketUmask = 0o117

/** Host and port of an address such as `[::1]:8080`. */
export function splitAddress(text: string): { readonly host: string; readonly port: number } {
  const colon = text.lastIndexOf(':')
  return { host: text.slice(0, colon).replace(/^\[|\]$/g, ''), port: Number(text.slice(colon + 1)) }
}

/** Where a server listens: host and port of an address, or a path after `unix:`. */
export function listenAddress(text: string): ListenAddress {
  return text.startsWith(unixAddress) ? { path: text.slice(unixAddress.length) } : splitAddress(text)
}

/**
 * Waits for something that listens, and names the key of the configuration where the system would not let it: its own
 * words name an address, at most.
 */
export async function listenAs<T>(key: string, address: string, listening: Promise<T>): Promise<T> {
  try {
    return await listening
  } catch (cause) {
    const call = cause instanceof Error && 'syscall' in cause ? cause.syscall : undefined
    if (call !== 'listen' && call !== 'getaddrinfo') throw cause
    const code = codeOf(cause)
    const why = listenFailures[code] ?? 'it cannot be had'
    throw new Error(`Cannot listen on ${key} ${address}: ${why} (${code})`, { cause })
  }
}

const listenFailures: Readonly<Record<string, string>> = {
  EADDRINUSE: 'it is in use',
  EADDRNOTAVAIL: 'it is no address of this machine',
  EACCES: 'it is not ours to use',
  ENOTFOUND: 'its name is not found',
}

/**
 * Listens. A socket that a dead process has left is replaced; its file goes when the server closes.
 *
 * @returns The port; undefined on a Unix socket.
 * @throws (rejects) when the address cannot be listened on: at a path also when somebody listens there, or what is there
 *   is no socket.
 */
export async function listenOn(server: Server, address: ListenAddress): Promise<number | undefined> {
  if ('path' in address) await clear(address.path)
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    if (!('path' in address)) {
      server.listen(address.port, address.host, resolve)
      return
    }
    // The file is made before `listen` returns: at no time may others connect.
    const before = process.umask(socketUmask)
    try {
      server.listen(address.path, resolve)
    } finally {
      process.umask(before)
    }
  })
  return 'path' in address ? undefined : (server.address() as AddressInfo).port // it listens on a port
}

async function clear(path: string): Promise<void> {
  const found = lstatSync(path, { throwIfNoEntry: false })
  if (found === undefined) {
    // The system's word for it would be EACCES, as if it were there.
    if (statSync(dirname(path), { throwIfNoEntry: false })?.isDirectory() !== true)
      throw new Error(`Cannot listen on unix:${path}: its directory is not there`)
    return
  }
  if (!found.isSocket()) throw new Error(`Cannot listen on unix:${path}: what is there is no socket`)
  const code = await connectCode(path)
  if (code === undefined) throw new Error(`Cannot listen on unix:${path}: another process listens there`)
  if (code === 'ENOENT') return
  // Refused: the file is there, and nobody behind it. Anything else may be somebody who is busy.
  if (code !== 'ECONNREFUSED')
    throw new Error(`Cannot listen on unix:${path}: what is there cannot be judged (${code})`)
  unlinkSync(path)
}

/** Why nobody answers at a path; undefined where somebody does. */
function connectCode(path: string): Promise<string | undefined> {
  return new Promise((resolve) => {
    const socket = connect(path, () => {
      socket.destroy()
      resolve(undefined)
    })
    socket.on('error', (error) => resolve(codeOf(error)))
  })
}
