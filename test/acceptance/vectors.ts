import { existsSync, readFileSync } from 'node:fs'
import path from 'node:path'
import type { TestContext } from 'node:test'
import { test } from 'node:test'

const folder = path.join(import.meta.dirname, '../../../shared/vectors')

/**
 * A test of vectors that lie beside the repository. Without them it is skipped and says so; in CI it fails.
 *
 * @param file Under the folder of vectors.
 */
export function testVectors<T>(name: string, file: string, run: (vectors: T, t: TestContext) => Promise<void> | void) {
  const full = path.join(folder, file)
  const absent = !existsSync(full)
  const skip = absent && process.env['CI'] !== 'true' ? `${full} is absent` : false
  test(name, { skip }, async (t) => await run(JSON.parse(readFileSync(full, 'utf8')) as T, t))
}
