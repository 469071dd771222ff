// The stack most often seen: express, express-oauth2-jwt-bearer, http-proxy-middleware. Prints its port.
import type { Server } from 'node:http'
import { Agent } from 'node:http'
import type { AddressInfo } from 'node:net'
import { loadPackage } from '../packages.ts'
import { audience, issuer } from '../tokens.ts'
import type { NodeSettings } from './node-program.ts'

type Handler = (...args: readonly unknown[]) => unknown
type Express = {
  readonly default: () => {
    readonly use: (handler: Handler) => unknown
    readonly disable: (name: string) => unknown
    readonly listen: (port: number, host: string, ready: () => void) => Server
  }
}
type Bearer = {
  readonly auth: (options: {
    readonly issuer: string
    readonly audience: string
    readonly jwksUri: string
    readonly tokenSigningAlg: string
  }) => Handler
}
type Proxy = {
  readonly createProxyMiddleware: (options: { readonly target: string; readonly agent: Agent }) => Handler
}

const { upstream, jwksUri } = JSON.parse(process.argv[2] ?? '') as NodeSettings // the bench's own words
const { default: express } = await loadPackage<Express>('express')
const { auth } = await loadPackage<Bearer>('express-oauth2-jwt-bearer')
const { createProxyMiddleware } = await loadPackage<Proxy>('http-proxy-middleware')

const app = express()
app.disable('x-powered-by')
app.use(auth({ issuer, audience, jwksUri, tokenSigningAlg: 'RS256' }))
app.use(createProxyMiddleware({ target: upstream, agent: new Agent({ keepAlive: true, maxSockets: 256 }) }))
const server = app.listen(0, '127.0.0.1', () => {
  const { port } = server.address() as AddressInfo // listening on a port
  process.stdout.write(`${port}\n`)
})
