import { formatSchema } from '../config/reference.ts'
import type { Shell } from './shell.ts'
import { exitCodes } from './shell.ts'

/** Prints the JSON Schema of the configuration file, for editors. */
export function schema(shell: Shell): number {
  shell.out(formatSchema())
  return exitCodes.ok
}
