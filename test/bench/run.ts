// npm run bench: what the gateway costs on warm tokens, beside the same proxy without it, in one run.
import type { ChildProcess } from 'node:child_process'
import { spawn, spawnSync } from 'node:child_process'
import { createSign, generateKeyPairSync } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { load } from './load.ts'

const pairs = Number(process.env['BENCH_PAIRS'] ?? 7)
const runMs = Number(process.env['BENCH_MS'] ?? 4000)
const tokens = 2000
const connections = 64
const root = join(import.meta.dirname, '../..')
const directory = mkdtempSync(join(tmpdir(), 'postern-bench-'))
const children: ChildProcess[] = []
// /proc/PID/stat counts in these (getconf CLK_TCK).
const tickUs = 10_000

type Run = { readonly rate: number; readonly cpuUs: number; readonly p50: number; readonly p99: number }

try {
  const upstream = await start(['test/bench/upstream.ts'], 1, (line) => Number(line))
  const bare = await start(['test/bench/bare-proxy.ts', `http://127.0.0.1:${upstream.port}`], 0, (line) => Number(line))
  const heads = writeGateway(upstream.port)
  const gateway = await start(['src/main.ts', 'serve', '--config', join(directory, 'gateway.yaml')], 0, (line) =>
    line.includes('"started"') ? Number(/"proxy_port":(\d+)/.exec(line)?.[1]) : Number.NaN,
  )
  const contestants = [
    { name: 'node:http + undici, bare', ...bare, runs: [] as Run[] },
    { name: `gateway, ${tokens} warm JWTs`, ...gateway, runs: [] as Run[] },
  ]
  for (const { port } of contestants) await load(port, heads, connections, runMs)
  for (let pair = 0; pair < pairs; pair += 1) {
    // In turn, and the first one alternating: whatever the machine does meanwhile, it does to both.
    const order = pair % 2 === 0 ? contestants : contestants.toReversed()
    for (const { name, port, child, runs } of order) {
      say(`\r${pair + 1}/${pairs} ${name.padEnd(30)}`)
      const before = cpuTicks(child)
      const { requests, seconds, p50, p99, wrong } = await load(port, heads, connections, runMs)
      if (wrong > 0) throw new Error(`Cannot measure ${name}: ${wrong} answers were not 200`)
      runs.push({ rate: requests / seconds, cpuUs: ((cpuTicks(child) - before) * tickUs) / requests, p50, p99 })
    }
  }
  say(`\r${' '.repeat(50)}\r`)
  const [first, second] = contestants
  if (first === undefined || second === undefined) throw new Error('Cannot compare: no contestants')
  const rows = contestants.map(({ name, runs }) => [
    name,
    median(runs, 'rate').toFixed(0),
    spread(runs, 'rate'),
    median(runs, 'cpuUs').toFixed(1),
    spread(runs, 'cpuUs'),
    median(runs, 'p50').toFixed(2),
    median(runs, 'p99').toFixed(2),
  ])
  print([['contestant', 'requests/s', '(min-max)', 'CPU µs/request', '(min-max)', 'p50 ms', 'p99 ms'], ...rows])
  const rateRatio = medianOf(second.runs.map((run, at) => run.rate / (first.runs[at]?.rate ?? 1)))
  const cpuRatio = medianOf(second.runs.map((run, at) => (first.runs[at]?.cpuUs ?? 0) / run.cpuUs))
  const pinned = canPin() ? 'contestants on CPU 0, load and upstream on CPU 1' : 'nothing pinned'
  process.stdout.write(`\nratio gateway : bare, median of ${pairs} interleaved pairs of ${runMs} ms\n`)
  process.stdout.write(
    `  requests/s ${rateRatio.toFixed(2)}   CPU ${cpuRatio.toFixed(2)}   (${connections} connections, Node ${process.versions.node}, ${pinned})\n`,
  )
} finally {
  for (const child of children) child.kill('SIGKILL')
  rmSync(directory, { recursive: true, force: true })
}

/** Starts one process and waits for the line that names its port. */
async function start(
  args: readonly string[],
  cpu: number,
  portOf: (line: string) => number,
): Promise<{ port: number; child: ChildProcess }> {
  const command = canPin() ? ['taskset', '-c', String(cpu), process.execPath, ...args] : [process.execPath, ...args]
  const child = spawn(command[0] ?? '', command.slice(1), { cwd: root, stdio: ['ignore', 'pipe', 'inherit'] })
  children.push(child)
  const port = await new Promise<number>((resolve, reject) => {
    let text = ''
    child.on('exit', (code) => reject(new Error(`Cannot start ${args[0]}: it exited with ${code}`)))
    child.stdout?.on('data', (chunk: Buffer) => {
      // Read on, as a log collector would; only the start of it is looked at.
      if (text.length > 65_536) return
      text += chunk.toString('utf8')
      for (const line of text.split('\n').slice(0, -1)) {
        const found = portOf(line)
        if (found > 0) resolve(found)
      }
    })
  })
  return { port, child }
}

/** Writes a configuration with ten rules and a key set in a file; returns one request head per token. */
function writeGateway(upstreamPort: number): readonly Buffer[] {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const key = { ...publicKey.export({ format: 'jwk' }), kid: 'bench', use: 'sig', alg: 'ES256' }
  writeFileSync(join(directory, 'jwks.json'), JSON.stringify({ keys: [key] }))
  const rules = Array.from(
    { length: 10 },
    (_, at) => `  - { match: { methods: [GET], path: '/r${at}/{id}' }, scopes: [read] }`,
  )
  writeFileSync(
    join(directory, 'gateway.yaml'),
    [
      'version: 1',
      'listen: { proxy: "127.0.0.1:0", health: "127.0.0.1:0", admin: "127.0.0.1:0" }',
      `upstream: { url: "http://127.0.0.1:${upstreamPort}" }`,
      'issuers:',
      `  - { issuer: "https://bench.example", audience: api, jwks: { file: "${join(directory, 'jwks.json')}" } }`,
      'rules:',
      ...rules,
    ].join('\n'),
  )
  const now = Math.floor(Date.now() / 1000)
  return Array.from({ length: tokens }, (_, at) => {
    const header = encode({ typ: 'at+jwt', alg: 'ES256', kid: 'bench' })
    const claims = {
      iss: 'https://bench.example',
      aud: 'api',
      sub: `user-${at}`,
      client_id: 'web',
      scope: 'read write',
      iat: now,
      exp: now + 3600,
      jti: `token-${at}`,
    }
    const input = `${header}.${encode(claims)}`
    const signature = createSign('sha256').update(input).sign({ key: privateKey, dsaEncoding: 'ieee-p1363' })
    const token = `${input}.${signature.toString('base64url')}`
    return Buffer.from(
      `GET /r${at % 10}/${at} HTTP/1.1\r\nHost: api.example\r\nUser-Agent: bench\r\nAccept: */*\r\nAuthorization: Bearer ${token}\r\n\r\n`,
    )
  })
}

function encode(value: unknown): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url')
}

function canPin(): boolean {
  return spawnSync('taskset', ['-c', '1', 'true']).status === 0
}

/** User and system time of a process. */
function cpuTicks(child: ChildProcess): number {
  const fields = readFileSync(`/proc/${child.pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? []
  return Number(fields[11]) + Number(fields[12])
}

function median(runs: readonly Run[], name: keyof Run): number {
  return medianOf(runs.map((run) => run[name]))
}

function medianOf(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN
}

function spread(runs: readonly Run[], name: keyof Run): string {
  const values = runs.map((run) => run[name])
  return `${Math.min(...values).toFixed(0)}-${Math.max(...values).toFixed(0)}`
}

function print(rows: readonly (readonly string[])[]): void {
  const widths = rows[0]?.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0))) ?? []
  for (const row of rows) {
    const cells = row.map((cell, column) =>
      column === 0 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0),
    )
    process.stdout.write(`${cells.join('  ')}\n`)
  }
}

function say(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(text)
}
