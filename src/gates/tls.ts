// TLS at the front door (RFC 8446, RFC 5246): which certificate is shown, and which of clients are taken.
import { constants, X509Certificate } from 'node:crypto'
import type { Socket } from 'node:net'
import type { TLSSocket } from 'node:tls'
import { codeOf } from '../base/errors.ts'
import { findCertificateProblem } from '../spec/pem.ts'
import type { ListenTlsOptions } from './options.ts'

/** What is shown to clients, and whose certificates are taken of them: PEM. */
export type TlsMaterial = {
  readonly cert: string
  readonly key: string
  /** Undefined where no client is asked for a certificate. */
  readonly clientCa: string | undefined
}

/** How the front door speaks TLS. */
export type TlsOptions = {
  readonly material: TlsMaterial
  readonly clientCertificate: ListenTlsOptions['client_certificate']
  /** By ALPN (RFC 7301), the best first. */
  readonly protocols: readonly string[]
  readonly handshakeMs: number
}

/** A connection whose handshake is done. */
export type Secured = {
  readonly socket: TLSSocket
  /** Of the client's certificate, if it has shown a good one: SHA-256, base64url (RFC 8705 §3.1). */
  readonly thumbprint: string | undefined
}

/** What becomes of one handshake: one of the two. */
export type HandshakeEvents = {
  readonly secured: (secured: Secured) => void
  /** The connection is closed. `tls`: the handshake was none, or the client has left before its end. */
  readonly failed: (cause: 'tls' | 'client_certificate' | 'timeout') => void
}

/** Shakes hands with clients. */
export type TlsGate = {
  readonly greet: (socket: Socket, events: HandshakeEvents) => void
  /** Shows another certificate, and takes those of other clients, from the next connection on. */
  readonly use: (material: TlsMaterial) => void
}

// What has forward secrecy and authenticates what it encrypts; those of TLS 1.3 first.
const ciphers = [
  'TLS_AES_128_GCM_SHA256',
  'TLS_AES_256_GCM_SHA384',
  'TLS_CHACHA20_POLY1305_SHA256',
  'ECDHE-ECDSA-AES128-GCM-SHA256',
  'ECDHE-RSA-AES128-GCM-SHA256',
  'ECDHE-ECDSA-AES256-GCM-SHA384',
  'ECDHE-RSA-AES256-GCM-SHA384',
  'ECDHE-ECDSA-CHACHA20-POLY1305',
  'ECDHE-RSA-CHACHA20-POLY1305',
].join(':')

/** Makes the gate, of material that `vetTlsMaterial` found good: node:tls takes an empty CA for none. */
export function createTlsGate(options: TlsOptions): TlsGate {
  const { clientCertificate, protocols, handshakeMs } = options
  const waiting = new WeakMap<object, HandshakeEvents>()
  // It listens nowhere: connections come from elsewhere. It knows how to judge a client's certificate.
  const server = tls().createServer({
    ...contextOf(options.material, clientCertificate),
    requestCert: clientCertificate !== 'none',
    // Where it is optional, one that was shown is judged below.
    rejectUnauthorized: clientCertificate === 'required',
    ALPNProtocols: [...protocols],
    handshakeTimeout: handshakeMs,
  })
  server.on('secureConnection', shaken)
  server.on('tlsClientError', failed)
  return {
    greet(socket, events) {
      waiting.set(socket, events)
      // A client that leaves in the middle of it leaves for good; afterwards it may still want to hear.
      socket.allowHalfOpen = false
      server.emit('connection', socket)
    },
    use: (material) => void server.setSecureContext(contextOf(material, clientCertificate)),
  }

  function shaken(socket: TLSSocket): void {
    socket.on('error', () => {}) // told by its closing
    const events = eventsOf(socket)
    const shown = clientCertificate === 'none' ? undefined : socket.getPeerX509Certificate()
    const isGood = shown === undefined ? clientCertificate !== 'required' : socket.authorized
    if (events !== undefined && isGood) {
      socket.allowHalfOpen = true
      events.secured({ socket, thumbprint: shown === undefined ? undefined : thumbprintOf(shown) })
      return
    }
    socket.destroy()
    events?.failed('client_certificate')
  }

  function failed(error: Error & { readonly code?: string }, socket: TLSSocket): void {
    const isCertificate =
      socket.authorizationError !== null || error.code === 'ERR_SSL_PEER_DID_NOT_RETURN_A_CERTIFICATE'
    const isLate = error.code === 'ERR_TLS_HANDSHAKE_TIMEOUT'
    socket.destroy()
    eventsOf(socket)?.failed(isCertificate ? 'client_certificate' : isLate ? 'timeout' : 'tls')
  }

  function eventsOf(socket: TLSSocket): HandshakeEvents | undefined {
    // The socket beneath it, as node:net itself walks down. Nothing public leads there, and an address is none on a
    // Unix socket. Without it nobody would be let in.
    const { _parent: below } = socket as unknown as { readonly _parent?: object | null }
    return below === undefined || below === null ? undefined : waiting.get(below)
  }
}

/** What is wrong with certificate, key and CA, in a clause; undefined where they can be used together. */
export function vetTlsMaterial(material: TlsMaterial): string | undefined {
  const { cert, key, clientCa } = material
  for (const [name, pem] of Object.entries({ cert, client_ca: clientCa })) {
    const wrong = pem === undefined ? undefined : findCertificateProblem(pem)
    if (wrong !== undefined) return `${name}: ${wrong}`
  }
  // An empty one would be taken for none.
  if (!key.includes('PRIVATE KEY-----')) return 'the key file holds no private key'
  try {
    tls().createSecureContext(contextOf(material, 'none'))
    return undefined
  } catch (cause) {
    return `they cannot be used together (${codeOf(cause)})`
  }
}

/** From when to when a certificate is good, in milliseconds since 1970 (RFC 5280 §4.1.2.5); of a chain, the first one. */
export function readValidity({ cert }: Pick<TlsMaterial, 'cert'>): { readonly fromMs: number; readonly toMs: number } {
  const { validFromDate, validToDate } = new X509Certificate(cert)
  return { fromMs: validFromDate.getTime(), toMs: validToDate.getTime() }
}

function contextOf({ cert, key, clientCa }: TlsMaterial, clientCertificate: TlsOptions['clientCertificate']) {
  const { SSL_OP_NO_RENEGOTIATION, SSL_OP_NO_TICKET } = constants
  return {
    cert,
    key,
    ...(clientCa === undefined ? {} : { ca: clientCa }),
    minVersion: 'TLSv1.2' as const,
    ciphers,
    honorCipherOrder: true,
    // A resumed session would bring its certificate back without a look at it.
    secureOptions: clientCertificate === 'none' ? SSL_OP_NO_RENEGOTIATION : SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_TICKET,
  }
}

function thumbprintOf({ fingerprint256 }: X509Certificate): string {
  return Buffer.from(fingerprint256.replaceAll(':', ''), 'hex').toString('base64url')
}

/** Loaded where it is wanted: most gateways have TLS before them. */
function tls(): typeof import('node:tls') {
  return process.getBuiltinModule('node:tls')
}
