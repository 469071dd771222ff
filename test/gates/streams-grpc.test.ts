import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { ServerDuplexStream, StatusObject } from '@grpc/grpc-js'
import { Client, credentials, Metadata, Server, ServerCredentials, status } from '@grpc/grpc-js'
import { until } from '../support/until.ts'
import type { Scene } from './stream-scene.ts'
import { openScene } from './stream-scene.ts'

const asIs = (bytes: Buffer) => bytes
const path = '/plain/Chat'
const chat = {
  ...{ path, requestStream: true, responseStream: true },
  ...{ requestSerialize: asIs, requestDeserialize: asIs, responseSerialize: asIs, responseDeserialize: asIs },
}

/** A service that answers each message, and says how many of its calls are open and how many were cancelled. */
async function openChatService(): Promise<AsyncDisposable & { port: number; calls: { open: number; gone: number } }> {
  const server = new Server()
  const calls = { open: 0, gone: 0 }
  server.addService(
    { chat },
    {
      chat(call: ServerDuplexStream<Buffer, Buffer>) {
        calls.open += 1
        call.on('data', (chunk: Buffer) => call.write(Buffer.from(`got ${chunk}`)))
        call.on('end', () => call.end())
        call.on('cancelled', () => {
          calls.gone += 1
        })
        call.on('error', () => {})
      },
    },
  )
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    )
  })
  return { port, calls, [Symbol.asyncDispose]: async () => server.forceShutdown() }
}

/** A client of the scene, whose calls have tokens of their own. */
function openClient(scene: Scene) {
  const client = new Client(`127.0.0.1:${scene.port}`, credentials.createInsecure())
  const open = (jti: string) => {
    const metadata = new Metadata()
    metadata.set('authorization', `Bearer ${scene.mint({ jti })}`)
    const call = client.makeBidiStreamRequest(path, asIs, asIs, metadata)
    const got: string[] = []
    call.on('data', (chunk: Buffer) => got.push(String(chunk)))
    call.on('error', () => {})
    const ended = new Promise<StatusObject>((resolve) => call.on('status', resolve))
    return { call, got, ended }
  }
  return { client, open }
}

for (const hasAnswer of [true, false]) {
  const when = hasAnswer ? 'that is under way' : 'that has no answer yet'
  test(`createStreams() ends a gRPC call ${when} with UNAUTHENTICATED when its token is revoked, and cancels it at the service`, async () => {
    await using service = await openChatService()
    await using scene = await openScene(service.port, {
      upstream: { url: `http://127.0.0.1:${service.port}`, protocol: 'h2' },
      rules: [{ match: { path: '/plain/**' }, scopes: ['read'] }],
    })
    const { client, open } = openClient(scene)
    const doomed = open('doomed')
    const spared = open('spared')
    if (hasAnswer) {
      doomed.call.write(Buffer.from('hello'))
      await until(() => doomed.got.length === 1, 'the answer')
    }
    await until(() => service.calls.open === 2, 'both calls')
    scene.revoke('doomed')

    const { code, details } = await doomed.ended
    assert.deepEqual([code, details], [status.UNAUTHENTICATED, 'token_revoked'])
    await until(() => service.calls.gone === 1, 'the service to be told')
    spared.call.write(Buffer.from('still here'))
    await until(() => spared.got.length === 1, 'the answer to the other call, on the same session')
    assert.deepEqual(spared.got, ['got still here'])
    await until(() => scene.lines(path).length === 1, 'the line')
    assert.deepEqual(
      scene.lines(path).map((line) => line['reason']),
      ['token_revoked'],
    )
    assert.equal(scene.count('postern_streams_ended_total{kind="grpc",reason="token_revoked"}'), 1)
    client.close()
  })
}

const ends = [
  { what: 'at the end of a drain', end: (scene: Scene) => scene.app.drain(), details: 'shutdown' },
  { what: 'when its service is gone', end: (_: Scene, gone: () => void) => gone(), details: 'upstream_reset' },
] as const
for (const { what, end, details } of ends) {
  test(`createForwarder() ends a gRPC call that is under way with UNAVAILABLE ${what}`, async () => {
    const service = await openChatService()
    await using scene = await openScene(service.port, {
      upstream: { url: `http://127.0.0.1:${service.port}`, protocol: 'h2' },
      rules: [{ match: { path: '/plain/**' }, scopes: ['read'] }],
    })
    const { client, open } = openClient(scene)
    const calls = [open('a'), open('b')]
    for (const { call } of calls) call.write(Buffer.from('hello'))
    await until(() => calls.every(({ got }) => got.length === 1), 'the answers')

    const over = end(scene, () => void service[Symbol.asyncDispose]())

    for (const { ended } of calls) {
      const { code, details: said } = await ended
      assert.deepEqual([code, said], [status.UNAVAILABLE, details])
    }
    await over
    client.close()
    await service[Symbol.asyncDispose]()
  })
}
