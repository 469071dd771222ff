import assert from 'node:assert/strict'
import { test } from 'node:test'
import { deny } from '../../src/decision/decision.ts'
import { isGrpcCall, isGrpcType, respond, send } from '../../src/gates/respond.ts'
import type { AnswerSink } from '../../src/http1/exchange.ts'

/** What a client is told of a denial. */
function told(denial: Parameters<typeof send>[1], isGrpc: boolean) {
  const seen: unknown[] = []
  const sink: Pick<AnswerSink, 'begin' | 'write' | 'end'> = {
    begin: (status, _reason, lines, framing) => void seen.push(status, lines, framing),
    write: (chunk) => seen.push(String(chunk)) > 0,
    end: (trailers) => void seen.push(trailers),
  }
  send(sink as AnswerSink, denial, isGrpc) // all of one that a whole answer needs
  return seen
}

for (const { retryAfterS, says } of [
  { retryAfterS: undefined, says: '1' },
  { retryAfterS: 7, says: '7' },
])
  test(`respond() says Retry-After: ${says} where what is asked is away for ${retryAfterS ?? 'who knows how many'} seconds`, () => {
    const { headers } = respond({ ...deny('introspection_unavailable'), retryAfterS })

    assert.equal(headers[headers.indexOf('Retry-After') + 1], says)
  })

test('send() tells a gRPC call all that the denial says, but nothing of a body that it does not get', () => {
  assert.deepEqual(told({ ...respond(deny('keys_unavailable')), reason: 'away' }, true), [
    200,
    [
      ...['Content-Type', 'application/grpc', 'Grpc-Status', '14', 'Grpc-Message', 'away'],
      ...['Cache-Control', 'no-store', 'Retry-After', '1'],
    ],
    'none',
    [],
  ])
})

test('isGrpcType() knows the type of gRPC with whatever it holds, and no other type', () => {
  for (const type of ['application/grpc', 'application/grpc+proto', 'application/grpc-web'])
    assert.equal(isGrpcType(type), true, type)
  for (const type of ['', 'grpc', 'application/grpcish', 'application/grp', 'x-application/grpc', 'application/json'])
    assert.equal(isGrpcType(type), false, type)
})

test('isGrpcCall() takes no request in HTTP/1.1 for a call: it could not read how that ended', () => {
  const lines = ['Content-Type', 'application/grpc']

  assert.equal(isGrpcCall({ version: '2', lines }), true)
  assert.equal(isGrpcCall({ version: '1.1', lines }), false)
})
