// The table of forged tokens.
import assert from 'node:assert/strict'
import type { Members, Recipe } from './forge.ts'
import { encode, jwkOf, keys, malleate } from './forge.ts'
import type { World } from './harness.ts'
import { allowed, denied } from './harness.ts'
import { openTable, payloadOf, publicJwk, spki } from './jwt-world.ts'
import { testVectors } from './vectors.ts'

type RowRecipe = {
  readonly alg?: string | null
  readonly key?: string
  readonly kid?: string
  readonly sig?: string
  readonly hmac_key?: string
  readonly header_jwk?: string
  readonly x5c?: string
  readonly jwks?: string
  readonly struct?: string
  readonly claims?: Readonly<Record<string, unknown>>
  readonly claims_raw?: string
  readonly jwe?: string
  readonly typ?: string
  readonly base: string
}
type Row = { readonly id: string; readonly name: string; readonly recipe: RowRecipe; readonly expect: number | string }

const deep = `${'{"a":'.repeat(100_000)}1${'}'.repeat(100_000)}`

/** Our word for every row; what is not here is a row this test does not know, and fails. */
const reasons: Readonly<Record<string, string>> = {
  J002: 'ok',
  J005: 'alg_not_allowed',
  J008: 'alg_not_allowed',
  J011: 'jwt_malformed',
  J014: 'alg_not_allowed',
  J017: 'alg_not_allowed',
  J020: 'alg_not_allowed',
  J023: 'alg_not_allowed',
  J026: 'jwt_malformed',
  J029: 'jwt_malformed',
  J032: 'key_unknown',
  J035: 'key_unknown',
  J038: 'key_unknown',
  J041: 'key_unknown',
  J044: 'jwt_malformed',
  J047: 'key_unknown',
  J050: 'alg_not_allowed',
  J053: 'key_unknown',
  J056: 'signature_invalid',
  J059: 'signature_invalid',
  J062: 'signature_invalid',
  J074: 'decryption_failed',
  J077: 'jwt_malformed',
  J080: 'jwt_malformed',
  J083: 'jwt_malformed',
  J086: 'jwt_malformed',
  J089: 'jwt_malformed',
  J092: 'jwt_malformed',
  J095: 'jwt_malformed',
  J098: 'jwt_malformed',
  J101: 'claim_missing',
  J104: 'jwt_malformed',
  J107: 'jwt_malformed',
  J110: 'token_not_yet_valid',
  J113: 'jwt_malformed',
  J116: 'audience_mismatch',
  J119: 'audience_mismatch',
  J122: 'audience_mismatch',
  J125: 'issuer_unknown',
  J128: 'issuer_unknown',
  J131: 'scope_missing',
  J134: 'scope_missing',
  J137: 'ok',
  J140: 'scope_missing',
  J143: 'ok',
  J146: 'ok',
  J149: 'proof_missing',
  J152: 'ok',
  // Longer than a head may be: refused before it is read as a token. What fits is tested beside it.
  J155: 'too_large',
  J158: 'decryption_failed',
  J161: 'decryption_failed',
  J164: 'issuer_unknown',
  J167: 'token_expired',
  J170: 'too_large',
  J173: 'token_inactive',
}
const statuses: Readonly<Record<string, number>> = { ok: 200, scope_missing: 403, too_large: 431 }

testVectors<{ cases: readonly Row[] }>(
  'each token of the table is judged as it says',
  'examples/jwt_cases.json',
  async ({ cases }, t) => {
    await using world = await openTable()
    assert.ok(cases.length > 0)
    for (const { id, name, recipe, expect } of cases) {
      await t.test(`${id} ${name}`, async () => {
        const reason = reasons[id]
        assert.ok(reason !== undefined, `Cannot judge ${id}: the test has no reason for it`)
        const status = statuses[reason] ?? 401
        if (reason !== 'too_large' && expect !== 'revocation follows inner token' && id !== 'J152')
          assert.match(String(expect), new RegExp(`^${status}`), 'the row and the reason agree')
        // Past the cool-down, so that an unknown key is a verdict.
        world.pass(31_000)
        const tokens = recipe.base === 'wrapped' ? wrapped(world, name) : build(world, recipe)
        for (const token of tokens) {
          if (reason === 'ok') await allowed(world, { token })
          else await denied(world, { token }, status, reason)
        }
      })
    }
  },
)

/** The tokens a recipe stands for. */
function build(world: World, row: RowRecipe): readonly string[] {
  const { struct, jwe, kid, jwks } = row
  if (struct !== undefined) return structures(world, struct)
  if (jwe !== undefined)
    return [jweOf(jwe === 'pbes2' ? { alg: 'PBES2-HS256+A128KW', p2c: 1e9, p2s: 'AAAA' } : { alg: 'RSA1_5' })]
  if (kid === 'types')
    return [1, ['k1'], { kid: 'k1' }, null, true].map((value) => world.mint({ header: { kid: value } }))
  const key = { rs: keys.rs, attacker: keys.attacker, good: keys.good }[row.key ?? 'good'] ?? keys.good
  const recipe: Recipe = {
    key: jwks === undefined ? key : keys.second,
    kid: kid ?? jwks ?? (row.key === 'rs' ? 'rs1' : 'k1'),
    header: {
      ...(row.header_jwk === undefined ? {} : { jwk: jwkOf(keys.attacker) }),
      ...(row.x5c === undefined ? {} : { x5c: ['MIIB'] }),
    },
    ...(row.alg === undefined ? {} : { alg: row.alg }),
    ...(row.typ === undefined ? {} : { typ: row.typ }),
    ...(row.hmac_key === undefined ? {} : { hmac: hmacKeys[row.hmac_key] ?? 'x' }),
    ...(row.sig === undefined ? {} : { signature: signatures[row.sig] ?? assert.fail(row.sig) }),
    ...(row.claims_raw === undefined ? {} : { payload: deep }),
    ...(row.claims === undefined ? {} : { payload: payloadOf(world, row.claims) }),
  }
  return [world.mint(recipe)]
}

const hmacKeys: Readonly<Record<string, string>> = {
  'PEM SPKI': spki,
  'JWK JSON text': publicJwk,
  'PEM with leading space': ` ${spki}`,
}
const signatures: Readonly<Record<string, (signature: Buffer) => Buffer>> = {
  empty: () => Buffer.alloc(0),
  'r=0,s=0': () => Buffer.alloc(64),
  'r only': (signature) => signature.subarray(0, 32),
  'length 65': (signature) => Buffer.concat([signature, Buffer.alloc(1)]),
}

function structures(world: World, struct: string): readonly string[] {
  const good = world.mint()
  const [header = '', payload = '', signature = ''] = good.split('.')
  const text = JSON.stringify({ alg: 'ES256', kid: 'k1', typ: 'at+jwt' })
  switch (struct) {
    case '5 parts (JWE) when JWE disabled':
      return [jweOf({ alg: 'dir' }), jweOf({ alg: 'none' })]
    case 'leading dot':
      return [`.${good}`]
    case 'BOM before header JSON':
      return [world.mint({ headerText: `\ufeff${text}` })]
    case 'duplicate kid members':
      return [world.mint({ headerText: '{"alg":"ES256","kid":"k1","kid":"k1","typ":"at+jwt"}' })]
    case 'payload invalid UTF-8':
      return [world.mint({ payload: Buffer.concat([Buffer.from('{"sub":"'), Buffer.from([0xff]), Buffer.from('"}')]) })]
    case 'payload string':
      return [world.mint({ payload: '"payload"' })]
    case 'b64=false + crit':
      return [world.mint({ header: { b64: false, crit: ['b64'] } })]
    case 'crit not array':
      return [world.mint({ header: { crit: 'exp' } })]
    case 'cty=JWT nested JWT':
      return [world.mint({ header: { cty: 'JWT' }, payload: good }), world.mint({ header: { cty: 'JWT' } })]
    default:
      assert.fail(`Cannot build ${struct}: ${header} ${payload} ${signature}`)
  }
}

function jweOf(header: Members): string {
  return [JSON.stringify({ enc: 'A128CBC-HS256', kid: 'k1', ...header }), 'key', 'iv', 'text', 'tag']
    .map(encode)
    .join('.')
}

function wrapped(world: World, name: string): readonly string[] {
  const typ = 'wo+jwt'
  if (name.includes('169.254')) return [world.mint({ typ, claims: { iss: 'http://169.254.169.254/' } })]
  if (name.includes('expired')) {
    const token = world.mint({ typ, claims: { exp: world.nowS() - 60, iat: world.nowS() - 120 } })
    world.a.tokens.set(token, { active: true, scope: 'read', aud: 'api' })
    return [token]
  }
  if (name.includes('100 KiB')) return [world.mint({ typ, claims: { inner: 'a'.repeat(102_400) } })]
  const token = world.mint({ typ, claims: { jti: 'inner' } })
  const [head = '', claims = '', signature = ''] = token.split('.')
  return [token, [head, claims, encode(malleate(Buffer.from(signature, 'base64url')))].join('.')]
}
