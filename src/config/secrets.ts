// What may be a secret in a configuration: such a value is never shown, whatever is wrong with it.
import type { Path } from './problems.ts'

/** Whether what stands at a path may be a secret, judged by the names of its keys: if so, it is never shown. */
export function isSecretPath(path: Path): boolean {
  return path.some((step) => typeof step === 'string' && secretName.test(step))
}

const secretName = /secret|password|tokens?$|keys?$/i

/**
 * Whether what is written under `file:` or `env:` of a secret is surely a name, and may be shown. A secret may stand there
 * by mistake: of what could be one, in itself or by its variable, only the place is told.
 */
export function isNameOfSecret(kind: string, written: unknown): written is string {
  if (typeof written !== 'string') return false
  return kind === 'env' ? /^[A-Z_][A-Z0-9_]*$/.test(written) : kind === 'file' && pathLike.test(written)
}

// No default of a variable: that is text of the file itself.
const pathLike = /^(?:(?:\.{0,2}|~)\/|\$\{\w+\}(?=\/|$))(?:(?!\$\{\w+:-).)*$/
