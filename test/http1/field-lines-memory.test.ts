import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { promisify } from 'node:util'

const execute = promisify(execFile)
const room = 1_000_000

// What the attacker does: with the room for names full, each round a new name is learnt behind one that is known, and the
// first line of a message is confirmed again. What leads from the old names to the new ones must go with the old ones.
const program = `
  const { readFieldLines } = await import('./src/http1/field-lines.ts')
  const limits = { bytes: 32768, one: 8192, count: 100 }
  const read = (text) => readFieldLines('request', text, 0, text.length, limits, [], [])
  const fill = (count) => read(Array.from({ length: count }, (_, at) => 'q' + at.toString(36) + ':\\r\\n').join(''))
  const heap = () => { gc(); gc(); return process.memoryUsage().heapUsed }
  const names = ['te', 'accept']
  const rounds = (count) => {
    for (let at = 0; at < count; at += 1) {
      read(names[0] + ': m' + at + '\\r\\n' + names[1] + ': ' + 'v'.repeat(220) + at + '\\r\\n')
      read('vary: anchor\\r\\n')
      fill(999)
      names.reverse()
    }
  }
  read('vary: anchor\\r\\nte: x\\r\\n')
  fill(998)
  read('vary: anchor\\r\\n')
  rounds(3000)
  const before = heap()
  rounds(3000)
  process.stdout.write(String(heap() - before))
`

test('readFieldLines() holds no more the longer somebody tries to have it remember', async () => {
  const { stdout } = await execute(process.execPath, ['--expose-gc', '--input-type=module', '-e', program])

  assert.ok(Number(stdout) < room, `${stdout} bytes more`)
})

// Texts cut out of a head keep all of it: what is remembered must be copies. The marks are put together as they are
// sent, so that they are nowhere else.
// What is said anew each time is cut out, what is said again is copied already.
const keeper = `
  const { writeHeapSnapshot } = await import('node:v8')
  const { readFileSync } = await import('node:fs')
  const { createLineFormatter } = await import('./src/http1/field-lines.ts')
  const { formatAnswerHead } = await import('./src/http1/message-writer.ts')
  const { readRequestHead } = await import('./src/http1/request-head.ts')
  const { readResponseHead } = await import('./src/http1/response-head.ts')
  const limits = { target: 8000, fields: { bytes: 32768, count: 100, one: 8192 } }
  const { format } = createLineFormatter()
  const mark = (what, at) => ['mark', what, at].join('-')
  const bytesOf = (text) => {
    const bytes = Buffer.allocUnsafeSlow(text.length)
    bytes.write(text, 'latin1')
    return bytes
  }
  const told = []
  const round = (at) => {
    const body = mark('body', at)
    const answer = bytesOf('HTTP/1.1 200 OK\\r\\nContent-Type: application/json; charset=utf-8\\r\\nServer: a-server-with-a-long-name/' + Math.max(at, 20) + '\\r\\nContent-Length: 7\\r\\n\\r\\n' + body)
    const head = readResponseHead(answer, 0, 'GET', limits)
    formatAnswerHead(head.status, head.reason, head.lines, '')
    answer.fill(0)
    const request = bytesOf('GET / HTTP/1.1\\r\\nX-Way-' + (at < 39 ? 1 : 99) + ': 1\\r\\nHost: www.a-host-with-a-long-name.test\\r\\nAuthorization: Bearer ' + mark('token', at) + '\\r\\nAccept: text/html,application/xhtml+xml\\r\\nCookie: a=' + mark('cookie', at) + '\\r\\n\\r\\n')
    const { lines } = readRequestHead(request, 0, limits)
    format([...lines.slice(2, 4), ...lines.slice(6, 8)])
    format(lines)
    request.fill(0)
    told.push(head.isKnown)
  }
  for (let at = 0; at < 40; at += 1) round(at)
  gc()
  gc()
  const file = writeHeapSnapshot(process.argv[1])
  const held = readFileSync(file, 'latin1').match(/mark-(?:body|token|cookie)-\\d+/g) ?? []
  process.stdout.write(JSON.stringify({ held, known: told.filter(Boolean).length }))
`

test('what is remembered of heads keeps nothing else of them', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'postern-heap-'))
  try {
    const args = ['--expose-gc', '--input-type=module', '-e', keeper, join(directory, 'a.heapsnapshot')]
    const { stdout } = await execute(process.execPath, args)

    const { held, known } = JSON.parse(stdout)
    assert.deepEqual(held, [])
    assert.ok(known > 10, `${known} heads were known again`)
  } finally {
    rmSync(directory, { recursive: true })
  }
})
