import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Json } from '../../src/base/json.ts'
import { parseMetadata } from '../../src/spec/metadata.ts'

const a = 'https://issuer.test/a'
const refused: readonly { named: Json; issuer: string; why: string }[] = [
  { named: `${a}/`, issuer: a, why: `its issuer is the configured ${a} but for a closing slash` },
  { named: a, issuer: `${a}/`, why: `its issuer is the configured ${a}/ but for a closing slash` },
  { named: `${a}//`, issuer: a, why: `its issuer is not the configured ${a}` },
  { named: 'https://evil.test/a', issuer: a, why: `its issuer is not the configured ${a}` },
  { named: 7, issuer: a, why: `its issuer is not the configured ${a}` },
]
for (const { named, issuer, why } of refused) {
  test(`parseMetadata() refuses ${named} for ${issuer}, names the configured one and not the other`, () => {
    assert.equal(parseMetadata({ issuer: named }, issuer), why)
  })
}
