// The contestant without a gateway: node:http in front, undici behind, nothing decided. Prints its port.
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Pool } from 'undici'

const pool = new Pool(process.argv[2] ?? '', { connections: 256, pipelining: 1 })
const hopByHop = new Set(['connection', 'keep-alive', 'transfer-encoding', 'upgrade', 'te', 'trailer'])

const server = createServer((request, response) => {
  const headers: string[] = []
  const raw = request.rawHeaders
  for (let at = 0; at + 1 < raw.length; at += 2)
    if (!hopByHop.has((raw[at] ?? '').toLowerCase())) headers.push(raw[at] ?? '', raw[at + 1] ?? '')
  pool.dispatch(
    { path: request.url ?? '/', method: request.method ?? 'GET', headers, body: null },
    {
      onRequestStart() {},
      onResponseStart(controller, status) {
        const lines: string[] = []
        for (const part of controller.rawHeaders as Buffer[]) lines.push(part.toString('latin1')) // undici's HTTP/1.1 gives a list
        const kept: string[] = []
        for (let at = 0; at + 1 < lines.length; at += 2)
          if (!hopByHop.has((lines[at] ?? '').toLowerCase())) kept.push(lines[at] ?? '', lines[at + 1] ?? '')
        response.writeHead(status, kept)
      },
      onResponseData(controller, chunk) {
        if (response.write(chunk)) return
        controller.pause()
        response.once('drain', () => controller.resume())
      },
      onResponseEnd: () => void response.end(),
      onResponseError: () => void response.destroy(),
    },
  )
})
server.listen(0, '127.0.0.1', () => {
  const { port } = server.address() as AddressInfo // listening on a port
  process.stdout.write(`${port}\n`)
})
