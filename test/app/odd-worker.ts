// A worker process as none of ours is: it does what `ODD_WORKER` says.
import process from 'node:process'
import { createOutput } from '../../src/io/log.ts'

const send = (message: unknown) => new Promise((resolve) => process.send?.(message, resolve))

switch (process.env['ODD_WORKER']) {
  case 'nonsense':
    await send({ kind: 'hello', more: 'than that' })
    break
  case 'deaf':
    // Its event loop stands still for good: nothing is read.
    await send({ kind: 'hello' })
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)
    break
  case 'logging': {
    const lines = Array.from({ length: 5000 }, (_, at) => `line ${at} ${'x'.repeat(100)}`)
    await new Promise((resolve) => createOutput(1).write(Buffer.from([...lines, 'begun, and'].join('\n')), resolve))
    process.exit(0)
    break
  }
  default:
    for (let open = 0; open < 500; open += 1) void send({ kind: 'connections', through: 500, lost: [], open })
    await send({ kind: 'drained', cutOff: 7 })
    process.exit(0)
}
