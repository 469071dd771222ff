// A client that shakes hands, and says what came of it.
import type { Socket } from 'node:net'
import type { ConnectionOptions } from 'node:tls'
import { connect } from 'node:tls'

/** What a client saw. */
export type Greeted = {
  /** What was answered; empty where nothing was. */
  readonly answer: string
  /** Why it came to nothing. */
  readonly error: string | undefined
  readonly protocol: string | null
  readonly alpn: string | false | null
  /** Whose certificate the server has shown. */
  readonly shown: string | undefined
}

/** Shakes hands with a port of this machine, or over a socket, sends a request, and reads until the end. */
export async function askTls(
  to: number | Socket,
  options: ConnectionOptions,
  request = 'GET /a HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n',
): Promise<Greeted> {
  const way = typeof to === 'number' ? { host: '127.0.0.1', port: to } : { socket: to, servername: 'localhost' }
  const socket = connect({ ...way, ...options })
  const { promise: closed, resolve } = Promise.withResolvers<void>()
  let answer = ''
  let error: string | undefined
  let shown: string | undefined
  let protocol: string | null = null
  socket.on('secureConnect', () => {
    shown = socket.getPeerX509Certificate()?.subject.replace('CN=', '')
    protocol = socket.getProtocol()
    socket.write(request)
  })
  socket.on('data', (chunk) => {
    answer += chunk.toString('latin1')
  })
  socket.on('error', (cause: NodeJS.ErrnoException) => {
    error = cause.code ?? cause.message
  })
  socket.on('close', resolve)
  socket.setTimeout(5000, () => socket.destroy())
  await closed
  return { answer, error, protocol, alpn: socket.alpnProtocol, shown }
}
