import { findTlsConflicts, lintCertificate } from '../app/certificates.ts'
import { findKeyFileConflicts, findMissingFiles, problemOf } from '../app/configuration.ts'
import { listMetrics } from '../app/listed-metrics.ts'
import { lintListValues, lintLocalList, readLocalList } from '../app/local-list-file.ts'
import { variablesUnexpanded } from '../config/expand.ts'
import type { LoadDeps, Loaded } from '../config/load.ts'
import { load, loadFile } from '../config/load.ts'
import type { Problem } from '../config/problems.ts'
import { formatProblem, maxProblems } from '../config/problems.ts'
import { formatReference, formatSchema } from '../config/reference.ts'
import type { GatewayOptions } from '../config/schema.ts'
import { findGatewayConflicts, gatewayOptions } from '../config/schema.ts'
import { lintHosts, lintPublic } from '../decision/public-lint.ts'
import { lintRules } from '../decision/rule-lint.ts'
import { counted, lintIssuers, lintListeners, lintReach, meaning } from './check-meaning.ts'
import { lintValues } from './check-values.ts'
import type { Shell } from './shell.ts'
import { exitCodes, sayFailure } from './shell.ts'

type Options = { readonly json?: true; readonly strict?: true; readonly secrets?: true; readonly docs?: string }
type Finding = Problem & { readonly severity: 'error' | 'warning' }
type Found = { readonly file: string; readonly findings: readonly Finding[]; readonly means: readonly string[] }
/** `ok`: whether it is good enough, with `--strict` or without. */
type Checked = Found & { readonly ok: boolean }

/** Checks configuration files as `serve` would, warns of what loads and is probably not meant, and says what the numbers mean together. */
export function check(files: readonly string[], options: Options, shell: Shell): number {
  try {
    if (options.docs !== undefined) {
      shell.writeFile(`${options.docs}/postern.schema.json`, formatSchema())
      shell.writeFile(`${options.docs}/README.md`, formatReference(listMetrics()))
      shell.say(`Wrote ${options.docs}/postern.schema.json and ${options.docs}/README.md\n`)
    } else if (files.length === 0) {
      shell.say('postern: name at least one file to check\n')
      return exitCodes.usage
    }
    const checked = files.map((file): Checked => {
      const found = checkFile(file, options, shell)
      const isBad = ({ severity }: Finding) => severity === 'error' || options.strict === true
      return { ok: !found.findings.some(isBad), ...found }
    })
    if (options.json === true) shell.out(`${JSON.stringify(checked, null, 2)}\n`)
    else for (const each of checked) shell.out(formatChecked(each, shell.color))
    return checked.every(({ ok }) => ok) ? exitCodes.ok : exitCodes.configuration
  } catch (error) {
    return sayFailure(shell, error)
  }
}

function checkFile(file: string, options: Options, shell: Shell): Found {
  const { clock, env, readFile, fileMode } = shell
  // One that is missing does not hide what is wrong with the others.
  const text = loadFile(file, readFile, (read) => read)
  if (typeof text !== 'string') return { file, means: [], findings: text.problems.map(asError) }
  const loaded = load(gatewayOptions, { file, text }, { env }, findGatewayConflicts)
  const missing = findMissing(file, text, loaded, { env, readFile, fileMode }).map((problem): Finding => {
    return { ...problem, severity: options.secrets === true ? 'error' : 'warning' }
  })
  if (loaded.kind === 'refused') {
    const listed = checkListAlone(file, text, shell)
    return { file, means: [], findings: [...loaded.problems.map(asError), ...missing, ...listed] }
  }
  const { value, locate } = loaded
  const spelled = loaded.warnings.map((problem): Finding => ({ ...problem, severity: 'warning' }))
  const lintedBy = (lints: readonly (typeof lintRules)[]) =>
    lints
      .flatMap((lint) => lint(value.rules, undefined, value.hosts))
      .map(({ path, message }) => ({ path: ['rules', ...path], message }))
  const warnings = [
    [...lintedBy([lintRules]), ...lintValues(value)],
    lintedBy([lintPublic, lintHosts]),
    [
      ...lintListeners(value),
      ...lintReach(value),
      ...lintIssuers(value),
      ...lintCertificate(value, readFile, clock.wallMs()),
    ],
  ]
  const unexpanded = variablesUnexpanded(text, env)
  const findings = warnings.map((kind) =>
    kind.map(({ path, message }): Finding => {
      return { ...locate(path), path: path.join('.'), message: unexpanded(message), severity: 'warning' }
    }),
  )
  const listed = checkLocalList(value, shell)
  const told = upToMost([spelled, ...findings])
  return { file, findings: [...told, ...missing, ...listed], means: meaning(value).map(unexpanded) }
}

/** As many warnings as errors are told, of what weighs more, which comes later, before others; of more the last says so. */
function upToMost(kinds: readonly (readonly Finding[])[]): readonly Finding[] {
  let room = maxProblems
  const told = kinds
    .toReversed()
    .map((kind) => {
      const some = kind.slice(0, room)
      room -= some.length
      return some
    })
    .toReversed()
    .flat()
  const last = told.at(-1)
  if (last === undefined || kinds.flat().length === told.length) return told
  return [...told, { ...last, path: '', message: 'there is more to warn of than is told here', excerpt: '' }]
}

/** What is wrong in the operator's list itself: of a configuration that is refused nobody knows which issuers it is to have. */
function checkListAlone(file: string, text: string, { env, readFile }: Shell): readonly Finding[] {
  let local: GatewayOptions['blacklist']['local']
  // No other key is looked at: one that every configuration must have may be mistyped.
  load(gatewayOptions.pick({ blacklist: true }).loose(), { file, text }, { env }, ({ blacklist }) => {
    local = blacklist.local
    return []
  })
  if (local === undefined || problemOf(local.file, readFile) !== undefined) return []
  const list = readLocalList(local.file, undefined, { env, readFile })
  return list.kind === 'refused' ? list.problems.map(asError) : []
}

/** What is wrong in the operator's list, and what of it does nothing or too much; that it is not here is told at the key. */
function checkLocalList(options: GatewayOptions, { clock, env, readFile }: Shell): readonly Finding[] {
  const { local } = options.blacklist
  if (local === undefined || problemOf(local.file, readFile) !== undefined) return []
  const list = readLocalList(local.file, options, { env, readFile })
  if (list.kind === 'refused') return list.problems.map(asError)
  const nowS = clock.wallMs() / 1000
  const runOutS = nowS - options.blacklist.purge_delay / 1000
  const isPast = ({ expires_at }: { readonly expires_at?: number | undefined }) =>
    expires_at !== undefined && expires_at <= runOutS
  const count = list.value.entries.filter(isPast).length
  const others = count === 1 ? '' : `, the first of ${count}`
  const path = ['entries', list.value.entries.findIndex(isPast), 'expires_at']
  const past = { path, message: `this entry has expired, and revokes nothing any more${others}` }
  const found = [count === 0 ? undefined : past, lintLocalList(list.value, nowS), ...lintListValues(list.value)]
  return found.flatMap((finding): readonly Finding[] => {
    if (finding === undefined) return []
    return [{ ...list.locate(finding.path), ...finding, path: finding.path.join('.'), severity: 'warning' }]
  })
}

function asError(problem: Problem): Finding {
  return { ...problem, severity: 'error' }
}

/** Secrets and files that are not here, or hold no such thing: where the gateway runs they must be, where a change is reviewed they need not. */
function findMissing(file: string, text: string, loaded: Loaded<GatewayOptions>, deps: LoadDeps): readonly Problem[] {
  const full = load(gatewayOptions, { file, text }, deps, (options, whole) => [
    ...findGatewayConflicts(options, whole),
    ...findMissingFiles(options, deps.readFile),
    ...findTlsConflicts(options, deps.readFile),
    ...findKeyFileConflicts(options, deps.readFile),
  ])
  if (full.kind === 'loaded') return []
  const told =
    loaded.kind === 'refused' ? loaded.problems.map(({ line, column, message }) => `${line}:${column}:${message}`) : []
  return full.problems.filter(({ line, column, message }) => !told.includes(`${line}:${column}:${message}`))
}

function formatChecked({ file, findings, means, ok }: Checked, color: boolean): string {
  const errors = findings.filter(({ severity }) => severity === 'error').length
  const warnings = findings.length - errors
  const told = findings.map((finding) => {
    const message = finding.severity === 'warning' ? `warning: ${finding.message}` : finding.message
    return formatProblem({ ...finding, message }, { color })
  })
  const warned = counted(warnings, 'warning')
  const passed = ok ? `ok${warnings > 0 ? `, ${warned}` : ''}` : `${warned}, refused by --strict`
  const verdict = `${file}: ${errors > 0 ? counted(errors, 'error') : passed}`
  return `${[...told, verdict, ...means.map((line) => `  ${line}`)].join('\n')}\n`
}
