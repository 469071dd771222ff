import { readFileSync } from 'node:fs'
import { join } from 'node:path'

const root = join(import.meta.dirname, '../..')

/** What tests start as `postern`: the source, or, for `test/run.ts --dist`, the built program. */
export const program = process.env['POSTERN_TEST_PROGRAM'] ?? join(root, 'src/main.ts')

/** What the image is started with behind `node`: its options, and where in the checkout the built program is. */
export const image = readEntrypoint()

function readEntrypoint(): { readonly options: readonly string[]; readonly program: string } {
  const entrypoint = /^ENTRYPOINT (\[.*\])$/m.exec(readFileSync(join(root, 'Dockerfile'), 'utf8'))?.[1] ?? '[]'
  const [, ...args] = JSON.parse(entrypoint) as string[] // the array that Docker wants
  return { options: args.slice(0, -1), program: join(root, args.at(-1) ?? '') }
}
