import type { SecretSource } from '../base/options.ts'
import { readSecret, SecretRefused } from '../io/files.ts'
import { cannotRead } from './expand.ts'
import type { LoadDeps } from './load.ts'
import type { Finding, Path } from './problems.ts'
import { hideCredentials, isNameOfSecret, isSecretPath } from './secrets.ts'
import type { Written } from './written.ts'
import { findWritten } from './written.ts'

/** Tries every secret that a value names; without the power to read files, only what should name a variable is looked at. */
export function findSecretProblems(value: unknown, root: Written, deps: LoadDeps): readonly Finding[] {
  // One for all of the way: a file has hundreds of thousands of members, and few of them name a secret.
  const path: (string | number)[] = []
  const found: Finding[] = []
  visit(value)
  return found

  function visit(value: unknown): void {
    if (typeof value !== 'object' || value === null) return
    if (Array.isArray(value)) {
      for (const [at, member] of value.entries()) visitMember(at, member)
      return
    }
    const names = Object.keys(value)
    const [name] = names
    const held: unknown =
      names.length === 1 && (name === 'file' || name === 'env') ? Reflect.get(value, name) : undefined
    if ((name === 'file' || name === 'env') && typeof held === 'string' && isSecretPath(path.slice(-1)))
      found.push(...problemAt([...path, name], name, held))
    else for (const each of names) visitMember(each, Reflect.get(value, each))
  }

  function visitMember(step: string | number, member: unknown): void {
    path.push(step)
    visit(member)
    path.pop()
  }

  function problemAt(path: Path, name: 'file' | 'env', held: string): readonly Finding[] {
    const node = findWritten(root, path)
    const written = node?.kind === 'scalar' ? node.value : undefined
    const wrong = name === 'env' ? problemOfVariable(written) : undefined
    if (wrong !== undefined) return [{ path, at: 'value', message: cannotRead(path, wrong) }]
    const why = tryOne(name === 'file' ? { file: held } : { env: held }, deps)
    if (why === undefined) return []
    const kind = name === 'file' ? 'file' : 'environment variable'
    const named = isNameOfSecret(name, written) ? `${kind} ${hideCredentials(written)}` : `the ${kind}`
    return [{ path, at: 'value', message: `Cannot read secret: ${named} ${why}` }]
  }
}

/** Under `env:` a variable is named; one that is filled in as a whole would have its value taken for a name. */
function problemOfVariable(written: unknown): string | undefined {
  if (typeof written !== 'string') return undefined
  const [, braced, bare] = /^\$(?:\{([A-Za-z_]\w*)(?::-[^}]*)?\}|([A-Z_][A-Z0-9_]*))$/.exec(written) ?? []
  const meant = braced ?? bare
  if (meant === undefined && !/\s/.test(written)) return undefined
  return `expected the name of an environment variable${meant === undefined ? '' : `, write "env: ${meant}"`}`
}

/** Why a secret cannot be used, as the rest of a sentence about it. */
function tryOne(source: SecretSource, { env, readFile, fileMode }: LoadDeps): string | undefined {
  if (readFile === undefined) return undefined
  try {
    readSecret(source, { env, readFile, mode: fileMode ?? (() => 0) })
    return undefined
  } catch (error) {
    if (!(error instanceof SecretRefused)) throw error
    return error.why
  }
}
