import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdtempSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { test } from 'node:test'
import { rootCertificates } from 'node:tls'
import { readConfiguration } from '../../src/app/configuration.ts'
import { readLocalList } from '../../src/app/local-list-file.ts'
import { createGatewayMetrics } from '../../src/app/metrics.ts'
import { createReloading } from '../../src/app/reloading.ts'
import { createLineWriter, createLog } from '../../src/io/log.ts'
import { createKnownTokens } from '../../src/sources/known-tokens.ts'
import type { World } from '../acceptance/harness.ts'
import { openWorld } from '../acceptance/harness.ts'
import { until } from '../support/until.ts'

const clock = { wallMs: Date.now, monotonicMs: () => performance.now() }
const certificate = rootCertificates[0] ?? ''

function folder(): Disposable & { readonly at: (name: string) => string } {
  const made = mkdtempSync(path.join(tmpdir(), 'postern-'))
  return { at: (name) => path.join(made, name), [Symbol.dispose]: () => rmSync(made, { recursive: true }) }
}

/** A good configuration; it names a file at one of the places where it may. */
function naming(place: string, file: string): string {
  const issuer = {
    issuer: 'https://issuer.test',
    audience: 'orders-api',
    introspection: { client_id: 'gateway', client_secret: place === 'secret' ? { file } : { env: 'SECRET' } },
    http: place === 'issuer ca' ? { ca: { file } } : {},
    jwks: place === 'keys' ? { file } : {},
  }
  return JSON.stringify({
    version: 1,
    upstream: { url: 'https://127.0.0.1:9', ...(place === 'upstream ca' ? { tls: { ca: { file } } } : {}) },
    blacklist: place === 'list' ? { local: { file } } : {},
    issuers: [issuer],
    rules: [{ match: { path: '/orders' }, scopes: ['orders:read'] }],
  })
}

/** Starts with a good configuration; every other one is what `text` says by then. */
function start(
  text: () => string,
  readFile: (path: string) => Buffer = (path) => readFileSync(path),
  atStart = naming('nowhere', ''),
  env: Record<string, string> = { SECRET: 'secret' },
) {
  const powers = { clock, env, readFile, fileMode: (path: string) => statSync(path).mode }
  const first = readConfiguration({ file: 'gateway.yaml', read: () => atStart }, powers)
  if (first.kind === 'refused') throw new Error(first.problems.map(({ message }) => message).join('; '))
  let logged = ''
  const write = (chunk: Buffer | string, done: () => void) => {
    logged += chunk.toString()
    done()
  }
  const writer = createLineWriter({}, { write })
  const log = createLog({ stream: 'main' }, { writer, clock })
  const counted = createGatewayMetrics()
  const reloading = createReloading({ file: 'gateway.yaml', read: text }, first, {
    ...powers,
    ...{ log, counted, random: Math.random, randomBytes, secret: () => () => 'secret' },
    known: createKnownTokens(clock.monotonicMs),
    certificates: undefined,
    reloaded: () => {},
  })
  const outcomes = () => outcomesOf((series) => counted.metrics.snapshot().get(series) ?? 0)
  const lines = async () => {
    await writer.flush()
    return logged.trimEnd().split('\n')
  }
  return { ...reloading, outcomes, lines, [Symbol.dispose]: reloading.close }
}

for (const { place, before, good } of [
  { place: 'list', before: undefined, good: 'version: 1\nentries: []\n' },
  { place: 'list', before: 'version: 1\nentries: [{}]\n', good: 'version: 1\nentries: []\n' },
  { place: 'secret', before: undefined, good: 'secret' },
  { place: 'secret', before: '', good: 'secret' },
  { place: 'upstream ca', before: undefined, good: certificate },
  { place: 'upstream ca', before: 'x', good: certificate },
  { place: 'issuer ca', before: 'x', good: certificate },
  { place: 'keys', before: undefined, good: '{"keys":[]}' },
])
  test(`createReloading() loads what it has refused as soon as the ${place} is good: ${before === undefined ? 'it was not there' : `it was ${JSON.stringify(before)}`}`, async () => {
    using named = folder()
    const file = named.at('named')
    if (before !== undefined) writeFileSync(file, before, { mode: 0o600 })
    using it = start(() => naming(place, file))
    assert.equal(it.reload(), 'refused')
    assert.notEqual(it.refusal(), undefined)
    const { hash } = it.running().configuration

    writeFileSync(named.at('new'), good, { mode: 0o600 })
    renameSync(named.at('new'), file)
    await until(() => it.refusal() === undefined, 'the reload')

    assert.notEqual(it.running().configuration.hash, hash)
    assert.deepEqual(it.outcomes(), [1, 1])
  })

test('createReloading() sees a file that comes while the configuration that names it is being refused', () => {
  using named = folder()
  const file = named.at('list')
  using it = start(
    () => naming('list', file),
    (wanted) => {
      try {
        return readFileSync(wanted)
      } finally {
        writeFileSync(file, 'version: 1\nentries: []\n')
      }
    },
  )

  assert.equal(it.reload(), 'reloaded')
})

test('createReloading() heeds nothing of what only a configuration before named, and nothing once it is closed', async () => {
  using named = folder()
  const [one, two] = [named.at('one'), named.at('two')]
  let text = naming('list', one)
  using it = start(() => text)
  assert.equal(it.reload(), 'refused')
  text = naming('list', two)
  assert.equal(it.reload(), 'refused')

  writeFileSync(one, 'x')
  writeFileSync(two, 'x')
  await until(() => it.outcomes()[1] === 3, 'the change')
  it.close()
  writeFileSync(two, 'y')
  await new Promise((resolve) => setTimeout(resolve, 300))

  assert.deepEqual(it.outcomes(), [0, 3])
})

test('createReloading() takes up at its watch what has changed before, and from then on every change', async () => {
  using named = folder()
  const file = named.at('list')
  const change = (value: string) => writeFileSync(file, `version: 1\nentries: [{ kind: sub, value: ${value} }]\n`)
  change('alice')
  const text = naming('list', file)
  using it = start(() => text, readFileSync, text)
  change('bob')

  it.watch()
  assert.deepEqual(it.outcomes(), [1, 0])
  change('carol')
  await until(() => it.outcomes()[0] === 2, 'the reload')
  it.close()
  change('dave')
  await new Promise((resolve) => setTimeout(resolve, 300))

  assert.deepEqual(it.outcomes(), [2, 0])
})

test('createReloading() watches at once a file that only the configuration just loaded names', async () => {
  using named = folder()
  const file = named.at('list')
  writeFileSync(file, 'version: 1\nentries: []\n')
  using it = start(() => naming('list', file))
  it.watch()
  assert.deepEqual(it.outcomes(), [1, 0])

  writeFileSync(file, 'version: 1\nentries: [{ kind: sub, value: mallory }]\n')
  await until(() => it.outcomes()[0] === 2, 'the reload')
})

test('createReloading() says of the last content how it is, though it comes while the one before is taken up', async () => {
  using named = folder()
  const file = named.at('list')
  writeFileSync(file, 'version: 1\nentries: []\n')
  const text = naming('list', file)
  let breaks = false
  const read = (path: string) => {
    const bytes = readFileSync(path)
    if (breaks) writeFileSync(file, 'nonsense')
    breaks = false
    return bytes
  }
  using it = start(() => text, read, text)
  it.watch()
  writeFileSync(file, 'version: 1\nentries: [{ kind: sub, value: mallory }]\n')
  breaks = true

  assert.equal(it.reload(), 'reloaded')
  assert.equal(it.refusal(), undefined)

  await until(() => it.outcomes()[1] === 1, 'the broken one')
  assert.ok(it.refusal() !== undefined)
})

test('createReloading() tells which sections wait for a restart, by what it was started with', () => {
  const changed = (drain: object) => JSON.stringify({ ...JSON.parse(naming('nowhere', '')), drain })
  let text = changed({ delay: '1s' })
  using it = start(() => text)

  assert.equal(it.reload(), 'reloaded')
  assert.deepEqual(it.restart(), ['drain'])
  assert.equal(it.reload(), 'unchanged')
  assert.deepEqual(it.restart(), ['drain'])
  text = naming('nowhere', '')
  assert.equal(it.reload(), 'reloaded')
  assert.deepEqual(it.restart(), [])
})

test('startApp() loads a configuration that it has refused as soon as the files it names are good', async () => {
  using named = folder()
  const file = named.at('denied.yaml')
  await using world = await openWorld()
  const token = world.mint({ claims: { sub: 'mallory' } })
  const outcomes = async () => [(await world.ask({ path: '/any/x', token })).reason, countsOf(world)]
  const change = () =>
    world.reload((configuration) => {
      configuration['blacklist'] = { local: { file } }
    })

  assert.throws(change, { actual: 'refused' })
  assert.deepEqual(await outcomes(), ['ok', [0, 1]])
  writeFileSync(file, 'version: 1\nentries: [{ kind: subject, value: mallory }]\n')
  await until(() => countsOf(world)[1] === 2, 'the second refusal')
  assert.deepEqual(await outcomes(), ['ok', [0, 2]])
  writeFileSync(file, 'version: 1\nentries: [{ kind: sub, value: mallory }]\n')
  await until(() => countsOf(world)[0] === 1, 'the reload')

  assert.deepEqual(await outcomes(), ['token_revoked', [1, 2]])
})

for (const { broken, because } of [
  { broken: { drian: {} }, because: 'it has a slip' },
  {
    broken: { upstream: { url: 'http://127.0.0.1:9', tls: { ca: { file: '/gone' } } } },
    because: 'a file it names is gone',
  },
])
  test(`startApp() revokes by the operator's list alone while the rest of a configuration is refused: ${because}`, async () => {
    using named = folder()
    const file = named.at('denied.yaml')
    writeFileSync(file, 'version: 1\nentries: []\n')
    await using world = await openWorld()
    world.reload((configuration) => {
      configuration['blacklist'] = { local: { file } }
    })
    const token = world.mint({ claims: { sub: 'mallory' } })
    const reason = async () => (await world.ask({ path: '/any/x', token })).reason
    const change = () => world.reload((configuration) => Object.assign(configuration, broken))
    assert.throws(change, { actual: 'refused' })
    assert.equal(await reason(), 'ok')

    const reasons: (string | undefined)[] = []
    for (const entries of ['[{ kind: sub, value: mallory }]', 'nonsense', '[]']) {
      const [, failures = 0] = countsOf(world)
      writeFileSync(file, `version: 1\nentries: ${entries}\n`)
      await until(() => (countsOf(world)[1] ?? 0) > failures, 'the list to be read')
      reasons.push(await reason())
    }

    // A bad list takes down no good one, and half of a change takes nothing away.
    assert.deepEqual(reasons, ['token_revoked', 'token_revoked', 'token_revoked'])
    assert.equal(countsOf(world)[0], 1, 'the configuration is refused all the same')
  })

test('createReloading() logs once what a SIGHUP and the watch of files find at the same time, and counts both', async () => {
  let text = naming('nowhere', '').replace('upstream', 'upstraem')
  using it = start(() => text)

  it.reload()
  it.reload()
  text = text.replace('issuers', 'isuers')
  it.reload()

  const refused = (await it.lines()).filter((line) => line.includes('config_refused'))
  assert.deepEqual(
    refused.map((line) => /no such key, did you mean \\"(\w+)/.exec(line)?.[1]),
    ['upstream', 'upstream', 'issuers'],
  )
  assert.deepEqual(it.outcomes(), [0, 3])
})

test('createReloading() logs what it refuses again, however soon, where it has loaded something good in between', async () => {
  const good = naming('nowhere', '')
  const bad = good.replace('upstream', 'upstraem')
  let text = bad
  using it = start(() => text)

  for (text of [bad, good, bad, bad]) it.reload()

  const events = (await it.lines()).map((line) => /config_(?:refused|reloaded)/.exec(line)?.[0])
  assert.deepEqual(events, ['config_refused', 'config_reloaded', 'config_refused'])
})

test('createReloading() judges a text once that is refused whatever else changes, and each time where a file may', () => {
  using named = folder()
  // biome-ignore lint/suspicious/noTemplateCurlyInString: it is what the configuration writes.
  const lookedAt = '${LOOKED_AT}'
  const bad = naming('nowhere', '').replace('upstream', 'upstraem').replace('orders-api', lookedAt)
  let looks = 0
  const env = {
    SECRET: 'secret',
    get LOOKED_AT() {
      looks += 1
      return 'orders-api'
    },
  }
  let text = bad
  using it = start(() => text, readFileSync, undefined, env)
  const looksOf = (outcome: string) => {
    const before = looks
    assert.equal(it.reload(), outcome)
    return looks - before
  }

  const same = [looksOf('refused'), looksOf('refused')]
  text = `${bad} `
  const other = looksOf('refused')
  text = naming('nowhere', '').replace('orders-api', lookedAt)
  const good = [looksOf('reloaded'), looksOf('unchanged')]
  text = bad
  const again = looksOf('refused')
  text = naming('secret', named.at('secret')).replace('orders-api', lookedAt)
  const missing = looksOf('refused')
  writeFileSync(named.at('secret'), 'hunter2', { mode: 0o600 })
  const there = looksOf('reloaded')

  assert.deepEqual([same, other, good, again], [[1, 0], 1, [1, 1], 1])
  assert.ok(missing > 0 && there > 0)
})

test('createReloading() says which list is in force while the rest of a configuration is refused', () => {
  using named = folder()
  const file = named.at('list')
  const deny = (entries: string) => writeFileSync(file, `version: 1\nentries: ${entries}\n`)
  deny('[]')
  const good = naming('list', file)
  let text = good
  using it = start(() => text, readFileSync, good)
  const tell = () => {
    it.reload()
    const { hash, localList } = it.running().configuration
    return { said: it.refusal()?.replace(/^.*; /, ''), entries: localList.entries.length, hash }
  }
  const before = tell()

  text = text.replace('upstream', 'upstraem')
  const kept = tell()
  deny('[{ kind: sub, value: mallory }]')
  const swapped = tell()
  deny('nonsense')
  const refused = tell()
  deny('[{ kind: sub, value: eve }]')
  const both = tell()
  const again = tell()
  deny('nonsense')
  text = good
  const bad = tell()
  deny('[{ kind: sub, value: mallory }]')
  const mended = tell()

  const inForce = `the list in use, ${file}: its entries are in force`
  const old = `the list in use, ${file}, stays as it was, too`
  assert.deepEqual(kept, { ...before, said: inForce })
  assert.deepEqual([swapped.said, swapped.entries], [inForce, 1])
  assert.equal(swapped.hash.slice(0, 64), before.hash.slice(0, 64), 'the text is the old one')
  assert.deepEqual(refused, { ...swapped, said: old })
  const more = `${inForce}, and so are 1 that it had before, until the configuration loads`
  assert.deepEqual([both.said, both.entries], [more, 2])
  assert.deepEqual(again, both)
  assert.deepEqual(bad, { ...both, said: old })
  assert.deepEqual(mended, { ...swapped, said: undefined })
})

test('createReloading() takes a list that it has refused for an issuer that is none of ours once the configuration has it', () => {
  using named = folder()
  const file = named.at('list')
  writeFileSync(file, '{"version":1,"entries":[]}')
  const good = naming('list', file)
  let text = good
  using it = start(() => text, readFileSync, good)
  const issuer = 'https://other.test'
  writeFileSync(file, JSON.stringify({ version: 1, entries: [{ issuer, kind: 'sub', value: 'mallory' }] }))
  const before = it.reload()

  const { issuers, ...rest } = JSON.parse(good) as { readonly issuers: readonly [object] } // as `naming` has written it
  text = JSON.stringify({ ...rest, issuers: [...issuers, { ...issuers[0], issuer }] })
  const after = it.reload()

  assert.deepEqual([before, after], ['refused', 'reloaded'])
  assert.equal(it.running().configuration.localList.entries.length, 1)
})

test('createReloading() says of a list that is loaded alone only that the workers are handed it, where there are any', () => {
  using named = folder()
  const file = named.at('list')
  writeFileSync(file, 'version: 1\nentries: []\n')
  const good = naming('list', file).replace('"version":1', '"version":1,"workers":2')
  using it = start(() => good.replace('upstream', 'upstraem'), readFileSync, good)
  writeFileSync(file, 'version: 1\nentries: [{ kind: sub, value: mallory }]\n')

  it.reload()

  assert.match(it.refusal() ?? '', /: its entries are loaded and handed to the workers$/)
})

test('createReloading() judges a list that it refuses once, however often it looks at the same one, and again when it is another', () => {
  using named = folder()
  const [file, secret] = [named.at('list'), named.at('secret')]
  const deny = (kind: string) => writeFileSync(file, `version: 1\nentries: [{ kind: ${kind}, value: "\${NAME}" }]\n`)
  let judged = 0
  const env = {
    SECRET: 'secret',
    get NAME() {
      judged += 1
      return 'mallory'
    },
  }
  deny('sub')
  const good = naming('list', file)
  let text = good
  using it = start(() => text, readFileSync, good, env)
  const judgedFor = (act: () => void) => {
    const before = judged
    act()
    return judged - before
  }
  const once = judgedFor(() => readFirst())

  const refused = judgedFor(() => {
    deny('ip')
    it.reload()
    it.reload()
    // One that names a file besides is read twice by itself.
    writeFileSync(secret, 'secret', { mode: 0o600 })
    text = text.replace('"env":"SECRET"', `"file":${JSON.stringify(secret)}`)
    it.reload()
  })
  const another = judgedFor(() => {
    deny('ips')
    it.reload()
  })
  const mended = judgedFor(() => {
    deny('sid')
    it.reload()
  })

  assert.ok(once > 0)
  assert.deepEqual([refused, another, mended], [once, once, once])
  assert.equal(it.refusal(), undefined)

  function readFirst() {
    const powers = { env, readFile: readFileSync }
    const options = it.running().configuration.options
    assert.equal(readLocalList(file, options, powers).kind, 'loaded')
  }
})

test('createReloading() puts a list that changes nothing in force together once', () => {
  using named = folder()
  const file = named.at('list')
  const deny = (...names: string[]) =>
    writeFileSync(file, JSON.stringify({ version: 1, entries: names.map((value) => ({ kind: 'sub', value })) }))
  deny('mallory')
  const good = naming('list', file)
  using it = start(() => good.replace('upstream', 'upstraem'), readFileSync, good)
  deny('eve')
  it.reload()
  deny()
  it.reload()
  const { configuration } = it.running()

  it.reload()

  assert.equal(it.running().configuration, configuration, 'the very same, not another that is equal')
  assert.equal(configuration.merged?.kept, 2)
})

test('createReloading() says how many entries of before have no room beside a new list, until the whole is loaded', async () => {
  using named = folder()
  const file = named.at('list')
  // Three of these are more than 24 MiB.
  const deny = (prefix: string) => {
    const entries = Array.from({ length: 11_000 }, (_, at) => ({
      kind: 'jti',
      value: `${prefix}${at}${'a'.repeat(1000)}`,
    }))
    writeFileSync(file, JSON.stringify({ version: 1, entries }))
  }
  deny('a')
  const good = naming('list', file)
  using it = start(() => good.replace('upstream', 'upstraem'), readFileSync, good)

  for (const prefix of ['b', 'c']) {
    deny(prefix)
    it.reload()
  }

  const leftOut = 33_000 - it.running().configuration.localList.entries.length
  assert.ok(leftOut > 0)
  const lost = new RegExp(`; for ${leftOut} more that it had before there was no room: they are not in force`)
  assert.match(it.refusal() ?? '', lost)
  writeFileSync(file, 'nonsense')
  it.reload()
  assert.match(it.refusal() ?? '', lost)
  writeFileSync(file, '{"version":1,"entries":[{"kind":"sub","value":"d"}]}')
  it.reload()
  assert.match(it.refusal() ?? '', lost)
  const told = (await it.lines()).filter((line) => line.includes('local_list_reloaded'))
  assert.match(told[0] ?? '', /"INFO".*"kept":11000,"left_out":0/)
  assert.match(told[1] ?? '', new RegExp(`"WARN".*"entries":11000,.*"left_out":${leftOut}`))
  assert.match(told[2] ?? '', new RegExp(`"WARN".*"entries":1,.*"left_out":${leftOut}`))
})

test('createReloading() warns of a list that refuses what is still to be issued, whenever that is another list', async () => {
  using named = folder()
  const file = named.at('list')
  const until = (year: number) =>
    writeFileSync(file, `version: 1\nentries: [{ kind: issued_before, value: "*", issued_before: ${year}-01-01 }]\n`)
  const good = naming('list', file)
  let text = good
  until(2100)
  using it = start(() => text, readFileSync, good)

  it.reload()
  until(2101)
  it.reload()
  until(2020)
  it.reload()
  text = text.replace('upstream', 'upstraem')
  it.reload()
  until(2102)
  it.reload()
  it.reload()

  const told = (await it.lines()).filter((line) => line.includes('local_list_ahead'))
  assert.equal(told.length, 3, told.join('\n'))
  assert.match(told[2] ?? '', /"WARN".*"file":".*\/list","at":"entries\.0\.issued_before"/)
})

test('createReloading() warns of a list that names what no token has, and tells no value of it', async () => {
  using named = folder()
  const file = named.at('list')
  const list = (values: string) => writeFileSync(file, `version: 1\nentries: [${values}]\n`)
  const good = naming('list', file)
  list('{ kind: sub, value: mallory }')
  using it = start(() => good, readFileSync, good)

  list(
    '{ kind: sub, value: mallory }, { kind: client, value: "web-*" }, { kind: jti, value: eyJhbGciOiJub25lIn0.e30.AAAA }',
  )
  it.reload()
  it.reload()

  const told = (await it.lines()).filter((line) => line.includes('local_list_value'))
  assert.deepEqual(
    told.map((line) => /"WARN".*"file":".*\/list","at":"([^"]*)"/.exec(line)?.[1]),
    ['entries.1.value', 'entries.2.value'],
  )
  assert.doesNotMatch(told.join(), /web-|eyJ/)
})

function countsOf(world: World): readonly number[] {
  return outcomesOf(world.count)
}

/** How often a configuration was loaded, and how often refused. */
function outcomesOf(count: (series: string) => number): readonly number[] {
  return ['success', 'failure'].map((result) => count(`postern_config_reloads_total{result="${result}"}`))
}
