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
  if (secretName.test(name) || secretNameIn(name) !== undefined) return true
  const words = name.replaceAll(/([a-z])(?=[A-Z])/g, '$1_').split(/[^A-Za-z0-9]+/)
  const last = words.at(-1) ?? ''
  return (
    nearest(name, ['client_secret']) !== undefined ||
    nearest(last, ['token', 'key']) !== undefined ||
    words.some((word) => nearest(word, ['secret', 'password', 'passphrase', 'passwd']) !== undefined)
  )
}

// `d` and `k` are what is secret of a JWK (RFC 7518 §6).
const secretName =
  /secret|passw|passphrase|passcode|tokens?$|keys?$|(?:^|[_.-])(?:psk|creds?|cookies?|assertion)$|^(?:credentials?|authorization(?:[_-]?header)?|(?:basic_?)?auth|bearer|jwt|pass|pwd|pin|[dk])$/i

/**
 * The name of a secret that a key begins with and goes on behind: YAML makes one key of `client_secret:hunter2` and of
 * `client_secret hunter2` in braces, and what follows the name is the secret.
 */
export function secretNameIn(key: string): string | undefined {
  const [, name] = /^([\w.-]+)["']?[\s:=]/.exec(key) ?? []
  return name !== undefined && isSecretName(name) ? name : undefined
}

/**
 * Overwrites with `*`, one for one, what is a secret wherever it stands: the user and password of a URL, a parameter of it
 * whose name says so, a JWT, and what PEM holds.
 */
export function hideCredentials(text: string): string {
  // No expression for this one: it would look for an `@` from every colon, and a line may be a megabyte long.
  const at = text.lastIndexOf('@')
  const opened = at === -1 ? null : /:?\/\/|:/.exec(text)
  const from = opened === null ? at : opened.index + opened[0].length
  return (from < at ? starred(text, from, at) : text)
    .replaceAll(/(?<![\w.-])([\w.-]+)=[^&\s]+/g, (found, name: string) => {
      return isSecretName(name) ? starred(found, name.length + 1) : found
    })
    .replaceAll(/\beyJ[\w-]{8,}[\w.-]*/g, (found) => starred(found))
    .replaceAll(/(?<=-----BEGIN ).*?(?=-----END |$)/gs, (found) => starred(found))
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
