// RFC 6749 §5.2: what an authorization server says of a request it refuses, also at introspection (RFC 7662 §2.3).
import { isJsonObject, JsonRefused, parseJson } from '../base/json.ts'

const codes = [
  'invalid_request',
  'invalid_client',
  'invalid_grant',
  'unauthorized_client',
  'unsupported_grant_type',
  'invalid_scope',
]
// An error with its description and a link; what is longer is a page.
const maxBytes = 4096

/** What a status that is not 200 says, with the code of its body where it has one. */
export function describeRefusal({ status, body }: { readonly status: number; readonly body: Uint8Array }): string {
  const code = status === 400 || status === 401 ? readTokenError(body) : undefined
  return `status is ${status}${code === undefined ? '' : ` (${code})`}, wanted 200`
}

/** One code of the RFC's list; undefined for everything else, which is a server's text and not for a log. */
function readTokenError(body: Uint8Array): string | undefined {
  if (body.length > maxBytes) return undefined
  try {
    const response = parseJson(body)
    return isJsonObject(response) ? codes.find((code) => code === response['error']) : undefined
  } catch (error) {
    if (error instanceof JsonRefused) return undefined
    throw error
  }
}
