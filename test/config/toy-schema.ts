import assert from 'node:assert/strict'
import * as z from 'zod'
import { duration, httpUrl, secretSource } from '../../src/base/options.ts'
import type { LoadDeps } from '../../src/config/load.ts'
import { load } from '../../src/config/load.ts'
import type { Problem } from '../../src/config/problems.ts'
import { formatProblem } from '../../src/config/problems.ts'

/** A small configuration with every kind of thing the gateway's own has: lists, unions, durations, secrets. */
export const schema = z.strictObject({
  version: z.literal(1),
  listen: z
    .strictObject({ proxy: z.string().prefault('0.0.0.0:8080'), port: z.int().min(1).max(65535).optional() })
    .prefault({}),
  issuers: z
    .array(
      z.strictObject({
        issuer: httpUrl,
        audience: z.union([z.string(), z.array(z.string()).min(1)]),
        profile: z.enum(['rfc9068', 'lenient']).prefault('rfc9068'),
        introspection: z
          .strictObject({ client_id: z.string(), client_secret: secretSource, max_age: duration.prefault('30s') })
          .optional(),
      }),
    )
    .prefault([]),
  blacklist: z.strictObject({ poll_interval: duration.prefault('60s'), jitter: z.number().optional() }).prefault({}),
  scopes: z
    .union([
      z.array(z.string()),
      z.strictObject({ any: z.array(z.string()) }),
      z.strictObject({ all: z.array(z.string()) }),
    ])
    .optional(),
  freshness: z.union([z.enum(['cached', 'always']), z.strictObject({ max_age: duration })]).optional(),
  step: z
    .discriminatedUnion('kind', [
      z.strictObject({ kind: z.literal('one') }),
      z.strictObject({ kind: z.literal('two') }),
    ])
    .optional(),
  headers: z.record(z.string().regex(/^x-/, { error: 'the name must begin with x-' }), z.string()).optional(),
})

/** What load() finds wrong with a text; nothing when it is loaded. */
export function problemsOf(text: string, deps: LoadDeps = { env: {} }): readonly Problem[] {
  const loaded = load(schema, { file: 'gateway.yaml', text }, deps)
  return loaded.kind === 'refused' ? loaded.problems : []
}

/** The value of a text that must load. */
export function valueFrom(text: string, env: LoadDeps['env'] = {}): z.output<typeof schema> {
  const loaded = load(schema, { file: 'gateway.yaml', text }, { env })
  if (loaded.kind === 'refused')
    assert.fail(loaded.problems.map((problem) => formatProblem(problem, { color: false })).join('\n'))
  return loaded.value
}

/** Problems as `line:column message`. */
export const firstLines = (problems: readonly Problem[]) =>
  problems.map(({ line, column, message }) => `${line}:${column} ${message}`)
