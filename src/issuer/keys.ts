import type { KeyObject } from 'node:crypto'
import { createPrivateKey, createPublicKey, generateKeyPairSync, sign, verify } from 'node:crypto'
import type { Clock } from '../base/time.ts'
import { nowSeconds } from '../base/time.ts'
import { IssuerRefused } from './options.ts'
import type { IssuerStore, KeyRow, RealmStore } from './store.ts'
import { latestExp } from './store.ts'

/** The kinds of key we sign with, by the word the administration uses. */
const keyTypes = { ec: 'ES256', rsa: 'RS256' } as const
/** One of them. */
export type KeyType = keyof typeof keyTypes

/** A key that verifies. */
export type IssuerKey = {
  readonly kid: string
  readonly alg: string
  readonly verifies: (data: string, signature: Buffer) => boolean
}

/** A JSON Web Key (RFC 7517 §4) with its public members only. */
export type PublicJwk = Readonly<Record<string, unknown>>

/** A key as the administration shows it. `announced` does not sign yet, `rotated` no more. */
export type ListedKey = {
  readonly kid: string
  readonly alg: string
  readonly state: 'announced' | 'current' | 'rotated' | 'revoked'
  readonly signs_from: number
  readonly needed_until: number
  readonly revoked_at: number | null
}

/** How to rotate. */
export type Rotation = {
  /** Absent: the type of the newest key; so a type once chosen sticks. */
  readonly type?: KeyType | undefined
  /** Withdraws the key that signed until now. */
  readonly revoke: boolean
  /** Drops the oldest of nine rotated keys even while tokens it signed live. */
  readonly force: boolean
}

/** What a rotation did, or `conflict`: it would have dropped a key that is still needed. */
export type Rotated =
  | {
      readonly kind: 'rotated'
      readonly kid: string
      readonly revoked: string | undefined
      readonly dropped: readonly string[]
    }
  | { readonly kind: 'conflict' }

/** One realm's signing keys. */
export type KeyRing = {
  /** Signs with the current key, which is kept at least until `exp`. */
  readonly sign: (exp: number, input: (key: { readonly kid: string; readonly alg: string }) => string) => string
  /** A key that is not revoked. */
  readonly find: (kid: string) => IssuerKey | undefined
  /** The public keys, for publication; another array after every change. */
  readonly published: () => readonly PublicJwk[]
  readonly list: () => readonly ListedKey[]
  /**
   * Makes a new key, and with `revoke` withdraws the old one; on disk when it returns.
   *
   * @param onRevoked Runs in the same commit.
   * @throws StorageFailed
   */
  readonly rotate: (rotation: Rotation, onRevoked: (key: ListedKey) => void) => Rotated
  /** Withdraws a rotated key. @throws StorageFailed */
  readonly revokeRotated: (kid: string, onRevoked: (key: ListedKey) => void) => void
}

/** What a ring starts from. */
export type KeyRingOptions = {
  /** Type of the first key. */
  readonly type: KeyType
  readonly dev: boolean
  /** Longest life of a token, seconds. */
  readonly longestLife: number
  /** Seconds a new key is published before it signs. */
  readonly announceFor: number
}
/** What a ring needs. */
export type KeyRingDeps = {
  readonly store: IssuerStore
  readonly tables: RealmStore
  readonly clock: Clock
  readonly random: (bytes: number) => Buffer
}

// The reference product's own numbers.
const maxRotated = 8
const maxRevoked = 16
const demoPrefix = 'demo-'

type Held = { row: KeyRow; readonly key: KeyObject; readonly signer: KeyObject | null }

/**
 * Loads one realm's keys, and makes the first where there is none.
 *
 * @throws IssuerRefused when a stored key is a demo key and this is not `dev`, or is damaged.
 */
export function createKeyRing(options: KeyRingOptions, { store, tables, clock, random }: KeyRingDeps): KeyRing {
  let ring: readonly Held[] = tables.keys().map(load)
  if (!options.dev && ring.some(({ row }) => row.kid.startsWith(demoPrefix)))
    throw new IssuerRefused(
      'Cannot start issuer: the store holds a demo key, wanted a store that no --dev start has used',
    )
  // What the last run signed after its last rotation was not noted key by key.
  const latest = Math.max(nowSeconds(clock) + options.longestLife, tables.number(latestExp) ?? 0)
  for (const held of ring) if (held.signer !== null) need(held, latest)
  if (live().length === 0) {
    const first = generate(options.type, nowSeconds(clock))
    store.transaction(() => tables.putKey(first.row))
    ring = [...ring, first]
  }
  let published = publish()

  return {
    sign(exp, input) {
      const held = current()
      need(held, exp)
      const data = input(held.row)
      // A signer is kept for every key that may be current.
      const signature = sign('sha256', Buffer.from(data), { key: held.signer as KeyObject, dsaEncoding: 'ieee-p1363' })
      return `${data}.${signature.toString('base64url')}`
    },
    find(kid) {
      const held = live().find(({ row }) => row.kid === kid)
      if (held === undefined) return undefined
      const { row, key } = held
      return {
        kid: row.kid,
        alg: row.alg,
        verifies: (data, signature) =>
          verify('sha256', Buffer.from(data), { key, dsaEncoding: 'ieee-p1363' }, signature),
      }
    },
    published: () => published,
    list: () => ring.map(listed),
    rotate,
    revokeRotated(kid, onRevoked) {
      const held = live().find(({ row }) => row.kid === kid)
      if (held === undefined) return
      change((rows) => {
        onRevoked(listed(held))
        return rows.map((row) => (row.kid === kid ? revoked(row) : row))
      })
    },
  }

  function live(): readonly Held[] {
    return ring.filter(({ row }) => row.revoked_at === null)
  }

  /** The last that may sign by now; when the clock went back before all of them, the first that can. */
  function current(): Held {
    const now = nowSeconds(clock)
    const signers = live().filter(({ signer }) => signer !== null)
    const held = signers.findLast(({ row }) => row.signs_from <= now) ?? signers[0]
    if (held === undefined) throw new TypeError('Cannot sign: the ring has no signing key')
    return held
  }

  function rotate({ type, revoke, force }: Rotation, onRevoked: (key: ListedKey) => void): Rotated {
    const now = nowSeconds(clock)
    const old = current()
    const newest = live().at(-1)?.row.alg === keyTypes.rsa ? 'rsa' : 'ec'
    // A key is withdrawn because it is not to be trusted: its successor cannot be waited for.
    const signsFrom = revoke ? now : now + options.announceFor
    const made = generate(type ?? newest, signsFrom)
    const rotated = ring.filter((held) => stateOf(held) === 'rotated').map(({ row }) => row)
    const after = revoke || signsFrom > now ? rotated : [...rotated, old.row]
    const dropped = after.slice(0, Math.max(0, after.length - maxRotated))
    if (!force && dropped.some((row) => row.needed_until > now)) return { kind: 'conflict' }
    need(old, Math.max(old.row.needed_until, signsFrom > now ? signsFrom + options.longestLife : 0))
    change((rows) => {
      if (revoke) onRevoked(listed(old))
      return [
        ...rows
          .filter((row) => !dropped.some(({ kid }) => kid === row.kid))
          .map((row) => (revoke && row.kid === old.row.kid ? revoked(row) : row))
          // Signs no more: its secret half has no use left.
          .map((row) => (after.some(({ kid }) => kid === row.kid) ? { ...row, private_key: null } : row)),
        made.row,
      ]
    })
    return {
      kind: 'rotated',
      kid: made.row.kid,
      revoked: revoke ? old.row.kid : undefined,
      dropped: dropped.map(({ kid }) => kid),
    }
  }

  function revoked(row: KeyRow): KeyRow {
    return { ...row, private_key: null, revoked_at: nowSeconds(clock) }
  }

  /** Writes a new state of the ring, then takes it on: a write that fails changes nothing. */
  function change(edit: (rows: readonly KeyRow[]) => readonly KeyRow[]): void {
    const before = ring.map(({ row }) => row)
    store.transaction(() => {
      const edited = edit(before)
      const old = edited
        .filter((row) => row.revoked_at !== null)
        .sort((a, b) => (a.revoked_at ?? 0) - (b.revoked_at ?? 0))
      const forgotten = old.slice(0, Math.max(0, old.length - maxRevoked))
      const kept = edited.filter((row) => !forgotten.includes(row))
      for (const { kid } of before) if (!kept.some((row) => row.kid === kid)) tables.deleteKey(kid)
      for (const row of kept) tables.putKey(row)
    })
    ring = tables.keys().map(load)
    published = publish()
  }

  function publish(): readonly PublicJwk[] {
    return live().map(({ row, key }) => ({ ...key.export({ format: 'jwk' }), kid: row.kid, use: 'sig', alg: row.alg }))
  }

  function listed(held: Held): ListedKey {
    const { kid, alg, signs_from, needed_until, revoked_at } = held.row
    return { kid, alg, state: stateOf(held), signs_from, needed_until, revoked_at }
  }

  function stateOf(held: Held): ListedKey['state'] {
    if (held.row.revoked_at !== null) return 'revoked'
    if (held === current()) return 'current'
    return held.row.signs_from > nowSeconds(clock) && held.signer !== null ? 'announced' : 'rotated'
  }

  function generate(type: KeyType, signsFrom: number): Held {
    const pair =
      type === 'ec'
        ? generateKeyPairSync('ec', { namedCurve: 'P-256' })
        : generateKeyPairSync('rsa', { modulusLength: 2048 })
    const row = {
      kid: `${options.dev ? demoPrefix : ''}${random(12).toString('base64url')}`,
      alg: keyTypes[type],
      public_key: pair.publicKey.export({ format: 'der', type: 'spki' }),
      private_key: pair.privateKey.export({ format: 'der', type: 'pkcs8' }),
      signs_from: signsFrom,
      needed_until: 0,
      revoked_at: null,
    }
    return { row, key: pair.publicKey, signer: pair.privateKey }
  }
}

function need(held: Held, exp: number): void {
  if (exp > held.row.needed_until) held.row = { ...held.row, needed_until: exp }
}

function load(row: KeyRow): Held {
  try {
    const key = createPublicKey({ key: Buffer.from(row.public_key), format: 'der', type: 'spki' })
    if (row.private_key === null) return { row, key, signer: null }
    const signer = createPrivateKey({ key: Buffer.from(row.private_key), format: 'der', type: 'pkcs8' })
    if (!createPublicKey(signer).equals(key)) throw new TypeError('Cannot load key: its halves differ')
    return { row, key, signer }
  } catch (cause) {
    throw new IssuerRefused('Cannot start issuer: a signing key in the store is damaged, wanted a whole one', { cause })
  }
}
