// gRPC from end to end: its own client, the gateway as a process, its own server.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type {
  ClientReadableStream,
  ServerDuplexStream,
  ServerReadableStream,
  ServerUnaryCall,
  ServerWritableStream,
  ServiceDefinition,
  StatusObject,
  sendUnaryData,
} from '@grpc/grpc-js'
import { Client, credentials, Metadata, Server, ServerCredentials, status } from '@grpc/grpc-js'
import type { GatewayProcess } from '../support/gateway-process.ts'
import { startGatewayProcess } from '../support/gateway-process.ts'
import { sendJson, startStub } from '../support/stub-server.ts'
import { accessClaims, createSigner } from '../support/tokens.ts'

const asIs = (bytes: Buffer) => bytes
const method = (name: string, requestStream: boolean, responseStream: boolean) => ({
  ...{ path: `/echo.Echo/${name}`, requestStream, responseStream },
  ...{ requestSerialize: asIs, requestDeserialize: asIs, responseSerialize: asIs, responseDeserialize: asIs },
})
const definition = {
  unary: method('Unary', false, false),
  collect: method('Collect', true, false),
  count: method('Count', false, true),
  chat: method('Chat', true, true),
  fail: method('Fail', false, false),
} as const satisfies ServiceDefinition
type Done = sendUnaryData<Buffer>
const signer = createSigner('a')
const rules = [
  { id: 'echo', match: { methods: ['POST'], path: '/echo.Echo/{method}' }, scopes: ['echo'] },
  { id: 'open', match: { methods: ['POST'], path: '/open.Echo/{method}' }, public: true },
]

type World = AsyncDisposable & {
  readonly gateway: GatewayProcess
  readonly client: Client
  /** Metadata with a token of this scope. */
  readonly tokenOf: (scope: string) => Metadata
  /** Subjects as the server was told them. */
  readonly callers: string[]
  readonly stopServer: () => void
}

async function openWorld(): Promise<World> {
  const callers: string[] = []
  const server = new Server()
  const trailer = new Metadata()
  trailer.set('x-last', 'words')
  server.addService(definition, {
    unary(call: ServerUnaryCall<Buffer, Buffer>, done: Done) {
      callers.push(String(call.metadata.get('x-auth-subject')[0]))
      done(null, Buffer.from(`got ${call.request}`), trailer)
    },
    collect(call: ServerReadableStream<Buffer, Buffer>, done: Done) {
      let bytes = 0
      call.on('data', (chunk: Buffer) => {
        bytes += chunk.length
      })
      call.on('end', () => done(null, Buffer.from(`got ${bytes}`)))
    },
    count(call: ServerWritableStream<Buffer, Buffer>) {
      for (let at = 0; at < 100; at += 1) call.write(Buffer.from(String(at)))
      call.end(trailer)
    },
    chat(call: ServerDuplexStream<Buffer, Buffer>) {
      call.on('data', (chunk: Buffer) => call.write(Buffer.from(`got ${chunk}`)))
      call.on('end', () => call.end())
      call.on('error', () => {})
    },
    fail: (_: unknown, done: Done) => done({ code: status.NOT_FOUND, details: 'no such thing: ä', metadata: trailer }),
  })
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    )
  })
  const keys = await startStub({ '/jwks': (response) => sendJson(response, { keys: [signer.jwk] }) })
  const gateway = await startGatewayProcess({
    upstream: { url: `http://127.0.0.1:${port}`, protocol: 'h2' },
    issuers: [{ issuer: keys.url, jwks_uri: `${keys.url}/jwks`, audience: 'orders-api' }],
    rules,
  })
  await gateway.ready()
  const client = new Client(`127.0.0.1:${gateway.proxyPort}`, credentials.createInsecure())
  return {
    gateway,
    client,
    callers,
    tokenOf(scope) {
      const metadata = new Metadata()
      const nowS = Math.floor(Date.now() / 1000)
      metadata.set('authorization', `Bearer ${signer.sign(accessClaims(keys.url, nowS, { scope }))}`)
      return metadata
    },
    stopServer: () => server.forceShutdown(),
    async [Symbol.asyncDispose]() {
      client.close()
      server.forceShutdown()
      await gateway[Symbol.asyncDispose]()
      keys[Symbol.dispose]()
    },
  }
}

type Outcome = { readonly code: number; readonly text: string; readonly last: unknown }

/** Makes a unary call. */
function call({ client }: World, path: string, text: string, metadata: Metadata): Promise<Outcome> {
  return new Promise((resolve) => {
    let got = ''
    const made = client.makeUnaryRequest(path, asIs, asIs, Buffer.from(text), metadata, (_, value) => {
      got = String(value ?? '')
    })
    made.on('status', ({ code, details, metadata: trailers }: StatusObject) =>
      resolve({ code, text: code === 0 ? got : details, last: trailers.get('x-last')[0] }),
    )
  })
}

/** Reads a stream of messages to its end. */
async function readAll(stream: ClientReadableStream<Buffer>): Promise<{ texts: string[]; code: number }> {
  const texts: string[] = []
  stream.on('data', (chunk: Buffer) => texts.push(String(chunk)))
  stream.on('error', () => {})
  const code = await new Promise<number>((resolve) => stream.on('status', (told) => resolve(told.code)))
  return { texts, code }
}

test('a gRPC call passes with a good token: unary, both streams, chat, and an error of the service', async () => {
  await using world = await openWorld()
  const token = world.tokenOf('echo')

  assert.deepEqual(await call(world, '/echo.Echo/Unary', 'hello', token), { code: 0, text: 'got hello', last: 'words' })
  assert.deepEqual(world.callers, ['alice'])
  assert.deepEqual(await call(world, '/echo.Echo/Fail', '', token), {
    code: status.NOT_FOUND,
    text: 'no such thing: ä',
    last: 'words',
  })

  const collected = await new Promise<string>((resolve, reject) => {
    const sink = world.client.makeClientStreamRequest('/echo.Echo/Collect', asIs, asIs, token, (error, value) =>
      error === null ? resolve(String(value)) : reject(error),
    )
    for (let at = 0; at < 50; at += 1) sink.write(Buffer.alloc(20_000))
    sink.end()
  })
  assert.equal(collected, 'got 1000000')

  const counted = await readAll(
    world.client.makeServerStreamRequest('/echo.Echo/Count', asIs, asIs, Buffer.alloc(0), token),
  )
  assert.deepEqual(counted, { texts: Array.from({ length: 100 }, (_, at) => String(at)), code: 0 })

  const chat = world.client.makeBidiStreamRequest('/echo.Echo/Chat', asIs, asIs, token)
  const said = readAll(chat)
  for (const text of ['a', 'b', 'c']) {
    // Each is answered before the next is said: nothing waits for company.
    const answered = new Promise((resolve) => chat.once('data', resolve))
    chat.write(Buffer.from(text))
    await answered
  }
  chat.end()
  assert.deepEqual(await said, { texts: ['got a', 'got b', 'got c'], code: 0 })
})

test("a gRPC call is denied in gRPC's words", async () => {
  await using world = await openWorld()
  const none = new Metadata()
  const spaced = new Metadata()
  spaced.set('authorization', 'Bearer a b')
  const junk = new Metadata()
  junk.set('authorization', 'Bearer eyJ.a.b')
  const large = new Metadata()
  for (let at = 0; at < 101; at += 1) large.set(`x-${at}`, 'a')
  const odd = new Metadata()
  odd.set('expect', 'miracles')

  const said = async (path: string, metadata: Metadata) => {
    const { code, text } = await call(world, path, 'hello', metadata)
    return [code, text]
  }

  assert.deepEqual(await said('/echo.Echo/Unary', none), [status.UNAUTHENTICATED, 'token_missing'])
  assert.deepEqual(await said('/echo.Echo/Unary', junk), [status.UNAUTHENTICATED, 'jwt_malformed'])
  assert.deepEqual(await said('/echo.Echo/Unary', world.tokenOf('other')), [status.PERMISSION_DENIED, 'scope_missing'])
  assert.deepEqual(await said('/other.Echo/Unary', none), [status.PERMISSION_DENIED, 'no_rule'])
  assert.deepEqual(await said('/open.Echo/%2e', none), [status.INVALID_ARGUMENT, 'path_rejected'])
  assert.deepEqual(await said('/echo.Echo/Unary', odd), [status.INVALID_ARGUMENT, 'request_malformed'])
  assert.deepEqual(await said('/echo.Echo/Unary', large), [status.RESOURCE_EXHAUSTED, 'too_large'])
  assert.deepEqual(await said(`/${'a'.repeat(9000)}`, none), [status.RESOURCE_EXHAUSTED, 'too_large'])
  assert.deepEqual(await said('/echo.Echo/Unary', spaced), [status.INVALID_ARGUMENT, 'token_malformed'])
  assert.deepEqual(world.callers, [])

  const counted = world.client.makeServerStreamRequest('/echo.Echo/Count', asIs, asIs, Buffer.alloc(0), none)
  assert.deepEqual(await readAll(counted), { texts: [], code: status.UNAUTHENTICATED })
  const chat = world.client.makeBidiStreamRequest('/echo.Echo/Chat', asIs, asIs, none)
  chat.write(Buffer.from('a'))
  assert.deepEqual(await readAll(chat), { texts: [], code: status.UNAUTHENTICATED })

  world.stopServer()
  assert.deepEqual(await said('/echo.Echo/Unary', world.tokenOf('echo')), [status.UNAVAILABLE, 'upstream_connect'])
})

test('a gRPC call that its client cancels is cancelled at the service', async () => {
  await using world = await openWorld()
  const chat = world.client.makeBidiStreamRequest('/echo.Echo/Chat', asIs, asIs, world.tokenOf('echo'))
  const ended = readAll(chat)
  chat.write(Buffer.from('a'))
  await new Promise((resolve) => chat.once('data', resolve))

  chat.cancel()

  assert.equal((await ended).code, status.CANCELLED)
  assert.equal((await call(world, '/echo.Echo/Unary', 'hello', world.tokenOf('echo'))).code, 0)
})
