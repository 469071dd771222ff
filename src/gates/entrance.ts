// What a connection passes before its first request: the PROXY protocol, TLS.
import type { Socket } from 'node:net'
import { unixAddress } from '../base/unix-address.ts'
import type { Deadline, Deadlines } from '../http1/deadlines.ts'
import { setDeadline } from '../http1/deadlines.ts'
import { lendAcceptedReads } from '../http1/lent-reads.ts'
import type { ProxyHeader } from '../http1/proxy-protocol.ts'
import { readProxyHeader } from '../http1/proxy-protocol.ts'
import type { Peer } from './gate.ts'
import type { TlsGate, TlsMaterial, TlsOptions } from './tls.ts'
import { createTlsGate } from './tls.ts'

/** What stands before the first request. */
export type EntranceOptions = {
  /** Undefined where clients speak in the clear. */
  readonly tls?: Omit<TlsOptions, 'protocols' | 'handshakeMs'> | undefined
  /** Every connection begins with a header of the PROXY protocol. */
  readonly proxyProtocol?: boolean | undefined
  /** Clients come on a Unix socket: they have no address. */
  readonly isUnix?: boolean | undefined
  /** Whether HTTP/2 is spoken, too: by ALPN with TLS, with prior knowledge without (RFC 9113 §3.2 and §3.3). */
  readonly http2: boolean
  /** What all connections may take together, bytes: handshakes have half of it. */
  readonly maxBytes: number
}

/**
 * Why a connection was closed that had not begun a request: `limit`, one more than `limits.connections`; `memory`, one more
 * than there is memory for; `crowded`, too many were waiting behind it; `timeout`, its time for a head was over;
 * `no_worker`, no worker has taken it, for want of descriptors or of time; and what was wrong with it.
 */
export const dropCauses = [
  'limit',
  'memory',
  'crowded',
  'timeout',
  'no_worker',
  'proxy_protocol',
  'tls',
  'client_certificate',
] as const
/** Why a connection was closed that had not begun a request. */
export type DropCause = (typeof dropCauses)[number]

/** A connection that requests may come on. */
export type Entered = {
  readonly socket: Socket
  readonly peer: Peer
  /** By ALPN; undefined where nobody asked. */
  readonly protocol: string | undefined
  /** As `Deadlines.nowMs` counts; undefined where it is now. */
  readonly acceptedMs: number | undefined
}

/** What becomes of a connection: one of the two, once, perhaps at once. */
export type EntranceEvents = {
  readonly entered: (entered: Entered) => void
  /** It is closed, and was not there yet. */
  readonly gone: () => void
}

/** Where connections are brought to their first request. */
export type Entrance = {
  readonly enter: (socket: Socket, events: EntranceEvents) => void
  /** Connections that are not there yet. */
  readonly waiting: () => number
  /** Shows another certificate from the next connection on. */
  readonly useTls: (material: TlsMaterial) => void
  /** Whether one of them has not sent a byte. */
  readonly hasSilent: () => boolean
  /** Ends those that have not sent a byte. */
  readonly closeIdle: () => void
  /** Ends what waits. */
  readonly close: () => void
}

/** `headerBytes`: of what it has sent, its PROXY header. */
type Waiting = { readonly deadline: Deadline; readonly gone: () => void; headerBytes: number }

// A good client is through in a moment: whoever has waited longest behind so many is not one of them.
const mostWaiting = 1024
// Where there is little memory: some that come at once, and are slow; silent ones take a fraction of what is counted.
const leastWaiting = 64
// Of a handshake that has begun and does not end, as measured: its hello alone may be of 128 KiB.
const handshakeBytes = 262_144

/** Makes the entrance of one hall. */
export function createEntrance(
  { tls: tlsOptions, proxyProtocol = false, isUnix = false, http2, maxBytes }: EntranceOptions,
  headMs: number,
  { deadlines, drop }: { readonly deadlines: Deadlines; readonly drop: (cause: DropCause) => void },
): Entrance {
  const waiting = new Map<Socket, Waiting>()
  const fitting = tlsOptions === undefined ? mostWaiting : Math.floor(maxBytes / 2 / handshakeBytes)
  const maxWaiting = Math.max(leastWaiting, Math.min(mostWaiting, fitting))
  const protocols = http2 ? ['h2', 'http/1.1'] : ['http/1.1']
  const tls: TlsGate | undefined = tlsOptions && createTlsGate({ ...tlsOptions, protocols, handshakeMs: headMs })
  return {
    enter,
    waiting: () => waiting.size,
    useTls: (material) => tls?.use(material),
    hasSilent: () => [...waiting.keys()].some((socket) => socket.bytesRead === 0),
    closeIdle() {
      for (const socket of waiting.keys()) if (socket.bytesRead === 0) abandon(socket)
    },
    close() {
      for (const socket of waiting.keys()) abandon(socket)
    },
  }

  function enter(socket: Socket, { entered, gone }: EntranceEvents): void {
    // Handed over, and gone meanwhile: it would never close again.
    if (socket.destroyed) {
      gone()
      return
    }
    // Of a connection that is broken nobody knows where it came from: that it is none of ours must not make it one.
    const own = isUnix ? unixAddress : (socket.remoteAddress ?? '')
    if (tls === undefined && !proxyProtocol) {
      const peer = { address: own, proto: 'http' } as const
      entered({ socket: lendAcceptedReads(socket), peer, protocol: undefined, acceptedMs: undefined })
      return
    }
    const acceptedMs = begin(socket, gone)
    if (!proxyProtocol) greet(socket, own, acceptedMs, 0, entered)
    else
      readHeader(socket, ({ address = own, bytes }) => {
        greet(socket, address, acceptedMs, bytes, entered)
      })
  }

  /** Reads the header, and leaves the socket paused behind it. */
  function readHeader(socket: Socket, read: (header: ProxyHeader) => void): void {
    let received: Buffer = Buffer.alloc(0)
    // A balancer that looks whether somebody is here sends nothing.
    const left = () => abandon(socket, socket.bytesRead > 0 ? 'proxy_protocol' : undefined)
    const take = (chunk: Buffer) => {
      received = Buffer.concat([received, chunk])
      const header = readProxyHeader(received)
      if (header === undefined) return
      if (header === 'malformed') {
        abandon(socket, 'proxy_protocol')
        return
      }
      socket.pause()
      socket.off('data', take)
      socket.off('end', left)
      socket.off('close', left)
      if (received.length > header.bytes) socket.unshift(received.subarray(header.bytes))
      if (waiting.has(socket)) read(header)
    }
    socket.on('data', take)
    socket.on('end', left)
    socket.on('close', left)
  }

  /** @param headerBytes How much was read of it before. */
  function greet(
    socket: Socket,
    address: string,
    acceptedMs: number,
    headerBytes: number,
    entered: EntranceEvents['entered'],
  ): void {
    if (tls === undefined) {
      leave(socket)
      entered({ socket, peer: { address, proto: 'http' }, protocol: undefined, acceptedMs })
      socket.resume()
      return
    }
    const it = waiting.get(socket)
    if (it !== undefined) it.headerBytes = headerBytes
    tls.greet(socket, {
      secured({ socket: inner, thumbprint: certificate }) {
        if (leave(socket) === undefined) return
        const protocol = inner.alpnProtocol === false ? undefined : (inner.alpnProtocol ?? undefined)
        const peer = { address, proto: 'https', certificate } as const
        entered({ socket: lendAcceptedReads(inner), peer, protocol, acceptedMs })
      },
      // Of every end that comes before, also of one that was no attempt at all.
      failed: (cause) => abandon(socket, socket.bytesRead > headerBytes || cause !== 'tls' ? cause : undefined),
    })
  }

  /**
   * Closes the one that has waited longest; before that one that has not sent a byte, of the `leastWaiting` that wait
   * longest: all would be a thousand looks for each that comes.
   */
  function makeRoom(): void {
    let [one] = waiting.keys()
    let looked = 0
    for (const [socket, { headerBytes }] of waiting) {
      const isSilent = socket.bytesRead <= headerBytes
      if (isSilent) one = socket
      looked += 1
      if (isSilent || looked === leastWaiting) break
    }
    if (one !== undefined) abandon(one, 'crowded')
  }

  function begin(socket: Socket, gone: () => void): number {
    if (waiting.size >= maxWaiting) makeRoom()
    const deadline = { atMs: Number.POSITIVE_INFINITY, expire: () => abandon(socket, 'timeout') }
    waiting.set(socket, { deadline, gone, headerBytes: 0 })
    deadlines.watch(deadline)
    const acceptedMs = deadlines.nowMs()
    setDeadline(deadline, acceptedMs + headMs)
    socket.on('error', () => {}) // told by its closing
    return acceptedMs
  }

  /** It waits no longer; undefined where it did not. */
  function leave(socket: Socket): Waiting | undefined {
    const it = waiting.get(socket)
    if (it === undefined) return undefined
    deadlines.unwatch(it.deadline)
    waiting.delete(socket)
    return it
  }

  function abandon(socket: Socket, cause?: DropCause): void {
    const it = leave(socket)
    if (it === undefined) return
    if (cause !== undefined) drop(cause)
    socket.destroy()
    it.gone()
  }
}
