// The fuzzer as a program: `node test/wire/fuzz-run.ts SEED MESSAGES` prints what came of it as JSON.
import { differences } from './differences.ts'
import { fuzz } from './fuzz.ts'
import { openNodeOracle } from './node-oracle.ts'
import { openWireWorld } from './world.ts'

const [seed = 1, messages = 1000] = process.argv.slice(2).map(Number)
using oracle = await openNodeOracle()
await using wire = await openWireWorld()
const fuzzed = await fuzz(wire, oracle, { seed, messages, differences })
// After a mistake the books are a consequence of it.
if (fuzzed.wrong.length === 0) wire.assertBooks()
process.stdout.write(`${JSON.stringify(fuzzed)}\n`)
