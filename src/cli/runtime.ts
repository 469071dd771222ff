/** What a process runs on. */
export type Runtime = {
  /** Such as `26.10.0`. */
  readonly nodeVersion: string
  readonly execArgv: readonly string[]
  readonly nodeOptions: string
}

/**
 * Why a gateway must not run here; undefined where it may.
 *
 * 24.14.1: the first with every fix of the parser and the hash seeds that what stands here relies on; `engines` says
 * the same, and nothing enforces it. The lenient parser reads requests in ways we did not judge.
 */
export function refuseRuntime({ nodeVersion, execArgv, nodeOptions }: Runtime): string | undefined {
  const [major = 0, minor = 0, patch = 0] = nodeVersion.split('.').map(Number)
  const isOld = major < 24 || (major === 24 && (minor < 14 || (minor === 14 && patch < 1)))
  if (isOld) return `Cannot serve: Node is ${nodeVersion}, wanted 24.14.1 or newer`
  // Wherever it stands and however it is quoted; `=true` sets it, too.
  const options = [...execArgv, nodeOptions].join(' ').replaceAll(/["\\]/g, '').replaceAll('_', '-')
  if (options.includes('--insecure-http-parser'))
    return 'Cannot serve: --insecure-http-parser is set, wanted the strict parser'
  return undefined
}
