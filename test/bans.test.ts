import assert from 'node:assert/strict'
import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'

const source = join(import.meta.dirname, '../src')
const files = globSync('**/*.ts', { cwd: source }).sort()

/** What the code must not contain, why, and the files that may. */
const bans: readonly { pattern: RegExp; why: string; except?: readonly string[] }[] = [
  { pattern: /\beval\(|new Function\(/, why: 'no text becomes code' },
  { pattern: /runIn(?:New|This)?Context|new vm\./, why: 'no text becomes code', except: ['cli/lean-start.ts'] },
  { pattern: /child_process/, why: 'the gateway starts nothing' },
  {
    pattern: /\bJSON\.parse\b/,
    why: 'one strict parser for what comes from outside',
    // A list that was judged before is read as it was written, by `mergedList` alone.
    except: ['app/local-list-file.ts', 'base/json.ts', 'main.ts'],
  },
  { pattern: /new URL\(/, why: 'it folds what a rule must see', except: ['main.ts'] },
  { pattern: /insecureHTTPParser|rejectUnauthorized: false|NODE_TLS_REJECT/, why: 'no check is switched off' },
  {
    pattern: /\bDate\.now\b|performance\.now|Math\.random|process\.env\b/,
    why: 'powers are injected',
    except: ['main.ts'],
  },
  { pattern: /\bconsole\./, why: 'one way out for words' },
  { pattern: /"kty"/, why: 'no key material in the code' },
  { pattern: /@ts-(?:ignore|expect-error|nocheck)|\bas any\b|: any[;,)=[]/, why: 'the types hold' },
  { pattern: /export default|\benum [A-Z]|\bnamespace [A-Z]/, why: 'erasable syntax, named exports' },
]

for (const { pattern, why, except = [] } of bans) {
  test(`src has no ${pattern.source}: ${why}`, () => {
    const found = files.filter(
      (file) => !except.includes(file) && pattern.test(code(readFileSync(join(source, file), 'utf8'))),
    )
    assert.deepEqual(found, [])
    for (const file of except) assert.ok(files.includes(file), `${file} is excepted and does not exist`)
  })
}

test('every export of src has a doc comment', () => {
  const bare = files.flatMap((file) => {
    const lines = readFileSync(join(source, file), 'utf8').split('\n')
    return lines.flatMap((line, at) => {
      if (!/^export (?:async )?(?:function|const|class|type) /.test(line)) return []
      return lines[at - 1]?.trimEnd().endsWith('*/') === true ? [] : [`${file}:${at + 1} ${line.slice(0, 60)}`]
    })
  })
  assert.deepEqual(bare, [])
})

/** The text without comments: a comment may name what the code must not do. */
function code(text: string): string {
  return text.replaceAll(/\/\*[\s\S]*?\*\//g, '').replaceAll(/(^|\s)\/\/.*$/gm, '$1')
}
