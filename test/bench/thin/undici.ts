// What this proxy uses of undici, which is no package of the product.
import { loadPackage } from '../packages.ts'

/** A request under way. */
export type Controller = {
  readonly rawHeaders: readonly Buffer[]
  readonly pause: () => void
  readonly resume: () => void
  readonly abort: (error: Error) => void
}

/** Is told what happens to a request. */
export type Handler = {
  readonly onRequestStart: (controller: Controller) => void
  readonly onResponseStart: (controller: Controller, status: number) => void
  readonly onResponseData: (controller: Controller, chunk: Buffer) => void
  readonly onResponseEnd: () => void
  readonly onResponseError: (controller: Controller, error: Error) => void
}

/** Connections to one origin. */
export type Pool = {
  readonly dispatch: (
    options: {
      readonly path: string
      readonly method: string
      readonly headers: readonly string[]
      readonly body: unknown
    },
    handler: Handler,
  ) => boolean
}

/** Makes a pool with the limits of the gateway's own connections. */
export async function createPool(origin: string): Promise<Pool> {
  const { Pool } = await loadPackage<{ readonly Pool: new (origin: string, options: object) => Pool }>('undici')
  return new Pool(origin, {
    connections: 256,
    pipelining: 1,
    allowH2: false,
    connect: { timeout: 2000 },
    headersTimeout: 30_000,
    bodyTimeout: 60_000,
    keepAliveTimeout: 4000,
    maxHeaderSize: 65_536,
  })
}
