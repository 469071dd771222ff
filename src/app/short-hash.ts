/**
 * A configuration's hash for logs and labels: the first 16 characters of its text's SHA-256, and where its operator has
 * a list, a hyphen and those of the list's, so that a change of either shows.
 *
 * @param hash As `Configuration` has it: one SHA-256 in hex, or two in a row.
 * @example '9f86d081884c7d65-60303ae22b998861'
 */
export function shortHash(hash: string): string {
  const list = hash.slice(64)
  return list === '' ? hash.slice(0, 16) : `${hash.slice(0, 16)}-${list.slice(0, 16)}`
}
