import assert from 'node:assert/strict'
import { test } from 'node:test'
import { load } from '../../src/config/load.ts'
import { gatewayOptions } from '../../src/config/schema.ts'

const upstream = 'upstream: { url: http://a }'
const match = 'match: { path: /a }'
const rules = `rules: [{ ${match}, public: true }]`
const withIssuer = (members: string) =>
  `${upstream}\n${rules}\nissuers: [{ issuer: https://a, audience: a, ${members} }]\n`
const withRule = (members: string) => `${upstream}\nrules: [{ ${members} }]\n`
const noKey = 'no such key here, wanted'

/** Each with everything that is said of it: what follows from it is not. */
const slips = [
  { text: withRule('path: /a, public: true'), says: [`rules.0.path: ${noKey} within match`] },
  {
    text: withRule('method: [GET], host: a.test, public: true'),
    says: ['rules.0.method: no such key, did you mean "methods", within match?', `rules.0.host: ${noKey} within match`],
  },
  { text: withRule('match: { path: /a, scopes: [a] }'), says: [`rules.0.match.scopes: ${noKey} beside match`] },
  {
    text: withRule('match: { path: /a, hosts: [a.test] }, public: true'),
    says: ['rules.0.match.hosts: no such key, did you mean "host"?'],
  },
  {
    text: withRule(`${match}, claims: role=admin`),
    says: ['rules.0.claims: expected a map, such as claims: { name: … }, got text'],
  },
  {
    text: `${upstream}\n${rules}\nidentity_headers: x-user=sub\n`,
    says: ['identity_headers: expected a map, such as identity_headers: { name: … }, got text'],
  },
  {
    text: `${upstream}\n${rules}\nheaders: { X-User: sub }\n`,
    says: ['headers: no such key, did you mean "identity_headers" or "keep_headers"?'],
  },
  {
    text: `upstream: { url: http://a, timeout: 5s }\n${rules}\n`,
    says: ['upstream.timeout: no such key, did you mean "connect_timeout" or "head_timeout" or "body_timeout"?'],
  },
  {
    text: `${upstream}\n${rules}\nissuers: [{ url: https://a, audience: a }]\n`,
    says: ['issuers.0.url: no such key, did you mean "issuer"?'],
  },
  {
    text: `${upstream}\n${rules}\nissuers: [{ name: main, audience: a }]\n`,
    says: [
      'issuers.0.issuer: it is missing, wanted an http or https URL without user and fragment',
      'issuers.0.name: no such key, wanted one of issuer, audience, algorithms, token_profile, required, revocation, leeway, max_token_lifetime, require_kid, require_aud, opaque, opaque_may_contain_dots, access_token_form, wrapped, metadata_url, jwks_uri, jwks, introspection_endpoint, introspection, blacklist, http, insecure_http',
    ],
  },
  ...['file', 'env'].map((kind) => {
    const says = `issuers.0.introspection.client_secret_${kind}: no such key, wanted client_secret: { ${kind}: … }`
    return { text: withIssuer(`introspection: { client_id: a, client_secret_${kind}: X }`), says: [says] }
  }),
  {
    text: `${upstream}\n${rules}\nlisten: { tls: { cert_file: /a, key_file: /b } }\n`,
    says: [
      'listen.tls.cert_file: no such key, wanted cert: { file: … }',
      'listen.tls.key_file: no such key, wanted key: { file: … }',
    ],
  },
  { text: withRule(`${match}, cors: {}`), says: [`rules.0.cors: ${noKey} beside rules`] },
  { text: `${rules}\nlisten: { ${upstream} }\n`, says: [`listen.upstream: ${noKey} beside listen`] },
  {
    text: `${upstream}\n${rules}\nissuers: [{ issuer: https://a, blacklist: { url: https://a/b, audience: a } }]\n`,
    says: [`issuers.0.blacklist.audience: ${noKey} beside blacklist`],
  },
  {
    text: `${upstream}\nlisten: { tls: { cert: { file: /a }, key: { file: /b }, ${rules} } }\n`,
    says: [`listen.tls.rules: ${noKey} beside listen`],
  },
  {
    text: withIssuer('client_id: a'),
    says: [`issuers.0.client_id: ${noKey} within introspection or blacklist`],
  },
  { text: withIssuer('profile: lenient'), says: ['issuers.0.profile: no such key, did you mean "token_profile"?'] },
  { text: `${upstream}\n${rules}\ntimeout: 5s\n`, says: [`timeout: ${noKey} within drain`] },
  {
    text: withRule(`${match}, auth: none`),
    says: [
      'rules.0.auth: no such key, wanted one of id, match, scopes, claims, issuers, audience, freshness, public, insecure, allow_encoded, upgrade, forward_authorization, max_body',
    ],
  },
  ...[1, true].map((id) => {
    const says = [`rules.0.id: expected letters, digits and any of _ . : - (at most 64), got ${id}; quote it`]
    return { text: withRule(`${match}, public: true, id: ${id}`), says }
  }),
  { text: `${upstream}\n${rules}\n// a: b\n`, says: ['the document: no such key; a comment begins with #'] },
  { text: `${upstream}\n${rules}\nissur: []\n`, says: ['issur: no such key, did you mean "issuers"?'] },
  {
    text: withRule('public: true'),
    says: ['rules.0.match: it is missing, wanted a map, such as match: { path: … }'],
  },
  {
    text: withRule('match: /a, public: true'),
    says: ['rules.0.match: expected a map, such as match: { path: … }, got text'],
  },
  {
    text: `upstream: http://a\n${rules}\n`,
    says: ['upstream: expected a map, such as upstream: { url: … }, got text'],
  },
  {
    text: `${upstream}\n${rules}\nissuers: [https://a]\n`,
    says: ['issuers.0: expected a map, such as { issuer: … }, got text'],
  },
  {
    text: withIssuer('blacklist: https://a/b'),
    says: ['issuers.0.blacklist: expected a map, such as blacklist: { url: … }, got text'],
  },
  {
    text: withRule('match: { path: /a, methods: GET }, public: true'),
    says: [
      'rules.0.match.methods: expected a list, each a method in upper case, such as GET, got text; write it in [ ]',
    ],
  },
  {
    text: withRule('match: { path: /a, methods: ["*"], host: "*" }, public: true'),
    says: [
      'rules.0.match.methods.0: expected a method in upper case, such as GET, got "*"; without methods it is for all',
      'rules.0.match.host: expected a host name in lower case without port, or *. and one, got "*"; without host it is for all',
    ],
  },
  {
    text: `${upstream}\n${rules}\ntrusted_proxies: 10.0.0.0/8\n`,
    says: [
      'trusted_proxies: expected a list, each an address or a block like 10.0.0.0/8, not every address there is, or unix:, got text; write it in [ ]',
    ],
  },
  {
    text: `${upstream}\n${rules}\ntrusted_proxies: ["::/1"]\n`,
    says: ['trusted_proxies: every address there is is in it: whoever connects would be believed'],
  },
  {
    text: `${upstream}\n${rules}\ntrusted_proxies: ["*"]\n`,
    says: [
      'trusted_proxies.0: expected an address or a block like 10.0.0.0/8, not every address there is, or unix:, got "*"',
    ],
  },
  {
    text: withRule(`${match}, scopes: "a b"`),
    says: [
      'rules.0.scopes: expected a list, each a scope without spaces and quotes or a map, got text; write it in [ ]',
    ],
  },
  {
    text: `${upstream}\n${rules}\nhosts:\n  -a.test\n`,
    says: ['hosts: expected a list, each a host name in lower case without port, got text; no space after "-"'],
  },
  {
    text: `${upstream}\nrules:\n  id: a\n  ${match}\n`,
    says: ['rules: expected a list of maps, got a map; is a "-" missing before it?'],
  },
  {
    text: `${upstream}\nrules:\n  orders:\n    ${match}\n`,
    says: ['rules: expected a list of maps, got a map'],
  },
  {
    text: `${upstream}\nrules:\n  - id: a\n    match: { path: /a }\n    scopes: [a]\n    id: b\n    match: { path: /b }\n    public: true\n`,
    says: ['rules.0.id: a "-" is missing before it, or the key is here a second time, first in line 4'],
  },
  {
    text: `${upstream}\nrules:\n  - ${match}\n    public: true\n    public: false\n`,
    says: ['rules.0.public: the key is here a second time, first in line 5'],
  },
  {
    text: `${upstream}\nrules: [{ ${match}, public: true, ${match} }]\n`,
    says: ['rules.0.match: the key is here a second time, first in line 3'],
  },
  {
    text: `${upstream}\n${rules}\nhosts: []\nhosts: [a.test]\n`,
    says: ['hosts: the key is here a second time, first in line 4'],
  },
  {
    text: `${upstream}\n${rules}\nlisten: { tls: { cert: { file: /a }, key: /b.pem } }\n`,
    says: ['listen.tls.key: expected { file: … }; a path is written { file: … }'],
  },
  {
    text: withIssuer(`introspection: { client_id: a, client_secret: "\${SET}" }`),
    says: ['issuers.0.introspection.client_secret: expected { file: … } or { env: … }; write { env: SET }'],
  },
  {
    text: withIssuer(`introspection: { client_id: a, client_secret: "\${UNSET}" }`),
    says: [
      'issuers.0.introspection.client_secret: expected { file: … } or { env: … }; write { env: UNSET }',
      'issuers.0.introspection.client_secret: environment variable UNSET is not set and has no default',
    ],
  },
  {
    text: withIssuer(`introspection: { client_id: a, client_secret: "\${SET:-hush}" }`),
    says: ['issuers.0.introspection.client_secret: expected { file: … } or { env: … }'],
  },
]
for (const { text, says } of slips) {
  test(`load() says of ${JSON.stringify(text)} what was meant, and no secret`, () => {
    const loaded = load(gatewayOptions, { file: 'f', text: `version: 1\n${text}` }, { env: { SET: 'hush' } })

    assert.deepEqual(
      loaded.kind === 'refused' && loaded.problems.map(({ message }) => message),
      says.map((each) => `Cannot read ${each}`),
    )
    assert.doesNotMatch(JSON.stringify(loaded), /hush|b\.pem/)
  })
}
