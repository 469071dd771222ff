import { copyOf } from '../base/copy-of.ts'
import type { Json, JsonObject } from '../base/json.ts'
import type { BoundedCache, CacheBounds } from '../base/lookup-cache.ts'
import { createBoundedCache } from '../base/lookup-cache.ts'

/** What has to be told about facts so that they can be kept. */
type Facts = {
  readonly form: string
  readonly issuer: { readonly issuer: string }
  readonly claims: { readonly all: JsonObject }
}

/** Verified facts by issuer and every byte of the token. What is found here is judged anew on every request. */
export type KnownTokens<F extends Facts> = {
  /**
   * @param opaqueIssuer Identifier of the issuer that an opaque token would belong to: two issuers may give out the
   *   same characters. A signed token names its issuer itself, under its signature.
   */
  readonly find: (token: string, opaqueIssuer: string | undefined) => F | undefined
  /** Keeps facts for `keepMs`; for 0 or less, not at all. */
  readonly remember: (token: string, facts: F, keepMs: number) => void
  /** Lets go of what is kept about a token: its issuer has said that it is not good. */
  readonly forget: (token: string, opaqueIssuer: string) => void
  readonly entries: () => number
}

/** security.md §4.1, of tokens of one form. Signed and opaque ones have a cache each: a flood of one kind does not evict the other. */
export const maxKnownBytes = 64 * 1024 * 1024
const maxEntries = 50_000
// The facts without their claims: sets, lists and the record itself.
const factsBytes = 1000
const memberBytes = 64

/**
 * Makes the cache; it is bounded by entries and by bytes.
 *
 * @param maxBytes Of signed tokens, and as many of opaque ones.
 */
export function createKnownTokens<F extends Facts>(
  monotonicMs: () => number,
  maxBytes: number = maxKnownBytes,
): KnownTokens<F> {
  const bounds: CacheBounds = { maxEntries, maxBytes }
  const signed = createBoundedCache<F>(bounds)
  const opaque = createBoundedCache<F>(bounds)
  return {
    find(token, opaqueIssuer) {
      const nowMs = monotonicMs()
      const facts = signed.get(token, nowMs)
      if (facts !== undefined || opaqueIssuer === undefined) return facts
      return opaque.get(opaqueKey(opaqueIssuer, token), nowMs)
    },
    remember(token, facts, keepMs) {
      if (!(keepMs > 0)) return
      if (facts.form === 'opaque') keep(opaque, opaqueKey(facts.issuer.issuer, token), facts, keepMs)
      else keep(signed, token, facts, keepMs)
    },
    forget(token, opaqueIssuer) {
      signed.delete(token)
      opaque.delete(opaqueKey(opaqueIssuer, token))
    },
    entries: () => signed.size() + opaque.size(),
  }

  function keep(cache: BoundedCache<F>, key: string, facts: F, keepMs: number): void {
    cache.set(copyOf(key), facts, monotonicMs() + keepMs, factsBytes + sizeOf(facts.claims.all))
  }
}

/** About how many bytes a parsed value takes: an issuer's answer may be far longer than its token. */
function sizeOf(value: Json): number {
  if (typeof value === 'string') return memberBytes + value.length * 2
  if (typeof value !== 'object' || value === null) return memberBytes
  let bytes = memberBytes
  for (const [name, member] of Object.entries(value)) bytes += name.length + sizeOf(member)
  return bytes
}

/** A space is in no issuer identifier and no token, so no two pairs make one key. */
function opaqueKey(issuer: string, token: string): string {
  return `${issuer} ${token}`
}
