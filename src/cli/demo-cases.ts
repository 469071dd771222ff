// Every case of the demo: what to do, and what has to be seen.
import { encodeBase64url } from '../base/base64url.ts'
import { parseJsonObject } from '../base/json.ts'
import { confuse, widen } from './demo-forge.ts'
import { untilRefused } from './demo-revocation.ts'
import type { Stage } from './demo-stage.ts'
import type { Answer, Ask } from './demo-wire.ts'

/** What was seen of one case. */
export type Seen = {
  /** Compares with what the case expects. */
  readonly text: string
  /** Microseconds the last request took, as the client saw it. */
  readonly us: number
  /** A figure worth showing that differs from run to run. */
  readonly note?: string
}

/** One case. They run in order: some go on with what an earlier one left. */
export type Case = { readonly name: string; readonly expected: string; readonly run: () => Promise<Seen> }

const path = '/orders/1'

/** The cases of one stage. */
export function demoCases(stage: Stage): readonly Case[] {
  const { a, b, ask, grant, mint, revoke, rotate } = stage
  const get = (token: string): Ask => ({ path, token })
  const reachedBefore = stage.reached()
  let asked = 0
  let allowed = 0

  return [
    expect('JWT allowed', '200 ok', async () => show(await send(get(await grant(a))))),
    expect('missing token', '401 token_missing', async () => show(await send({ path }))),
    expect('expired', '401 token_expired', async () => show(await send(get(await mint(a, { lifetime: -120 }))))),
    expect('wrong audience', '401 audience_mismatch', async () =>
      show(await send(get(await mint(a, { audience: 'billing-api' })))),
    ),
    expect('forged signature', '401 signature_invalid', async () => show(await send(get(widen(await mint(a)))))),
    expect('alg confusion (HS256 with the public key)', '401 alg_not_allowed', async () =>
      show(await send(get(await confuse(await mint(a), await stage.publicKey(a))))),
    ),
    expect('JWT-shaped garbage', '401 jwt_malformed, 0 calls', () =>
      counted(() => send(get(`${encodeBase64url('{"alg":"none"}')}.not.a-token`))),
    ),
    expect('scope missing', '403 scope_missing', async () =>
      show(await send({ ...get(await mint(a)), method: 'POST' })),
    ),
    expect('rotated key accepted without restart', '200 ok, 1 key fetch', rotated),
    expect('opaque allowed, exactly one introspection for ten requests', '10 × 200 ok, 1 introspection', opaqueTen),
    expect('wrapped opaque routed to issuer B', '200 ok, A asked 0, B asked 1', wrapped),
    expect('wrapper naming an unknown issuer, zero calls', '401 issuer_unknown, 0 calls', async () => {
      const token = await mint(b, { format: 'wrapped_opaque', claims: { iss: 'https://elsewhere.example' } })
      return await counted(() => send(get(token)))
    }),
    expect('inactive', '401 token_inactive', async () => {
      const token = await mint(a, { format: 'opaque' })
      await revoke(a, token)
      return show(await send(get(token)))
    }),
    expect('revoked JWT refused within one poll', '200 ok, then 401 token_revoked within one poll', () =>
      revoked(() => grant(a)),
    ),
    expect('revoked cached opaque token refused', '200 ok, then 401 token_revoked within one poll', () =>
      revoked(() => mint(a, { format: 'opaque' })),
    ),
    expect('rotate-and-revoke refused', '200 ok, then 401 token_revoked within one poll', rotatedAndRevoked),
    expect('issuer down: cached allowed', '200 ok, then down: 200 ok', cachedWhileDown),
    expect('issuer down: new opaque 503', '503 introspection_unavailable', async () =>
      show(await send(get(await mint(a, { format: 'opaque' })))),
    ),
    expect('issuer down: JWT allowed', '200 ok', newJwtWhileDown),
    expect('no rule 403', '403 no_rule', async () => show(await send({ path: '/customers', token: await mint(a) }))),
    expect('spoofed identity header stripped', '200 ok, the service saw x-auth-subject: web', spoofed),
    expect('ambiguous path 400', '5 × 400 path_rejected', ambiguous),
    expect('nothing that was refused reached the service', '0', async () => {
      return {
        text: String(stage.reached() - reachedBefore - allowed),
        us: 0,
        note: `${allowed} of ${asked} requests did`,
      }
    }),
  ]

  async function send(request: Ask): Promise<Answer> {
    asked += 1
    const answer = await ask(request)
    if (answer.status === 200) allowed += 1
    return answer
  }

  /** Shows an answer, and how often any issuer was called for it. */
  async function counted(request: () => Promise<Answer>): Promise<Seen> {
    const calls = () => [a, b].reduce((sum, realm) => sum + realm.introspections() + realm.jwksFetches(), 0)
    const before = calls()
    const answer = await request()
    return show(answer, `, ${calls() - before} calls`)
  }

  async function rotated(): Promise<Seen> {
    await rotate(a)
    const token = await mint(a)
    const before = a.jwksFetches()
    const answer = await send(get(token))
    return show(answer, `, ${a.jwksFetches() - before} key fetch`)
  }

  async function opaqueTen(): Promise<Seen> {
    const token = await mint(a, { format: 'opaque' })
    const before = a.introspections()
    // Five at once share one call, five more find its answer kept.
    const answers = await Promise.all(Array.from({ length: 5 }, () => send(get(token))))
    for (let left = 5; left > 0; left -= 1) answers.push(await send(get(token)))
    return showAll(answers, `, ${a.introspections() - before} introspection`)
  }

  async function wrapped(): Promise<Seen> {
    const token = await mint(b, { format: 'wrapped_opaque' })
    const before = [a.introspections(), b.introspections()] as const
    const answer = await send(get(token))
    return show(answer, `, A asked ${a.introspections() - before[0]}, B asked ${b.introspections() - before[1]}`)
  }

  async function revoked(make: () => Promise<string>): Promise<Seen> {
    const token = await make()
    const first = await send(get(token))
    await revoke(a, token)
    return await untilRefused(first, () => send(get(token)), stage.clock)
  }

  async function rotatedAndRevoked(): Promise<Seen> {
    const token = await mint(b)
    const first = await send(get(token))
    await rotate(b, '?revoke=true')
    return await untilRefused(first, () => send(get(token)), stage.clock)
  }

  async function cachedWhileDown(): Promise<Seen> {
    const token = await mint(a, { format: 'opaque' })
    const first = await send(get(token))
    await stage.cut()
    const second = await send(get(token))
    return { ...show(second), text: `${verdictOf(first)}, then down: ${verdictOf(second)}` }
  }

  /** A token the gateway has not seen before: its keys are enough. */
  async function newJwtWhileDown(): Promise<Seen> {
    try {
      return show(await send(get(await grant(a))))
    } finally {
      await stage.mend()
    }
  }

  async function spoofed(): Promise<Seen> {
    const lines = ['X-Auth-Subject: root', 'x_auth_subject: root', 'X.Auth.Subject: root']
    const answer = await send({ path, token: await mint(a), lines })
    return show(answer, `, the service saw ${subjectsSeen(answer)}`)
  }

  async function ambiguous(): Promise<Seen> {
    const token = await mint(a)
    const answers: Answer[] = []
    for (const odd of ['/orders/../admin', '/orders/%2e%2e', '/orders/..%2fadmin', '//orders/1', '/orders/1;v=2'])
      answers.push(await send({ path: odd, token }))
    return showAll(answers)
  }
}

function expect(name: string, expected: string, run: () => Promise<Seen>): Case {
  return { name, expected, run }
}

/** An answer's status and reason, such as `401 token_expired`. */
function verdictOf({ status, reason }: Answer): string {
  return `${status} ${reason}`
}

function show(answer: Answer, more = ''): Seen {
  return { text: `${verdictOf(answer)}${more}`, us: answer.us }
}

function showAll(answers: readonly Answer[], more = ''): Seen {
  const verdicts = [...new Set(answers.map(verdictOf))].sort().join(' and ')
  return { text: `${answers.length} × ${verdicts}${more}`, us: answers.at(-1)?.us ?? 0 }
}

function subjectsSeen({ status, body }: Answer): string {
  const { headers } = status === 200 ? parseJsonObject(body) : {}
  const seen = Object.entries(headers ?? {}).filter(([name]) => name.replace(/[^a-z]/g, '-') === 'x-auth-subject')
  return seen.length === 0 ? 'none' : seen.map(([name, values]) => `${name}: ${String(values)}`).join(', ')
}
