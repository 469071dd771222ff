// From the text of a configuration file to one object that serves requests.
import { BlockList, isIP, isIPv6 } from 'node:net'
import { messageOf } from '../base/errors.ts'
import type { Clock } from '../base/time.ts'
import { unixAddress } from '../base/unix-address.ts'
import type { CrossFinding, LoadDeps, Refused } from '../config/load.ts'
import { hashOf, load, loadFile } from '../config/load.ts'
import type { GatewayOptions } from '../config/schema.ts'
import { findGatewayConflicts, gatewayOptions } from '../config/schema.ts'
import { createCors } from '../decision/cors.ts'
import type { Principal } from '../decision/decision.ts'
import { createHeaderFilter } from '../decision/headers.ts'
import { createPolicy } from '../decision/policy.ts'
import { compileRules } from '../decision/rules.ts'
import type { Serving } from '../gates/gate.ts'
import { createGateway } from '../gateway.ts'
import { saidOfUnreadable } from '../io/files.ts'
import { readKeySet } from '../sources/held-keys.ts'
import type { KnownTokens } from '../sources/known-tokens.ts'
import type { LocalListOptions } from '../sources/local-list.ts'
import { createLocalList, emptyLocalList } from '../sources/local-list.ts'
import { findCertificateProblem } from '../spec/pem.ts'
import type { IssuerSources, SourceDeps } from './issuer-sources.ts'
import { createIssuerSources } from './issuer-sources.ts'
import type { ListDeps, Merged, RefusedLists } from './local-list-file.ts'
import { mergedList, mergeLists, readLocalList, writtenList } from './local-list-file.ts'
import { createLookups } from './lookups.ts'
import { findUpstreamFileConflicts } from './upstream/upstream-files.ts'

/** Where a configuration is written, and how it is read anew. */
export type ConfigurationSource = {
  /** The name for messages; also the file that is watched, where it is one. */
  readonly file: string
  /** Throws when it cannot be read. */
  readonly read: () => string
}

/** A configuration that was read and found good, with what it refers to. */
export type Configuration = {
  readonly kind: 'loaded'
  readonly options: GatewayOptions
  readonly file: string
  readonly text: string
  readonly localList: LocalListOptions
  /** Files it names, the operator's list and certificates among them, as they were when it was read; without secrets. */
  readonly files: ReadonlyMap<string, Buffer>
  /** SHA-256 of the text in hex, and where there is a list a hyphen and that of the list's. */
  readonly hash: string
  /** Where the list has entries that its file has not: what `withListAnew` found last. */
  readonly merged?: MergedFrom
}

/** The SHA-256 of a list's file, how many entries are in force besides, and how many there was no room for since a whole configuration came. */
type MergedFrom = Pick<Merged, 'kept' | 'leftOut'> & { readonly fileHash: string }

/**
 * Reads a configuration and the lists it names. Reports all problems of a file at once; never throws.
 *
 * @param deps `readNamed` reads files that are named and are no secrets; default `readFile`. Without either, the
 *   configuration is as if its operator had no list. `refusedLists`: a list that is in it is not judged again.
 * @param findMore What else would be wrong with it here.
 */
export function readConfiguration(
  source: ConfigurationSource,
  {
    readNamed,
    refusedLists,
    ...deps
  }: LoadDeps & {
    readonly readNamed?: LoadDeps['readFile']
    readonly refusedLists?: RefusedLists
  },
  findMore: (options: GatewayOptions) => readonly CrossFinding[] = () => [],
): Configuration | Refused {
  const files = new Map<string, Buffer>()
  const readReal = readNamed ?? deps.readFile
  const readFile = readReal && ((path: string) => readOnce(path, files, readReal))
  const loaded = loadFile(source.file, source.read, (text) => {
    const parsed = load(gatewayOptions, { file: source.file, text }, deps, (options, whole) => [
      ...findGatewayConflicts(options, whole),
      ...findMissingFiles(options, readFile, readReal),
      ...findMore(options),
    ])
    return parsed.kind === 'refused' ? parsed : { ...parsed, text }
  })
  if (loaded.kind === 'refused') return loaded
  const { value: options, hash, text } = loaded
  const { file } = source
  if (options.blacklist.local === undefined || readFile === undefined)
    return { kind: 'loaded', options, file, text, localList: emptyLocalList, files, hash }
  // Whoever handed the file on has judged it, and may have put more into it than a file may have.
  const bounds = readNamed === undefined ? writtenList : mergedList
  const local = readLocalList(options.blacklist.local.file, options, { env: deps.env, readFile, refusedLists }, bounds)
  if (local.kind === 'refused') return local
  return { kind: 'loaded', options, file, text, localList: local.value, files, hash: `${hash}-${local.hash}` }
}

/**
 * A configuration's hash for logs and labels: the first 16 characters of its text's, and of its list's, so that a change
 * of either shows.
 *
 * @param hash As `Configuration` has it.
 * @example '9f86d081884c7d65-60303ae22b998861'
 */
export function shortHash(hash: string): string {
  return hash.replaceAll(/[^-]+/g, (each) => each.slice(0, 16))
}

/** The hash of a configuration's list; undefined where it has none. */
export function listHash({ hash }: Pick<Configuration, 'hash'>): string | undefined {
  return hash.split('-')[1]
}

/**
 * A configuration with what its operator's list has now besides what was in force: while the rest of a change is refused,
 * nobody knows what else was to revoke what the list leaves out. Never throws.
 *
 * @returns Undefined for a configuration without a list; `kept` is how many entries are in force that the file has not,
 *   `leftOut` how many there has been no room for since the whole was loaded: they are lost until it is again.
 */
export function withListAnew(
  configuration: Configuration,
  { env, readFile, refusedLists, clock }: ListDeps & { readonly clock: Clock },
): ListAnew | Refused | undefined {
  const { options } = configuration
  const { local } = options.blacklist
  if (local === undefined) return undefined
  const { file } = local
  const leftOutBefore = configuration.merged?.leftOut ?? 0
  const files = new Map(configuration.files)
  files.delete(file)
  // Whoever tries to mend the rest changes it again and again, and a long list takes a second.
  const fileHash = loadFile(file, (path) => readOnce(path, files, readFile), hashOf)
  if (fileHash === (configuration.merged?.fileHash ?? listHash(configuration))) {
    const { kept = 0 } = configuration.merged ?? {}
    return { configuration, kept, leftOut: leftOutBefore }
  }
  const list = readLocalList(file, options, { env, readFile: (path) => readOnce(path, files, readFile), refusedLists })
  if (list.kind === 'refused') return list
  const nowS = clock.wallMs() / 1000
  const { bytes, kept, ...merge } = mergeLists(list.value, configuration.localList, options.blacklist, nowS)
  const leftOut = leftOutBefore + merge.leftOut
  // In the file's place, and read as it is: so do workers get it, and one that cannot read it ends.
  if (kept > 0) files.set(file, bytes)
  const both = kept > 0 ? readLocalList(file, options, { env, readFile: () => bytes }, mergedList) : list
  if (both.kind === 'refused') return both
  const merged: MergedFrom = { fileHash: list.hash, kept, leftOut }
  const [ofText] = configuration.hash.split('-')
  return {
    configuration: { ...configuration, localList: both.value, files, hash: `${ofText}-${both.hash}`, merged },
    kept,
    leftOut,
  }
}

type ListAnew = Pick<Merged, 'kept' | 'leftOut'> & { readonly configuration: Configuration }

/** Whoever is handed the configuration later must see the bytes that were judged, whatever the path leads to by then. */
function readOnce(path: string, files: Map<string, Buffer>, readFile: (path: string) => Buffer): Buffer {
  const bytes = files.get(path) ?? readFile(path)
  files.set(path, bytes)
  return bytes
}

/**
 * Files a configuration names that cannot be used, each at the key that names it; none where files are not looked at.
 *
 * @param readSecret Reads those that are secrets.
 */
export function findMissingFiles(
  options: GatewayOptions,
  readFile: LoadDeps['readFile'],
  readSecret = readFile,
): readonly CrossFinding[] {
  if (readFile === undefined) return []
  const named = options.issuers.flatMap(({ jwks, http }, at) => [
    { path: ['issuers', at, 'jwks', 'file'], file: jwks.file },
    { path: ['issuers', at, 'http', 'ca', 'file'], file: http.ca?.file, holds: findCertificateProblem },
  ])
  const { tls } = options.upstream
  const others = [
    { path: ['upstream', 'tls', 'ca', 'file'], file: tls?.ca?.file },
    { path: ['upstream', 'tls', 'cert', 'file'], file: tls?.cert?.file },
    { path: ['blacklist', 'local', 'file'], file: options.blacklist.local?.file },
  ]
  const missing = [...named, ...others].flatMap(({ path, file, ...rest }) => {
    if (file === undefined) return []
    const wrong =
      problemOf(file, readFile) ?? ('holds' in rest ? rest.holds(readFile(file).toString('utf8')) : undefined)
    return wrong === undefined ? [] : [{ path, message: wrong }]
  })
  return [...missing, ...findUpstreamFileConflicts(options.upstream, readFile, readSecret)]
}

/**
 * Files of keys that can be read and hold none, each at the key that names it. Not asked of what serves: the last good
 * keys stay in use there, and a file that is broken for a moment must hold up nothing else.
 */
export function findKeyFileConflicts(options: GatewayOptions, readFile: LoadDeps['readFile']): readonly CrossFinding[] {
  if (readFile === undefined) return []
  return options.issuers.flatMap(({ jwks: { file } }, at) => {
    if (file === undefined || problemOf(file, readFile) !== undefined) return []
    try {
      readKeySet(readFile(file))
      return []
    } catch (error) {
      const why = messageOf(error).replace(/^Cannot (?:parse JSON|load keys): /, '')
      const message = `it holds no JSON Web Key Set: ${why}`
      return [{ path: ['issuers', at, 'jwks', 'file'], message }]
    }
  })
}

/** Why a file cannot be read, in a clause; undefined for one that can. */
export function problemOf(file: string, readFile: (path: string) => Buffer): string | undefined {
  try {
    readFile(file)
    return undefined
  } catch (cause) {
    return `the file ${saidOfUnreadable(cause)}`
  }
}

/** A configuration at work. */
export type Running = {
  readonly configuration: Configuration
  readonly sources: readonly IssuerSources[]
  readonly serving: Serving
}

/** What putting a configuration to work needs. */
export type RunDeps = Omit<SourceDeps, 'files'> & { readonly clock: Clock; readonly known: KnownTokens<Principal> }

/**
 * Puts a configuration to work, in place of what runs now. Where it throws, nothing has changed.
 *
 * @param before What runs now: an issuer of which nothing changed keeps its sources, with all they hold.
 */
export function run(configuration: Configuration, before: Running | undefined, deps: RunDeps): Running {
  const { options } = configuration
  const sources = options.issuers.map((issuer) => {
    const old = before?.sources.find((each) => each.options.issuer === issuer.issuer)
    return createIssuerSources(issuer, options, old, { ...deps, files: configuration.files })
  })
  const running = { configuration, sources, serving: serve(configuration, sources, deps) }
  for (const each of sources) each.start()
  if (before !== undefined) retire(before, running)
  return running
}

/** Ends what a configuration had and the next one does not use. */
export function retire({ sources }: Running, next?: Running): void {
  for (const each of sources) each.close(next?.sources.find(({ options }) => options.issuer === each.options.issuer))
}

function serve({ options, localList }: Configuration, sources: readonly IssuerSources[], deps: RunDeps): Serving {
  const { clock, known, counted } = deps
  const policy = createPolicy(
    compileRules(options.rules),
    sources.map((each) => each.trusted),
  )
  const list = createLocalList(localList, options.blacklist, { clock })
  const lookups = createLookups(sources, options.blacklist, { clock, known, counted, localList: list })
  const headerOptions = {
    identityHeaders: new Map(Object.entries(options.identity_headers)),
    keepHeaders: options.keep_headers,
  }
  return {
    gateway: createGateway(policy, lookups, clock),
    headers: createHeaderFilter(headerOptions, { isTrustedProxy: trust(options.trusted_proxies) }),
    hosts: new Set(options.hosts),
    requireHttps: options.require_https,
    streamGraceMs: options.stream_grace,
    cors: options.cors === undefined ? undefined : createCors(options.cors),
  }
}

function trust(proxies: readonly string[]): (ip: string) => boolean {
  if (proxies.length === 0) return () => false
  const listed = new BlockList()
  const trustsUnix = proxies.includes(unixAddress)
  for (const written of proxies.filter((each) => each !== unixAddress)) {
    const [address = '', bits] = written.split('/')
    const family = isIPv6(address) ? 'ipv6' : 'ipv4'
    if (bits === undefined) listed.addAddress(address, family)
    else listed.addSubnet(address, Number(bits), family)
  }
  return (ip) => {
    if (ip === unixAddress) return trustsUnix
    // A connection that broke at once has none.
    return isIP(ip) !== 0 && listed.check(ip, isIPv6(ip) ? 'ipv6' : 'ipv4')
  }
}
