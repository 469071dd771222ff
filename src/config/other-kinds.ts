// Files that are taken for one of ours, or for another of ours.
import type { Entry, Span } from './written.ts'

// Each has one key that no other has, and nobody reads a dozen errors as "this is the wrong file".
const kindsOfFile = [
  { key: 'rules', is: 'a configuration of the gateway' },
  { key: 'realms', is: 'a configuration of `postern issuer`' },
  { key: 'entries', is: 'a list of revoked tokens' },
]

/**
 * What a file is instead, if it is surely another: a sentence, and where the key is that says so.
 *
 * @param entries By the keys of the whole document.
 * @param names The keys that are wanted there.
 */
export function otherKind(
  entries: ReadonlyMap<string, Entry>,
  names: readonly string[],
): { readonly why: string; readonly at: Span } | undefined {
  const version = entries.get('apiVersion')
  if (version !== undefined && entries.has('kind')) {
    const why =
      'it is a Kubernetes manifest (apiVersion, kind), wanted the configuration alone, as in the data of a ConfigMap'
    return { why, at: version.key }
  }
  const own = kindsOfFile.find(({ key }) => names.includes(key))
  const other = kindsOfFile.find(({ key }) => entries.has(key))
  const entry = entries.get(other?.key ?? '')
  if (own === undefined || other === undefined || entry === undefined || entries.has(own.key)) return undefined
  return { why: `it is ${other.is} (${other.key}), wanted ${own.is}`, at: entry.key }
}
