// The service behind every contestant: answers each request head with the same 100 bytes, as cheaply as Node can. Prints its port.
import type { AddressInfo } from 'node:net'
import { createServer } from 'node:net'

const body = 'x'.repeat(100)
const answer = Buffer.from(
  `HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
)

const server = createServer((socket) => {
  let seen = ''
  socket.setNoDelay(true)
  socket.on('error', () => socket.destroy())
  socket.on('data', (chunk) => {
    seen += chunk.toString('latin1')
    for (let end = seen.indexOf('\r\n\r\n'); end !== -1; end = seen.indexOf('\r\n\r\n')) {
      seen = seen.slice(end + 4)
      socket.write(answer)
    }
  })
})
server.listen(0, '127.0.0.1', () => {
  const { port } = server.address() as AddressInfo // listening on a port
  process.stdout.write(`${port}\n`)
})
