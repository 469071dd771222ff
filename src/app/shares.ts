// What one of the processes of a gateway has of the machine.
import type { GatewayOptions } from '../config/schema.ts'
import { maxKnownBytes } from '../sources/known-tokens.ts'

// What a busy process takes without a token: 48 MiB of it are V8's for young objects (README, Decisions).
const busyBytes = 112 * 1_048_576
// Tokens of two forms, and what V8 keeps of each until it collects. Connections may have what it does not keep.
const shares = 4
// Some hundred callers, however little there is.
const leastKnownBytes = 4 * 1_048_576
const leastConnectionBytes = 4 * 1_048_576

/** How many processes serve requests. */
export function countWorkers({ workers }: Pick<GatewayOptions, 'workers'>): number {
  // Of the CPUs, and the share of them, that this process was given.
  return workers === 'auto' ? process.getBuiltinModule('node:os').availableParallelism() : workers
}

/**
 * How many bytes a process may keep of tokens of one form: known tokens are dear to learn anew, but a container that has
 * more of them than memory is killed with all it has under way.
 *
 * @param constrainedBytes As `process.constrainedMemory()` tells it: 0 where nobody knows.
 */
export function knownBytes(workerCount: number, constrainedBytes: number): number {
  if (constrainedBytes === 0) return maxKnownBytes
  const left = Math.floor((constrainedBytes / workerCount - busyBytes) / shares)
  return Math.min(maxKnownBytes, Math.max(leastKnownBytes, left))
}

/**
 * How many bytes the connections of a process may take: `limits.connections` says nothing of what each is, and whoever
 * opens them needs no token.
 *
 * @param constrainedBytes As `process.constrainedMemory()` tells it: 0 where nobody knows.
 */
export function connectionBytes(workerCount: number, constrainedBytes: number): number {
  if (constrainedBytes === 0) return Number.POSITIVE_INFINITY
  return Math.max(leastConnectionBytes, Math.floor((constrainedBytes / workerCount - busyBytes) / 2))
}
