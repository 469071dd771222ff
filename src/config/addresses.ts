// Addresses to listen on, as they are written.
import * as z from 'zod'

/** An address in its parts; `host` is spelled as `sameAddress` has it. */
type Address = { readonly written: string; readonly host: string; readonly port: number }

/** Reads an address such as `[::1]:8080`. */
export function readAddress(text: string): Address {
  const colon = text.lastIndexOf(':')
  const written = text.slice(0, colon)
  return { written, host: sameAddress(written), port: Number(text.slice(colon + 1)) }
}

/** Whether somebody can listen there, as far as it is written; what ends in a number is no name (RFC 1123 §2.1). */
export function isAddressOrName(host: string): boolean {
  if (host.startsWith('[')) return z.ipv6().safeParse(host.slice(1, -1)).success
  return z.ipv4().safeParse(host).success || /^(?:[A-Za-z0-9-]+\.)*[A-Za-z0-9-]*[A-Za-z-][A-Za-z0-9-]*\.?$/.test(host)
}

/** One spelling for all of an address; localhost is the one it stands for nearly everywhere. */
export function sameAddress(host: string): string {
  const spelled = URL.parse(`http://${host}`)?.hostname.replace(/\.$/, '') ?? host
  return spelled === 'localhost' ? '127.0.0.1' : spelled
}

/** What stands for every address of the machine. */
export const everyHost: ReadonlySet<string> = new Set(['0.0.0.0', '[::]'])
