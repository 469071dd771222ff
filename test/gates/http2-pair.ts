// A door and an upstream that can be told to wait, and how one asks at the door in frames.
import assert from 'node:assert/strict'
import type { ServerResponse } from 'node:http'
import type { ServerLimits } from '../../src/http1/limits.ts'
import type { Frame, FrameClient } from '../support/h2-frames.ts'
import { flags, frame, requestFields } from '../support/h2-frames.ts'
import { openDoor, openUpstream } from './door.ts'

/** Fields of a request that is answered at once, and of one that waits. */
export const plain = requestFields('/a')
export const slow = requestFields('/slow')

/** A door, and an upstream that answers at once, or under `/slow` when it is told to. */
export async function openPair(limits: Partial<ServerLimits> = {}) {
  const waiting: ServerResponse[] = []
  let aborted = 0
  const upstream = await openUpstream((request, response) => {
    request.on('error', () => {})
    response.on('close', () => {
      if (!response.writableFinished) aborted += 1
    })
    request.resume()
    if (request.url === '/slow') waiting.push(response)
    else if (request.url === '/big') response.end(Buffer.alloc(1_000_000))
    else request.on('end', () => response.end('ok'))
  })
  const door = await openDoor(upstream.port, undefined, { limits })
  return {
    door,
    port: door.door.port,
    waiting,
    aborted: () => aborted,
    async [Symbol.asyncDispose]() {
      await door[Symbol.asyncDispose]()
      await upstream[Symbol.asyncDispose]()
      assert.deepEqual(door.failures, [])
    },
  }
}

/** Resolves with the code of the GOAWAY that ends a session, once it is closed. */
export async function endOf(client: FrameClient): Promise<number | undefined> {
  await client.closed
  return client.frames.findLast(({ type }) => type === 'goaway')?.payload.readUInt32BE(4)
}

/** Whether a frame is a GOAWAY. */
export const isGoaway = ({ type }: Frame) => type === 'goaway'
const isPong = ({ type, flags: flag }: Frame) => type === 'ping' && (flag & flags.ack) !== 0

/** Resolves once all that was sent before is read. */
export async function settled(client: FrameClient): Promise<void> {
  // Another each time: one that was answered before tells nothing.
  const token = Buffer.from(String(client.frames.length).padStart(8))
  client.send(frame('ping', 0, 0, token))
  await client.frame((each) => isPong(each) && each.payload.equals(token))
}
