// A service that takes bodies: reads each whole, then answers 200, as cheaply as Node can. Prints its port.
import type { AddressInfo, Socket } from 'node:net'
import { createServer } from 'node:net'

const answer = 'HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok'

function serve(socket: Socket): void {
  let head = ''
  let bodyLeft = 0
  socket.setNoDelay(true)
  socket.on('error', () => socket.destroy())
  socket.on('data', take)

  function take(chunk: Buffer): void {
    if (bodyLeft >= chunk.length && chunk.length > 0) {
      bodyLeft -= chunk.length
      if (bodyLeft === 0) socket.write(answer)
      return
    }
    const rest = chunk.subarray(bodyLeft)
    if (bodyLeft > 0) socket.write(answer)
    bodyLeft = 0
    if (rest.length > 0) begin(rest)
  }

  function begin(chunk: Buffer): void {
    head += chunk.toString('latin1')
    const end = head.indexOf('\r\n\r\n')
    if (end === -1) return
    const length = Number(/\r\ncontent-length: *(\d+)/i.exec(head.slice(0, end))?.[1] ?? 0)
    // A body of unknown length is not sent here; taken for none, it would be read as the next request.
    if (/\r\ntransfer-encoding:/i.test(head.slice(0, end))) return void socket.destroy()
    const rest = Buffer.from(head.slice(end + 4), 'latin1')
    head = ''
    bodyLeft = length
    if (length === 0) socket.write(answer)
    if (rest.length > 0) take(rest)
  }
}

const server = createServer(serve)
server.listen(0, '127.0.0.1', () => {
  const { port } = server.address() as AddressInfo // listening on a port
  process.stdout.write(`${port}\n`)
})
