import assert from 'node:assert/strict'
import { test } from 'node:test'
import { lintClaims } from '../../src/decision/claim-lint.ts'
import { rulesOptions } from '../../src/decision/rules.ts'

function warned(claims: object): readonly (readonly [string, string])[] {
  const rules = rulesOptions.parse([{ match: { path: '/other' } }, { match: { path: '/a' }, claims }])
  return lintClaims(rules).map(({ path, message }) => [path.join('.'), message] as const)
}

const odd: [object, string, RegExp][] = [
  [{ scope: ['orders:read'] }, 'scope.0', /only where they have no other; list it in scopes/],
  [{ scp: 'orders:read' }, 'scp', /list it in scopes/],
  [{ exp: [1] }, 'exp', /each token has a time of its own in exp/],
  [{ auth_time: 1 }, 'auth_time', /each token has a time of its own/],
  [{ role: '*' }, 'role', /^\* means nothing here: a claim is compared as it stands/],
  [{ email: ['a@b.test', '*@example.test'] }, 'email.1', /^\* means nothing here/],
  [{ level: '>=3' }, 'level', /^>= means nothing here/],
  [{ level: ['< 3'] }, 'level.0', /^< means/],
  [{ role: '!=guest' }, 'role', /^!= means/],
  [{ role: '!guest' }, 'role', /^! means/],
  [{ sub: '^admin' }, 'sub', /^\^ means/],
]
for (const [claims, at, says] of odd) {
  test(`lintClaims() warns of ${JSON.stringify(claims)}, which hardly any token meets`, () => {
    const [[path, message] = ['', ''], ...more] = warned(claims)

    assert.equal(path, `1.claims.${at}`)
    assert.match(message, says)
    assert.deepEqual(more, [])
  })
}

for (const claims of [
  { client_id: ['web', 'web-*'], tenant: 7, email_verified: true, level: [1, 2] },
  { groups: ['CN=admins,OU=groups,DC=corp', '/staff/*', 'a>b'], scope: 'openid profile', sub: 'auth0|5f' },
  { cost: '$5', of: '100%', scope_of: 'a', key: 'AA==', iss: 'https://issuer.test' },
])
  test(`lintClaims() says nothing of ${JSON.stringify(claims)}`, () => assert.deepEqual(warned(claims), []))
