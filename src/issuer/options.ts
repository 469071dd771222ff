import * as z from 'zod'
import type { SecretSource } from '../base/options.ts'
import { duration, httpUrl, isLoopbackUrl, secretSource } from '../base/options.ts'

const scopeToken = z.string().regex(/^[!#-[\]-~]+$/, { error: 'expected a scope without spaces and quotes' })
const name = z.string().regex(/^[ -~]{1,256}$/, { error: 'expected visible ASCII, at most 256 characters' })
const audience = z.string().min(1).max(1024)
const secret = z
  .union([z.string().min(1), secretSource])
  .describe('{ file: … } or { env: … }; the secret itself only with --dev.')

/** The forms of an access token. */
export const tokenFormats = ['jwt', 'opaque', 'wrapped_opaque'] as const

/** The form of an access token: its claims in it, behind it, or behind a signed shell (product.md §9). */
export type TokenFormat = (typeof tokenFormats)[number]

const client = z.strictObject({
  client_id: name,
  client_secret: secret,
  scopes: z.array(scopeToken).prefault([]).describe('Every scope the client may be granted.'),
  default_scopes: z
    .array(scopeToken)
    .optional()
    .describe('What it gets unasked, where on_missing_scope is default_set.'),
  audience: z.array(audience).min(1).optional().describe("Resources its tokens are for; absent: the realm's."),
  access_token_type: z.enum(['jwt', 'reference', 'wrapped']).optional().describe("Absent: the realm's format."),
  grant_types: z.array(z.enum(['client_credentials'])).prefault(['client_credentials']),
})

const resourceServer = z.strictObject({
  client_id: name,
  client_secret: secret,
  audience: audience.describe('Only tokens for this audience are active to it.'),
})

const realm = z.strictObject({
  issuer: httpUrl.optional().describe('The issuer identifier (RFC 8414 §2); its path is where the endpoints are.'),
  name: z
    .string()
    .regex(/^[a-z0-9][a-z0-9-]{0,62}$/, { error: 'expected lower-case letters, digits and dashes' })
    .optional()
    .describe('With --dev, instead of issuer: http://127.0.0.1:<port>/<name>.'),
  preset: z
    .enum(['default', 'workforce'])
    .prefault('default')
    .describe('default signs with ES256, workforce with RS256.'),
  audience: audience.describe('Audience of tokens whose client names none.'),
  access_token: z
    .strictObject({ format: z.enum(tokenFormats).prefault('jwt'), lifetime: duration.prefault('1h') })
    .prefault({}),
  on_missing_scope: z
    .enum(['all', 'none', 'default_set'])
    .prefault('all')
    .describe('What a request without scope is granted.'),
  purge_delay: duration.prefault('1m').describe('How long past its expiry a revoked token stays listed.'),
  announce_for: duration.prefault('0s').describe('How long a new key is published before it signs.'),
  clients: z.array(client).prefault([]),
  resource_servers: z.array(resourceServer).prefault([]).describe('Who may introspect tokens and read the blacklist.'),
  admin: z.strictObject({ token: secret }).optional().describe('Absent: no administration.'),
})

/** The bundled issuer's configuration file. */
export const issuerOptions = z.strictObject({
  version: z.literal(1),
  listen: z.string().regex(/^(?:\[[0-9a-fA-F:]+\]|[^\s:/[\]]+):\d{1,5}$/, { error: 'expected host:port' }),
  store: z
    .union([z.literal('memory'), z.strictObject({ sqlite: z.string().min(1).describe('Path of the database file.') })])
    .describe('memory only with --dev.'),
  realms: z.array(realm).min(1),
})

/** The file as read: secrets may still be names of places. */
export type IssuerDocument = z.output<typeof issuerOptions>

type Resolved<T> = SecretSource extends T
  ? Exclude<T, SecretSource>
  : T extends readonly (infer M)[]
    ? readonly Resolved<M>[]
    : T extends object
      ? { readonly [K in keyof T]: Resolved<T[K]> }
      : T

/** What an issuer starts from: as the file, but secrets are secrets. Durations are milliseconds. */
export type IssuerOptions = Resolved<IssuerDocument>
/** One realm of them. */
export type RealmOptions = IssuerOptions['realms'][number]
/** One client of a realm. */
export type ClientOptions = RealmOptions['clients'][number]

/** An issuer that does not start. */
export class IssuerRefused extends Error {
  override readonly name = 'IssuerRefused'
  readonly code = 'ERR_ISSUER_REFUSED'
}

/** Reads options written in code, secrets and all, filling in what is not said; for tests and the demo. Throws ZodError. */
export function parseIssuerOptions(written: z.input<typeof issuerOptions>): IssuerOptions {
  return resolveSecrets(issuerOptions.parse(written), {
    dev: true,
    readSecret: (source) => {
      throw new IssuerRefused(
        `Cannot read secret: it is ${'file' in source ? 'a file' : 'a variable'}, wanted the text`,
      )
    },
  })
}

/**
 * Replaces the places of secrets by the secrets.
 *
 * @throws IssuerRefused for a secret written in the file itself without `dev`; and what `readSecret` throws.
 */
export function resolveSecrets(
  document: IssuerDocument,
  deps: { readonly dev: boolean; readonly readSecret: (source: SecretSource) => string },
): IssuerOptions {
  const credentials = <T extends { client_secret: string | SecretSource }>(party: T) => {
    return { ...party, client_secret: resolve(party.client_secret) }
  }
  return {
    ...document,
    realms: document.realms.map((each) => ({
      ...each,
      clients: each.clients.map(credentials),
      resource_servers: each.resource_servers.map(credentials),
      admin: each.admin === undefined ? undefined : { token: resolve(each.admin.token) },
    })),
  }

  function resolve(written: string | SecretSource): string {
    if (typeof written !== 'string') return deps.readSecret(written)
    if (deps.dev) return written
    throw new IssuerRefused('Cannot read secret: it is written in the configuration, wanted { file: … } or { env: … }')
  }
}

/** What is wrong with a configuration as a whole, each with its place; empty when nothing is. */
export function findIssuerConflicts(
  options: IssuerDocument | IssuerOptions,
): readonly { readonly path: readonly (string | number)[]; readonly message: string }[] {
  const found: { path: (string | number)[]; message: string }[] = []
  const taken = new Set<string>()
  for (const [at, { issuer, name, access_token, clients, resource_servers }] of options.realms.entries()) {
    const here = ['realms', at]
    // Tokens count in seconds.
    if (access_token.lifetime < 1000)
      found.push({ path: [...here, 'access_token', 'lifetime'], message: 'expected at least 1s' })
    if ((issuer === undefined) === (name === undefined)) {
      found.push({ path: here, message: 'expected either issuer or name' })
      continue
    }
    const path = realmPath({ issuer, name })
    if (taken.has(path)) found.push({ path: here, message: 'expected a path of its own, got that of another realm' })
    taken.add(path)
    // RFC 8414 §2: https, no query. Plain http stays on the machine.
    if (issuer !== undefined && (issuer.includes('?') || !(issuer.startsWith('https:') || isLoopbackUrl(issuer))))
      found.push({ path: [...here, 'issuer'], message: 'expected an https URL without query, or one of loopback' })
    for (const [list, parties] of Object.entries({ clients, resource_servers })) {
      const ids = parties.map(({ client_id }) => client_id)
      for (const [index, id] of ids.entries())
        if (ids.indexOf(id) !== index)
          found.push({
            path: [...here, list, index, 'client_id'],
            message: 'expected another client_id than the one above',
          })
    }
  }
  return found
}

/** The path below which a realm's endpoints are, without closing slash; empty for the root. */
export function realmPath(realm: { issuer?: string | undefined; name?: string | undefined }): string {
  if (realm.issuer === undefined) return `/${realm.name ?? ''}`
  return realm.issuer.replace(/^https?:\/\/[^/?]+/, '').replace(/\/$/, '')
}
