// The way to an upstream that speaks HTTP/2 under TLS: by ALPN, and only to whom its certificate names.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createSecureServer } from 'node:http2'
import { createServer as createOldServer } from 'node:https'
import type { AddressInfo, Server } from 'node:net'
import { test } from 'node:test'
import { createUpstreamContext } from '../../src/app/upstream/upstream-files.ts'
import { poolLimits, upstreamOptions } from '../../src/gates/options.ts'
import { createSocketOpener } from '../../src/http1/upstream-socket.ts'
import { createHttp2Upstream } from '../../src/http2/upstream-pool.ts'
import { openDoor } from '../gates/door.ts'
import type { Pair } from '../support/certificates.ts'
import { createAuthority, skipWithoutOpenssl } from '../support/certificates.ts'

function openServer(pair: Pair, protocol: 'h2' | 'http/1.1'): Server {
  if (protocol === 'http/1.1') return createOldServer(pair, (_, response) => response.end('old'))
  return createSecureServer(pair, (request, response) => {
    response.end(`${request.stream.session?.alpnProtocol} ${request.scheme}`)
  })
}

for (const { name, protocol, want } of [
  { name: 'localhost', protocol: 'h2', want: /^200 h2 https$/ },
  { name: 'other.test', protocol: 'h2', want: /^502 .*upstream_connect/ },
  { name: 'localhost', protocol: 'http/1.1', want: /^502 .*upstream_connect/ },
] as const) {
  test(`createHttp2Upstream() asks an upstream that should be ${name}, is localhost, and speaks ${protocol}`, {
    skip: skipWithoutOpenssl,
  }, async () => {
    using authority = createAuthority()
    const server = openServer(authority.issue('server'), protocol)
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const { port } = server.address() as AddressInfo // it listens on a port
    const context = createUpstreamContext({ ca: authority.ca, cert: undefined, key: undefined })
    const open = createSocketOpener({ host: '127.0.0.1', port }, { context: () => context, name }, 'h2')
    const list = [{ name: 'a', open }]
    const limits = poolLimits(upstreamOptions.parse({ url: 'https://localhost' }))
    await using door = await openDoor(port, undefined, {
      upstream: (deadlines) => createHttp2Upstream({ list: () => list }, limits, deadlines),
    })

    const response = await fetch(`http://127.0.0.1:${door.door.port}/a`)

    assert.match(`${response.status} ${await response.text()}`, want)
    server.close()
  })
}
