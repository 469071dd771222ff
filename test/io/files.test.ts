import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import {
  chmodSync,
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { SecretDeps } from '../../src/io/files.ts'
import { createFileReader, readSecret, SecretRefused, saidOfUnreadable, watchFiles } from '../../src/io/files.ts'
import { until } from '../support/until.ts'

const clock = { wallMs: () => 0, monotonicMs: () => performance.now() }
const never = 3_600_000

function directory() {
  const path = mkdtempSync(join(tmpdir(), 'postern-files-'))
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) }
}

/** What a process reads of paths, one after the other, whose stdin is that of a shell's command; it is ended after 10 s. */
function readInProcess(command: string, paths: readonly string[]): readonly string[] {
  const script = `
    const { createFileReader } = await import(${JSON.stringify(join(import.meta.dirname, '../../src/io/files.ts'))})
    const read = createFileReader()
    for (const path of ${JSON.stringify(paths)})
      try { console.log(read(path).toString()) } catch (error) { console.log(error.code) }`
  const args = ['-c', command.replace('NODE', 'exec "$0" --input-type=module --eval "$1"'), process.execPath, script]
  return spawnSync('sh', args, { timeout: 10_000, encoding: 'utf8', maxBuffer: 2 * tooLarge })
    .stdout.split('\n')
    .slice(0, -1)
}

test('createFileReader() reads a regular file, finds /dev/null empty, and leaves other errors to the system', () => {
  using files = directory()
  const file = join(files.path, 'file')
  writeFileSync(file, 'text')
  const read = createFileReader()

  assert.equal(read(file).toString(), 'text')
  assert.equal(read('/dev/null').toString(), '')
  assert.throws(() => read(files.path), { code: 'EISDIR' })
  assert.throws(() => read(join(files.path, 'absent')), { code: 'ENOENT' })
})

test('createFileReader() refuses a pipe at once, whether somebody holds its other end or nobody does', () => {
  using files = directory()
  const pipe = join(files.path, 'pipe')

  assert.deepEqual(readInProcess(`mkfifo '${pipe}'; NODE`, [pipe, pipe]), Array(2).fill('ERR_NO_REGULAR_FILE'))
  assert.deepEqual(readInProcess(`exec 3<>'${pipe}'; NODE`, [pipe]), ['ERR_NO_REGULAR_FILE'])
})

test('createFileReader() waits for a pipe that the process was started with, and once', () => {
  for (const path of ['/dev/stdin', '/dev/fd/0', '/proc/self/fd/0'])
    assert.deepEqual(readInProcess('(sleep 0.1; printf text) | NODE', [path, path]), ['text', 'ERR_NO_REGULAR_FILE'])
})

test('createFileReader() reads a regular file as often as asked, also as stdin', () => {
  using files = directory()
  const file = join(files.path, 'file')
  writeFileSync(file, 'text')

  assert.deepEqual(readInProcess(`NODE < '${file}'`, ['/dev/stdin', '/dev/stdin']), ['text', 'text'])
})

const tooLarge = 16_777_217

test('createFileReader() reads a file of 16 MiB, and nothing of one that is larger', () => {
  using files = directory()
  const [largest, larger] = [join(files.path, 'largest'), join(files.path, 'larger')]
  writeFileSync(largest, '')
  truncateSync(largest, tooLarge - 1)
  writeFileSync(larger, '')
  // Read, it would take all memory.
  truncateSync(larger, 2 ** 34)
  const read = createFileReader()

  assert.equal(read(largest).length, tooLarge - 1)
  assert.throws(() => read(larger), { code: 'ERR_FILE_TOO_LARGE' })
})

test('createFileReader() closes what it has read, and what it refuses', () => {
  using files = directory()
  const [file, larger] = [join(files.path, 'file'), join(files.path, 'larger')]
  for (const each of [file, larger]) writeFileSync(each, 'text')
  truncateSync(larger, tooLarge)
  const read = createFileReader()
  const nextDescriptor = () => {
    const next = openSync('/dev/null', 'r')
    closeSync(next)
    return next
  }
  const before = nextDescriptor()

  read(file)
  assert.throws(() => read(larger), { code: 'ERR_FILE_TOO_LARGE' })
  assert.throws(() => read(files.path), { code: 'EISDIR' })

  assert.equal(nextDescriptor(), before)
})

test('createFileReader() stops reading what has no end, a device or a pipe that the process was started with', () => {
  assert.deepEqual(readInProcess('NODE', ['/dev/zero']), ['ERR_FILE_TOO_LARGE'])
  assert.deepEqual(readInProcess('cat /dev/zero | NODE', ['/dev/stdin']), ['ERR_FILE_TOO_LARGE'])
  const whole = readInProcess(`head -c ${tooLarge - 1} /dev/zero | tr '\\0' a | NODE`, ['/dev/stdin'])
  assert.deepEqual(
    whole.map(({ length }) => length),
    [tooLarge - 1],
  )
})

test('saidOfUnreadable() says how large a file may be, and otherwise the code of the system', () => {
  using files = directory()
  const larger = join(files.path, 'larger')
  writeFileSync(larger, '')
  truncateSync(larger, tooLarge)
  const read = createFileReader()
  const saidOf = (path: string) => {
    try {
      return `read ${read(path).length} bytes`
    } catch (error) {
      return saidOfUnreadable(error)
    }
  }

  assert.equal(saidOf(larger), 'cannot be read (it is larger than 16777216 bytes)')
  assert.equal(saidOf(join(files.path, 'absent')), 'cannot be read (ENOENT)')
})

test('watchFiles() sees each change of a file that is too large to be read, and that it is no longer so', () => {
  using root = directory()
  const file = join(root.path, 'list')
  writeFileSync(file, 'small')
  let told = 0
  const onChange = () => {
    told += 1
  }
  const watch = watchFiles(() => [file], { clock, pollMs: never, onChange })
  const toldOf = (act: () => void) => {
    told = 0
    act()
    watch.check()
    watch.check()
    return told
  }

  const other = join(root.path, 'other')
  const make = (path: string, size: number, timeS: number) => {
    writeFileSync(path, '')
    truncateSync(path, size)
    utimesSync(path, timeS, timeS)
  }

  const counts = [
    toldOf(() => make(file, 2 ** 34, 1)),
    toldOf(() => {}),
    // Its size alone, its time alone, its inode alone.
    toldOf(() => make(file, 2 ** 35, 1)),
    toldOf(() => make(file, 2 ** 35, 2)),
    toldOf(() => {
      make(other, 2 ** 35, 2)
      renameSync(other, file)
    }),
    toldOf(() => writeFileSync(file, 'small')),
  ]

  watch.close()
  assert.deepEqual(counts, [1, 0, 1, 1, 1, 1])
})

const secrets = [
  { holds: 's3cret', is: 's3cret', because: 'it is taken as it is' },
  { holds: 's3cret\n', is: 's3cret', because: "a trailing newline is the editor's" },
  { holds: 's3cret\r\n', is: 's3cret', because: 'also where newlines are two' },
  { holds: ' s3 cret \n\n', is: ' s3 cret \n', because: 'only one is cut, and no space' },
] as const
for (const { holds, is, because } of secrets) {
  test(`readSecret() reads ${JSON.stringify(holds)} from a file and from the environment: ${because}`, () => {
    const deps = { env: { S: holds }, readFile: () => Buffer.from(holds), mode: () => 0o100440 }

    assert.equal(readSecret({ file: '/s' }, deps), is)
    assert.equal(readSecret({ env: 'S' }, deps), is)
  })
}

const absent = () => {
  throw Object.assign(new Error('hunter2'), { code: 'ENOENT' })
}
const good: SecretDeps = { env: { EMPTY: '\n' }, readFile: () => Buffer.from('hunter2'), mode: () => 0o100600 }
const refusedSecrets = [
  { source: { file: '/s' }, deps: { ...good, mode: () => 0o100644 }, because: 'everybody may read the file' },
  { source: { file: '/s' }, deps: { ...good, mode: absent }, because: 'there is no file' },
  { source: { file: '/s' }, deps: { ...good, readFile: absent }, because: 'the file cannot be read' },
  { source: { file: '/s' }, deps: { ...good, readFile: () => Buffer.from('\n') }, because: 'the file is empty' },
  {
    source: { file: '/s' },
    deps: { ...good, readFile: () => Buffer.from('hunter2\xff', 'latin1') },
    because: 'it is not UTF-8',
  },
  {
    source: { file: '/s' },
    deps: { ...good, readFile: () => Buffer.alloc(65_537, 'hunter2') },
    because: 'it is over 64 KiB',
  },
  { source: { env: 'UNSET' }, deps: good, because: 'the variable is not set' },
  { source: { env: 'toString' }, deps: good, because: 'what every object has is no variable' },
  { source: { env: 'EMPTY' }, deps: good, because: 'the variable is empty' },
] as const
for (const { source, deps, because } of refusedSecrets) {
  test(`readSecret() refuses ${JSON.stringify(source)} and does not show it: ${because}`, () => {
    assert.throws(
      () => readSecret(source, deps),
      (error) =>
        error instanceof SecretRefused && error.code === 'ERR_SECRET_REFUSED' && !error.message.includes('hunter2'),
    )
  })
}

/** A ConfigMap volume as kubelet writes it: file → ..data/file, ..data → a dated directory, swapped by rename. */
function configMap(root: string, content: string) {
  let generation = 0
  swap(content)
  symlinkSync('..data/gateway.yaml', join(root, 'gateway.yaml'))
  return { file: join(root, 'gateway.yaml'), swap }

  function swap(next: string): void {
    const before = join(root, `..2026_${generation}`)
    generation += 1
    mkdirSync(join(root, `..2026_${generation}`))
    writeFileSync(join(root, `..2026_${generation}`, 'gateway.yaml'), next)
    symlinkSync(`..2026_${generation}`, join(root, '..data_tmp'))
    renameSync(join(root, '..data_tmp'), join(root, '..data'))
    rmSync(before, { recursive: true, force: true })
  }
}

for (const { name, pollMs } of [
  { name: 'by the hint of the directory', pollMs: never },
  { name: 'by the poll', pollMs: 20 },
]) {
  test(`watchFiles() sees a ConfigMap swapped three times in a row, ${name}`, async () => {
    using root = directory()
    const volume = configMap(root.path, 'a')
    const told: string[][] = []
    const watch = watchFiles(() => [volume.file], { clock, pollMs, onChange: (changed) => told.push([...changed]) })

    for (const [at, content] of ['b', 'c', 'd'].entries()) {
      volume.swap(content)
      await until(() => told.length === at + 1, 'the change to be told')
    }
    volume.swap('d')
    await sleep(200)
    watch.close()

    assert.deepEqual(told, [[volume.file], [volume.file], [volume.file]])
  })

  test(`watchFiles() sees that a file may be read by fewer, ${name}`, async () => {
    using root = directory()
    const file = join(root.path, 'secret')
    writeFileSync(file, 'a', { mode: 0o644 })
    let told = 0
    const watch = watchFiles(() => [file], { clock, pollMs, onChange: () => (told += 1) })

    chmodSync(file, 0o600)

    await until(() => told === 1, 'the change to be told')
    watch.close()
  })

  test(`watchFiles() sees an editor's rename-save, twice, ${name}`, async () => {
    using root = directory()
    const file = join(root.path, 'gateway.yaml')
    writeFileSync(file, 'a')
    let told = 0
    const watch = watchFiles(() => [file], {
      clock,
      pollMs,
      onChange: () => {
        told += 1
      },
    })

    for (const [at, content] of ['b', 'c'].entries()) {
      writeFileSync(`${file}~`, content)
      renameSync(`${file}~`, file)
      await until(() => told === at + 1, 'the change to be told')
    }
    watch.close()
  })
}

test('watchFiles() check() tells changes at once and only once, among them a file that vanished and came back', () => {
  using root = directory()
  const [a, b] = [join(root.path, 'a'), join(root.path, 'b')]
  writeFileSync(a, '1')
  const told: (readonly string[])[] = []
  const watch = watchFiles(() => [a, b, a], { clock, pollMs: never, onChange: (changed) => told.push(changed) })

  watch.check()
  assert.deepEqual(told, [])
  rmSync(a)
  watch.check()
  watch.check()
  assert.deepEqual(told, [[a]])
  writeFileSync(a, '1')
  writeFileSync(b, '2')
  watch.check()
  assert.deepEqual(told, [[a], [a, b]])
  watch.close()
})

test('watchFiles() check() takes no file for vanished that it cannot read for want of descriptors', {
  skip: process.platform !== 'linux' && 'prlimit is of Linux',
}, () => {
  using root = directory()
  const file = join(root.path, 'file')
  writeFileSync(file, '1')
  const script = `
    import { closeSync, openSync, writeFileSync } from 'node:fs'
    import { watchFiles } from ${JSON.stringify(join(import.meta.dirname, '../../src/io/files.ts'))}
    const file = ${JSON.stringify(file)}
    let told = 0
    const clock = { wallMs: () => 0, monotonicMs: () => performance.now() }
    const watch = watchFiles(() => [file], { clock, pollMs: ${never}, onChange: () => { told += 1 } })
    const open = []
    try { for (;;) open.push(openSync('/dev/null')) } catch (error) { console.log(error.code) }
    watch.check()
    console.log(told)
    open.forEach((fd) => closeSync(fd))
    watch.check()
    console.log(told)
    writeFileSync(file, '2')
    watch.check()
    console.log(told)
    watch.close()`

  const args = ['--nofile=100', process.execPath, '--input-type=module', '--eval', script]
  const { stdout, stderr } = spawnSync('prlimit', args, { timeout: 10_000, encoding: 'utf8', maxBuffer: 2 * tooLarge })

  assert.equal(stdout, 'EMFILE\n0\n0\n1\n', stderr)
})

test('watchFiles() takes a path that a reload adds as it is, and forgets one that it drops', () => {
  using root = directory()
  const [a, b] = [join(root.path, 'a'), join(root.path, 'b')]
  writeFileSync(a, '1')
  writeFileSync(b, '1')
  let paths = [a]
  const told: (readonly string[])[] = []
  const watch = watchFiles(() => paths, { clock, pollMs: never, onChange: (changed) => told.push(changed) })

  paths = [b]
  writeFileSync(a, '2')
  watch.check()
  assert.deepEqual(told, [])
  writeFileSync(b, '2')
  watch.check()
  assert.deepEqual(told, [[b]])
  watch.close()
})

test('watchFiles() goes on when its directory is deleted and made again', async () => {
  using root = directory()
  const file = join(root.path, 'etc', 'gateway.yaml')
  mkdirSync(join(root.path, 'etc'))
  writeFileSync(file, 'a')
  let told = 0
  const watch = watchFiles(() => [file], {
    clock,
    pollMs: 20,
    onChange: () => {
      told += 1
    },
  })

  rmSync(join(root.path, 'etc'), { recursive: true })
  await until(() => told === 1, 'the change to be told')
  mkdirSync(join(root.path, 'etc'))
  writeFileSync(file, 'a')
  await until(() => told === 2, 'the second change to be told')
  watch.close()
})

test('watchFiles() is not put off for ever by a directory that is never quiet', async () => {
  using root = directory()
  const file = join(root.path, 'gateway.yaml')
  writeFileSync(file, 'a')
  let told = 0
  const watch = watchFiles(() => [file], {
    clock,
    pollMs: never,
    onChange: () => {
      told += 1
    },
  })

  writeFileSync(file, 'b')
  const endMs = performance.now() + 3000
  for (let at = 0; told === 0 && performance.now() < endMs; at += 1) {
    writeFileSync(join(root.path, 'noise'), String(at))
    await sleep(20)
  }
  watch.close()

  assert.equal(told, 1)
})

test('watchFiles() does not throw for paths that cannot be read: absent, a directory, under a file', () => {
  using root = directory()
  writeFileSync(join(root.path, 'file'), '')
  const paths = ['/nowhere/at/all', root.path, join(root.path, 'file', 'below'), '']
  const watch = watchFiles(() => paths, { clock, pollMs: never, onChange: () => assert.fail('nothing changed') })

  watch.check()
  watch.close()
})

test('watchFiles() close() ends it: no later change is told, and closing twice is no error', async () => {
  using root = directory()
  const file = join(root.path, 'gateway.yaml')
  writeFileSync(file, 'a')
  const watch = watchFiles(() => [file], { clock, pollMs: 10, onChange: () => assert.fail('told after close') })

  watch.close()
  watch.close()
  writeFileSync(file, 'b')
  watch.check()
  await sleep(150)
})
