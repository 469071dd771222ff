// What may be a secret in a configuration: such a value is never shown, whatever is wrong with it.
import { nearest } from '../base/nearest.ts'
import type { Path } from './problems.ts'

/** Whether what stands at a path may be a secret, judged by the names of its keys: if so, it is never shown. */
export function isSecretPath(path: Path): boolean {
  return path.some((step) => typeof step === 'string' && isSecretName(step))
}

/** Whether a key is, or was most likely to be, one that a secret stands under: whoever mistypes it writes the secret all the same. */
export function isSecretName(name: string): boolean {
  // Of a JWK (RFC 7517 §4.1), and one letter away from `key`.
  if (name === 'kty') return false
  if (secretName.test(name)) return true
  const words = name.replaceAll(/([a-z])(?=[A-Z])/g, '$1_').split(/[^A-Za-z0-9]+/)
  const last = words.at(-1) ?? ''
  return (
    nearest(name, ['client_secret']) !== undefined ||
    nearest(last, ['token', 'key']) !== undefined ||
    // With fewer letters a word is near none of them, and most words of many are as short.
    words.some((word) => word.length > 3 && nearest(word, ['secret', 'password', 'passphrase', 'passwd']) !== undefined)
  )
}

// Of a JWK, `d`, `p`, `q`, `dp`, `dq`, `qi` and `k` are what is secret (RFC 7518 §6).
const secretName =
  /secret|passw|passphrase|passcode|tokens?$|keys?$|(?:^|[_.-])(?:psk|creds?|cookies?|assertion)$|^(?:credentials?|authorization(?:[_-]?header)?|(?:basic_?)?auth|bearer|jwt|pass|pwd|pin|d[pq]?|[kpq]|qi)$/i

/**
 * What of a key that the schema does not know may be told: YAML makes one key of `client_secret:hunter2` and of
 * `client_secret hunter2` in braces, and what follows the name is the secret.
 *
 * @param known The keys that may stand there.
 */
export function startOfKey(key: string, known: Iterable<string>): string {
  if (nameOfClaim.test(key)) return key
  const start = /^(?:<<$|[\w.-]|\$\{\w+\})*/.exec(key)?.[0] ?? ''
  // `{ proxy: http://user:hunter,2@host:1 }` has a key, `2@host:1`.
  if (start.length > 64 || key[start.length] === '@') return ''
  // `client_secrethunter2`, but neither `client_secrets` nor what is surely another name.
  const [, name = '', rest = ''] = runTogether.exec(start) ?? []
  if (rest.length > 1 && !afterSecret.test(rest)) return name
  // `client_secret-hunter2`, but not `token-profile` where there is a token_profile.
  const ends = [...start.matchAll(/[.-]/g)].map(({ index }) => start.slice(0, index))
  const begun = ends.find((name) => name !== '' && isSecretName(name))
  return begun !== undefined && nearest(start, known) === undefined ? begun : start
}

const runTogether = /^((?:client[_.-]?)?(?:secret|password|passphrase|passwd)|client[_.-]?pass|api[_.-]?key)(.*)$/i
const afterSecret = /^[_.-]?(?:files?|env|path|ref|name|id|key|url|uri|basic|post|jwt|expires_at)$/i

// `https://a.example/roles`: of a URI no part is a user or a query.
const nameOfClaim = /^(?:https?:\/\/[\w.-]+(?:\/[\w./-]*)?|urn(?::[\w.-]+)+)$/

/**
 * Overwrites with `*`, one for one, what may be a secret wherever it stands: all of a URL before its host, or all of it where
 * that is not sure, the values of a query, what follows the name of a secret, a JWT, what PEM holds, and what follows the
 * first word.
 */
export function hideCredentials(text: string): string {
  // No value of ours is so long, and what looks for its parts is not to hold up a probe.
  if (text.length > 4096) return starred(text)
  if (!/[:=@?\uff20\s]|eyJ|\/\//.test(text)) return text
  return (
    hideInPairs(hideBehindNames(hideInUrl(text)))
      // `30s client_secret hunter2`, `30s // was hunter2`: a value of ours is one word. `30 s` is told as it is written.
      .replace(/\s(?=.{4})(?!(?:second|minute|hour)s?$).*/s, (found) => starred(found))
      .replaceAll(/\beyJ[\w-]{8,}[\w.-]*/g, (found) => starred(found))
      .replaceAll(/(?<=-----BEGIN ).*?(?=-----END |$)/gs, (found) => starred(found))
  )
}

/** A map that is written as one text: `client_id: a, client_secret: hunter2`. */
function hideBehindNames(text: string): string {
  for (const match of text.matchAll(/(?<![\w.-])([\w.-]+)["']?\s*:/g))
    if (isSecretName(match[1] ?? '')) return starred(text, match.index + match[0].length)
  return text
}

/** Pairs of a query or a form, and all that follows in one of them: `Server=a; User Id=b; Password = hunter2`. */
function hideInPairs(text: string): string {
  if (!text.includes('=')) return text
  const pairs = text.split('&').map((pair) => {
    for (const match of pair.matchAll(/(?<![\w.-])([\w.-]+)\s*=/g))
      if (isSecretName(match[1] ?? '')) return starred(pair, match.index + match[0].length)
    return pair
  })
  return pairs.join('&')
}

// No default of a variable: that is text of the file itself.
const hostAndPath =
  /^(?:(?:[\p{L}\p{N}_.*-]|\$\{\w+\})*|\[[\da-f:.%]*\])(?::(?:\d+|\$\{\w+\}))?(?:\/[^?#\s\\]*)?(?:[?#].*)?$/isu

function hideInUrl(text: string): string {
  const at = Math.max(text.lastIndexOf('@'), text.lastIndexOf('\uff20'))
  const slashes = /(?:^|:)\/\//.exec(text)
  if (slashes === null) {
    const colon = text.indexOf(':')
    // Behind the @ it is that of a port: the user is all there is.
    const from = colon < at ? colon + 1 : 0
    // Before an @ in a path is no user.
    const isUser = from > 0 || !text.startsWith('/')
    const end = isUser ? Math.max(from, at) : from
    return isQuery(text.slice(from, end)) ? starred(text, from) : hideQuery(starred(text, from, end))
  }
  const from = slashes.index + slashes[0].length
  const host = Math.max(from, at + 1)
  const rest = text.slice(host)
  // An @ may be one of the query.
  if (isQuery(text.slice(from, host)) || !hostAndPath.test(rest)) return starred(text, from)
  const query = rest.search(/[?#]/)
  const [path, values] = query === -1 ? [rest, ''] : [rest.slice(0, query), rest.slice(query)]
  return `${starred(text.slice(0, host), from, Math.max(from, at))}${path}${hideValues(values)}`
}

function isQuery(text: string): boolean {
  return /[?#]/.test(text)
}

function hideQuery(text: string): string {
  const query = text.indexOf('?')
  return query === -1 ? text : `${text.slice(0, query)}${hideValues(text.slice(query))}`
}

function hideValues(query: string): string {
  return query.replaceAll(/(?<=[?#&;])([\w.-]+=)?[^?#&;]*/g, (found, name = '') => starred(found, name.length))
}

/** Overwrites a stretch of a text, but for what parts its words and lines. */
export function starred(text: string, start = 0, end = text.length): string {
  return text.slice(0, start) + text.slice(start, end).replaceAll(/\S/g, '*') + text.slice(end)
}

/**
 * Whether what is written under `file:` or `env:` of a secret is surely a name, and may be shown. A secret may stand there
 * by mistake: of what could be one, in itself or by its variable, only the place is told.
 */
export function isNameOfSecret(kind: string, written: unknown): written is string {
  if (typeof written !== 'string') return false
  return kind === 'env' ? /^(?:[A-Z_][A-Z0-9_]*|\$\{\w+\})$/.test(written) : kind === 'file' && pathLike.test(written)
}

// No default of a variable: that is text of the file itself.
const pathLike = /^(?:(?:\.{0,2}|~)\/|\$\{\w+\}(?=\/|$))(?:(?!\$\{\w+:-).)*$/
