import { createHmac, scrypt, timingSafeEqual } from 'node:crypto'
import type { HttpRequest } from '../io/http-server.ts'
import type { Form, Refused } from './answers.ts'
import { refuse } from './answers.ts'

/** Someone with credentials: a client, or a resource server. */
export type Party = { readonly client_id: string; readonly client_secret: string }

/** Tells who sends a request (RFC 6749 §2.3.1: `client_secret_basic` or `client_secret_post`, never both). */
export type Authenticator<P extends Party> = {
  /** @param form The body's parameters; undefined where credentials in a body do not count. */
  readonly authenticate: (request: HttpRequest, form: Form | undefined) => Promise<Authenticated<P> | Refused>
}
/** Who it is. */
export type Authenticated<P extends Party> = {
  readonly kind: 'authenticated'
  readonly party: Omit<P, 'client_secret'>
}

// Node's own defaults: 16 MiB and some 40 ms for each guess.
const digestBytes = 32
// Guesses worked on at a time; beyond that the thread pool would only queue them before everybody's file access.
const maxGuesses = 16

type Known<P> = {
  readonly party: Omit<P, 'client_secret'>
  readonly salt: Buffer
  readonly digest: Buffer
  lastGood?: Buffer
}

/**
 * Digests the secrets and forgets them. The secret a client last proved is remembered as a keyed hash, so that a client
 * pays for scrypt once and an attacker for every guess.
 */
export async function createAuthenticator<P extends Party>(
  parties: readonly P[],
  deps: { readonly random: (bytes: number) => Buffer },
): Promise<Authenticator<P>> {
  const memoryKey = deps.random(32)
  const known = new Map<string, Known<P>>()
  const stranger = { salt: deps.random(16), digest: deps.random(digestBytes) }
  const guesses = new Map<string, Promise<boolean>>()
  await Promise.all(
    parties.map(async ({ client_secret, ...party }) => {
      const salt = deps.random(16)
      known.set(party.client_id, { party, salt, digest: await digestOf(client_secret, salt) })
    }),
  )
  return { authenticate }

  async function authenticate(request: HttpRequest, form: Form | undefined): Promise<Authenticated<P> | Refused> {
    const credentials = readCredentials(request, form)
    if (credentials.kind === 'refused') return credentials
    const client = known.get(credentials.clientId)
    const print = createHmac('sha256', memoryKey).update(credentials.secret).digest()
    if (client?.lastGood !== undefined && timingSafeEqual(client.lastGood, print))
      return { kind: 'authenticated', party: client.party }
    const same = await guess(credentials, print, client ?? stranger)
    if (same === 'too_many') return refuse('temporarily_unavailable', 'Too many requests')
    if (!same || client === undefined) return refuse('invalid_client', 'Client authentication failed')
    client.lastGood = print
    return { kind: 'authenticated', party: client.party }
  }

  /** A stranger costs what a client costs, so that the time does not tell who is registered. */
  function guess(
    { clientId, secret }: Credentials,
    print: Buffer,
    { salt, digest }: { readonly salt: Buffer; readonly digest: Buffer },
  ): Promise<boolean> | 'too_many' {
    // The same credentials at the same time are one guess: a client's first burst must not exhaust the bound.
    const key = `${print.toString('base64url')}${clientId}`
    const running = guesses.get(key)
    if (running !== undefined) return running
    if (guesses.size >= maxGuesses) return 'too_many'
    const outcome = digestOf(secret, salt)
      .then((guessed) => timingSafeEqual(guessed, digest))
      .finally(() => guesses.delete(key))
    guesses.set(key, outcome)
    return outcome
  }
}

function digestOf(secret: string, salt: Buffer): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    scrypt(secret, salt, digestBytes, (error, digest) => (error === null ? resolve(digest) : reject(error)))
  })
}

type Credentials = { readonly kind: 'credentials'; readonly clientId: string; readonly secret: string }

function readCredentials(request: HttpRequest, form: Form | undefined): Credentials | Refused {
  const lines = request.headers.get('authorization') ?? []
  const bodyId = form?.get('client_id')
  const bodySecret = form?.get('client_secret')
  if (lines.length > 1) return refuse('invalid_request', 'Authorization is repeated')
  if (lines[0] === undefined) {
    if (bodyId === undefined || bodySecret === undefined)
      return refuse('invalid_client', 'Client authentication is missing')
    return { kind: 'credentials', clientId: bodyId, secret: bodySecret }
  }
  // RFC 6749 §2.3: one method per request.
  if (bodySecret !== undefined) return refuse('invalid_request', 'Two methods of client authentication')
  const basic = readBasic(lines[0])
  if (basic === undefined) return refuse('invalid_client', 'Authorization is not Basic credentials')
  if (bodyId !== undefined && bodyId !== basic.clientId)
    return refuse('invalid_request', 'Two different clients are named')
  return basic
}

/** RFC 7617, with each half form-encoded first (RFC 6749 §2.3.1). */
function readBasic(line: string): Credentials | undefined {
  const [, encoded] = /^basic +([A-Za-z0-9+/]{1,4096}={0,2})$/i.exec(line) ?? []
  if (encoded === undefined) return undefined
  const text = Buffer.from(encoded, 'base64').toString('utf8')
  const colon = text.indexOf(':')
  if (colon < 1) return undefined
  const clientId = formDecode(text.slice(0, colon))
  const secret = formDecode(text.slice(colon + 1))
  return clientId === undefined || secret === undefined ? undefined : { kind: 'credentials', clientId, secret }
}

function formDecode(text: string): string | undefined {
  try {
    return decodeURIComponent(text.replaceAll('+', ' '))
  } catch {
    return undefined
  }
}
