// What Linux tells of a connection's timers.
import { readFileSync } from 'node:fs'
import type { Socket } from 'node:net'

/** A port as the system's table of connections writes it. */
const inHex = (port: number | undefined): string => `:${port?.toString(16).toUpperCase().padStart(4, '0')}`

/**
 * Which of its timers the system runs for our end of a connection to a peer: 2 probes whether the peer is there. Both
 * ports are looked for: one of ours may be that of a connection to elsewhere, too, which ended a moment ago.
 */
export function timerOf({ remotePort, localPort }: Socket): number | undefined {
  const [ours, theirs] = [inHex(remotePort), inHex(localPort)]
  const columns = readFileSync('/proc/self/net/tcp', 'utf8')
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
    .find(([, local, remote]) => local?.endsWith(ours) === true && remote?.endsWith(theirs) === true)
  return columns?.[5] === undefined ? undefined : Number.parseInt(columns[5], 16)
}
