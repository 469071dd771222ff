// `postern issuer` as a process: what it logs, and the signals it gets.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { rmSync } from 'node:fs'
import { test } from 'node:test'
import { until } from '../support/until.ts'
import { directory, start } from './process.ts'

type Line = Readonly<Record<string, unknown>>

/** An issuer with a store on disk, and the lines of its log by their event. */
async function startIssuer(files: ReturnType<typeof directory>) {
  const config = files.write(
    'issuer.yaml',
    `version: 1
listen: 127.0.0.1:0
store: { sqlite: ${files.path}/store.db }
realms:
  - name: main
    audience: api
    clients: [{ client_id: web, client_secret: web-secret-1, access_token_type: reference }]
`,
  )
  const started = start(['issuer', '--config', config, '--dev'])
  const lines = (event: string) =>
    started
      .stdout()
      .split('\n')
      .filter((line) => line.includes(`"${event}"`))
      .map((line) => JSON.parse(line) as Line) // our own log: one object a line
  await until(() => lines('issuer_started').length > 0 || started.child.exitCode !== null, 'the issuer to start')
  const port = String(lines('issuer_started')[0]?.['port'])
  return { ...started, lines, url: `http://127.0.0.1:${port}/main` }
}

test('postern issuer goes on after a SIGHUP, and says that it has ignored it', async () => {
  using files = directory()
  using issuer = await startIssuer(files)

  issuer.child.kill('SIGHUP')
  await until(() => issuer.lines('issuer_signal_ignored').length > 0 || issuer.child.signalCode !== null, 'the word')

  assert.equal(issuer.child.signalCode, null)
  assert.equal((await fetch(`${issuer.url}/jwks`)).status, 200)
})

test('postern issuer says no 200 for what goes into a store that somebody has deleted, and ends', async () => {
  using files = directory()
  using issuer = await startIssuer(files)
  rmSync(`${files.path}/store.db`)

  const { status } = await fetch(`${issuer.url}/token`, {
    method: 'POST',
    headers: { authorization: `Basic ${btoa('web:web-secret-1')}` },
    body: new URLSearchParams({ grant_type: 'client_credentials' }),
  })

  assert.equal(status, 503)
  assert.equal(await issuer.ended, 1)
  assert.match(issuer.stderr(), /store\.db is no more the file that was opened/)
})

test('postern issuer logs a store that cannot be written as an error, and demonstration keys as a warning', {
  skip: process.platform !== 'linux',
}, async () => {
  using files = directory()
  using issuer = await startIssuer(files)
  execFileSync('prlimit', [`--pid=${issuer.child.pid}`, '--fsize=1'])

  const { status } = await fetch(`${issuer.url}/token`, {
    method: 'POST',
    headers: { authorization: `Basic ${btoa('web:web-secret-1')}` },
    body: new URLSearchParams({ grant_type: 'client_credentials' }),
  })

  assert.equal(status, 503)
  await until(() => issuer.lines('issuer_store_unavailable').length > 0, 'the line')
  const severity = (event: string) => issuer.lines(event)[0]?.['severity_text']
  assert.equal(severity('issuer_store_unavailable'), 'ERROR')
  assert.equal(severity('issuer_demo_keys'), 'WARN')
  assert.equal(severity('issuer_started'), 'INFO')
})
