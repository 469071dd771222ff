// The fast stack on Node: fastify, fast-jwt with its cache, @fastify/http-proxy on undici. Prints its port.
import { readFileSync } from 'node:fs'
import { loadPackage } from '../packages.ts'
import { audience, issuer } from '../tokens.ts'
import type { NodeSettings } from './node-program.ts'

type Request = { readonly headers: { readonly authorization?: string } }
type Reply = { readonly code: (status: number) => { readonly send: (body: unknown) => void } }
type Fastify = {
  readonly default: () => {
    readonly register: (plugin: unknown, options: Readonly<Record<string, unknown>>) => unknown
    readonly listen: (options: { readonly port: number; readonly host: string }) => Promise<string>
  }
}
type FastJwt = {
  readonly createVerifier: (options: Readonly<Record<string, unknown>>) => (token: string) => unknown
}

const { upstream, publicKeyFile, cacheSize } = JSON.parse(process.argv[2] ?? '') as NodeSettings // the bench's own words
const { default: fastify } = await loadPackage<Fastify>('fastify')
const { createVerifier } = await loadPackage<FastJwt>('fast-jwt')
const { default: httpProxy } = await loadPackage<{ readonly default: unknown }>('@fastify/http-proxy')

const verify = createVerifier({
  key: readFileSync(publicKeyFile),
  algorithms: ['RS256'],
  allowedIss: issuer,
  allowedAud: audience,
  cache: cacheSize,
})
const app = fastify()
app.register(httpProxy, {
  upstream,
  undici: { connections: 256, pipelining: 1 },
  preHandler(request: Request, reply: Reply, done: () => void) {
    const [, token] = /^Bearer ([^ ]+)$/.exec(request.headers.authorization ?? '') ?? []
    try {
      if (token === undefined) throw new TypeError('Cannot verify: there is no token')
      verify(token)
    } catch {
      return reply.code(401).send({ error: 'invalid_token' })
    }
    done()
  },
})
const address = await app.listen({ port: 0, host: '127.0.0.1' })
process.stdout.write(`${new URL(address).port}\n`)
