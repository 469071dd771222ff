import { codeOf, messageOf } from '../base/errors.ts'
import { JsonRefused, parseJsonObject } from '../base/json.ts'
import type { HttpAnswer, HttpHandler } from '../io/http-server.ts'
import { problem } from '../io/http-server.ts'

type Question = { method: string; url: string; token: string | undefined; certificate: string | undefined }

/** What the admin listener asks the process. */
export type AdminDeps = {
  /** Explains a request to the running gateway, with its caches and lists. Rejects with an Error for a bad URL. */
  readonly explain: (question: Question) => Promise<unknown>
  /** The state of issuers, lists and configuration. */
  readonly status: () => unknown
}

// A page in the operator's browser must not reach this listener under a name of its own (DNS rebinding).
const ownHost = /^(?:localhost|127\.0\.0\.1|\[::1\])(?::\d{1,5})?$/

/** Answers the admin listener: `POST /explain` with `{"method","url","token","certificate"}`, and `GET /status`. */
export function createAdmin(deps: AdminDeps): HttpHandler {
  return async ({ method, path, headers, body }) => {
    const host = headers.get('host') ?? []
    if (host.length !== 1 || !ownHost.test(host[0] ?? '')) return problem(403, 'Not a name of this listener')
    // A browser sends it with whatever a page does; no tool of ours does.
    if (headers.has('origin')) return problem(403, 'Not for browsers')
    if (path === '/status' && method === 'GET') return json(deps.status())
    if (path !== '/explain') return problem(404, 'Not Found')
    if (method !== 'POST') return problem(405, 'Method Not Allowed')
    const question = readQuestion(body)
    if (typeof question === 'string') return problem(400, question)
    try {
      return json(await deps.explain(question))
    } catch (error) {
      if (codeOf(error) === 'ERR_QUESTION_REFUSED') return problem(400, messageOf(error))
      throw error
    }
  }
}

function readQuestion(body: Buffer): Question | string {
  try {
    const { method, url, token, certificate, ...unknown } = parseJsonObject(body)
    // A token under another name would be none, and the answer a wrong one.
    if (Object.keys(unknown).length > 0) return 'There is a key beside method, url, token and certificate'
    if (typeof method !== 'string' || typeof url !== 'string') return 'method and url are strings'
    if (token !== undefined && token !== null && typeof token !== 'string') return 'token is a string'
    if (certificate !== undefined && certificate !== null && typeof certificate !== 'string')
      return 'certificate is a string'
    return { method, url, token: token ?? undefined, certificate: certificate ?? undefined }
  } catch (error) {
    if (error instanceof JsonRefused) return 'The body is not a JSON object'
    throw error
  }
}

function json(value: unknown): HttpAnswer {
  const headers = { 'content-type': 'application/json', 'cache-control': 'no-store' }
  return { status: 200, headers, body: `${JSON.stringify(value, null, 2)}\n` }
}
