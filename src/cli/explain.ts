import type { Explanation } from '../app/explain/explain.ts'
import { QuestionRefused } from '../app/explain/explain.ts'
import { explainOffline } from '../app/explain/explain-offline.ts'
import { printable } from '../config/problems.ts'
import { maxTokenLength } from '../spec/authorization.ts'
import type { Shell } from './shell.ts'
import { exitCodes, sayFailure, sayRefused } from './shell.ts'

/** Explains one decision, step by step. The token comes on stdin: an argument would stand in the process list and the shell's history. */
export async function explainCommand(
  method: string,
  url: string,
  options: { readonly config: string; readonly certificate?: string; readonly json?: boolean },
  shell: Shell,
): Promise<number> {
  const { config: file, certificate } = options
  if (shell.stdinIsTerminal) shell.say('Token, then Ctrl-D (nothing for a request without one):\n')
  try {
    // What is over the cap is still explained as such.
    const token = (await shell.readStdin(maxTokenLength * 2)).trim()
    const source = { file, read: () => shell.readFile(file).toString('utf8') }
    const question = { method, url, token: token === '' ? undefined : token, certificate }
    const explained = await explainOffline(source, question, shell)
    if (explained.kind === 'refused') return sayRefused(shell, explained.problems)
    const { explanation } = explained
    shell.out(options.json === true ? `${JSON.stringify(explanation, null, 2)}\n` : formatExplanation(explanation))
    if (explanation.decision === 'allow') return exitCodes.ok
    return (explanation.status ?? 0) >= 500 ? exitCodes.undecided : exitCodes.deny
  } catch (error) {
    const code = sayFailure(shell, error)
    return error instanceof QuestionRefused ? exitCodes.usage : code
  }
}

/**
 * Writes an explanation as a table of steps, the verdict, and what would make it pass. A claim is the token's own text:
 * nothing in it may drive the terminal.
 */
export function formatExplanation({ decision, reason, status, rule, issuer, steps, hint }: Explanation): string {
  const width = Math.max(...steps.map(({ stage }) => stage.length))
  const lines = steps.map(({ stage, passed, is, wanted }) => {
    const mark = passed ? '  ok  ' : ' FAIL '
    return `${mark}${stage.padEnd(width)}  ${printable(is)}${passed ? '' : `\n${' '.repeat(width + 8)}wanted: ${printable(wanted)}`}`
  })
  const verdict = `${decision} ${reason}${status === null ? '' : ` (${status})`}`
  const about = [rule === undefined ? '' : `rule ${rule}`, issuer === undefined ? '' : `issuer ${issuer}`]
  lines.push('', [verdict, ...about.filter((part) => part !== '')].join(', '))
  if (hint !== null) lines.push(`To pass: ${printable(hint)}`)
  return `${lines.join('\n')}\n`
}
