import { join } from 'node:path'

/** What tests start as `postern`: the source, or, for `test/run.ts --dist`, the built program. */
export const program = process.env['POSTERN_TEST_PROGRAM'] ?? join(import.meta.dirname, '../../src/main.ts')
