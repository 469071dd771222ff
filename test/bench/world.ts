// What all contestants of a run share: keys, tokens, the services behind them, and a directory for their files.
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { run } from './processes.ts'
import type { WarmRequests } from './requests.ts'
import { coldTokens, warmTokens, writeLines, writeRequests } from './requests.ts'
import { createSigner, mint } from './tokens.ts'
import { startAnswers, startStub } from './upstream.ts'

/** Tokens a contestant must tell apart before it is measured. */
export type Proof = { readonly good: string; readonly bad: Readonly<Record<string, string>> }

/** Files of requests, as `load/requests.lua` reads them. */
export type Requests = WarmRequests & {
  /** Of tokens that no contestant has seen: a file for each round, the warm-up first. */
  readonly cold: { readonly rs256: readonly string[]; readonly es256: readonly string[] }
}

/** What all contestants of a run share. */
export type World = AsyncDisposable & {
  readonly directory: string
  /** Writes a file for a contestant; returns its path. */
  readonly write: (name: string, text: string) => string
  /** Origins, such as `http://127.0.0.1:3000`. */
  readonly answers: string
  readonly sink: string
  readonly issuerStub: string
  readonly files: {
    readonly jwks: string
    readonly rs256: string
    readonly es256: string
    /** Certificate and key for TLS, PEM; undefined where openssl is missing. */
    readonly certificate: { readonly cert: string; readonly key: string } | undefined
  }
  readonly requests: Requests
  readonly proofs: Readonly<Record<'rs256' | 'es256' | 'opaque' | 'scoped', Proof>>
}

/** Makes the world of a run; `coldRounds` may be 0. Disposing of it ends what it started. */
export async function createWorld(coldRounds: number): Promise<World> {
  const directory = mkdtempSync(join(tmpdir(), 'postern-bench-'))
  // Apache's workers are somebody else.
  chmodSync(directory, 0o755)
  process.on('exit', () => rmSync(directory, { recursive: true, force: true }))
  const write = (name: string, text: string) => {
    writeFileSync(join(directory, name), text)
    return join(directory, name)
  }
  const signers = { rs256: createSigner('RS256'), es256: createSigner('ES256') }
  const strangers = { rs256: createSigner('RS256'), es256: createSigner('ES256') }
  const jwks = JSON.stringify({ keys: [signers.rs256.jwk, signers.es256.jwk] })
  const opaque = Array.from({ length: warmTokens }, (_, at) => `opaque-${'a'.repeat(32)}-${at}`)
  const warm = {
    rs256: await mint(signers.rs256, warmTokens, 'warm-rs256'),
    es256: await mint(signers.es256, warmTokens, 'warm-es256'),
  }
  const made = {
    files: {
      jwks: write('jwks.json', jwks),
      rs256: write('rs256.pem', signers.rs256.pem),
      es256: write('es256.pem', signers.es256.pem),
      certificate: await makeCertificate(directory),
    },
    requests: {
      ...writeRequests(write, { ...warm, opaque }),
      cold: { rs256: await mintRounds('rs256'), es256: await mintRounds('es256') },
    },
    proofs: {
      rs256: await prove('rs256'),
      es256: await prove('es256'),
      scoped: await proveScoped(),
      opaque: { good: opaque[0] ?? '', bad: { unknown: 'nobody-gave-this-out-0123456789' } },
    },
  }
  const answers = await startAnswers(directory, jwks)
  const sink = await startStub('sink')
  const issuerStub = await startStub('issuer')
  return {
    ...made,
    directory,
    write,
    answers: answers.origin,
    sink: sink.origin,
    issuerStub: issuerStub.origin,
    async [Symbol.asyncDispose]() {
      await Promise.all([answers.stop(), sink.stop(), issuerStub.stop()])
    },
  }

  async function mintRounds(algorithm: keyof typeof signers): Promise<readonly string[]> {
    const files: string[] = []
    for (let round = 0; round < coldRounds; round += 1) {
      const name = `cold-${algorithm}-${round}`
      files.push(writeLines(write, name, await mint(signers[algorithm], coldTokens, name), 10))
    }
    return files
  }

  async function prove(algorithm: keyof typeof signers): Promise<Proof> {
    const iat = Math.floor(Date.now() / 1000) - 7200
    const [good = ''] = await mint(signers[algorithm], 1, `proof-${algorithm}`)
    const [expired = ''] = await mint(signers[algorithm], 1, `expired-${algorithm}`, { iat, exp: iat + 3600 })
    const [forged = ''] = await mint(strangers[algorithm], 1, `forged-${algorithm}`)
    return { good, bad: { expired, forged } }
  }

  async function proveScoped(): Promise<Proof> {
    const { good, bad } = await prove('rs256')
    const [unscoped = ''] = await mint(signers.rs256, 1, 'unscoped', { scope: 'reader write' })
    return { good, bad: { ...bad, 'without the scope': unscoped } }
  }
}

async function makeCertificate(directory: string): Promise<World['files']['certificate']> {
  const [cert, key] = [join(directory, 'tls.crt'), join(directory, 'tls.key')]
  const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '1']
  const { code } = await run(
    ['openssl', 'req', '-x509', ...curve, '-subj', '/CN=localhost', '-keyout', key, '-out', cert],
    { cpus: '0,1', timeoutMs: 10_000 },
  ).catch(() => ({ code: 1 }))
  return code === 0 ? { cert, key } : undefined
}
