// Runs an issuer in a process of its own, for tests that kill it or watch its system calls.
// Arguments: the database file, and `off` to take the flush to disk out of every commit.
import { randomBytes } from 'node:crypto'
import { silentLog } from '../../src/io/log.ts'
import { startIssuer } from '../../src/issuer/issuer.ts'
import { parseIssuerOptions } from '../../src/issuer/options.ts'

const [path = '', synchronous] = process.argv.slice(2)
if (synchronous === 'off') {
  // Here and not in the product: no option of an issuer may weaken what its 200 means.
  const { DatabaseSync } = process.getBuiltinModule('node:sqlite')
  const { exec } = DatabaseSync.prototype
  DatabaseSync.prototype.exec = function (sql) {
    exec.call(this, sql.replace('synchronous = FULL', 'synchronous = OFF'))
  }
}
const issuer = await startIssuer(
  parseIssuerOptions({
    version: 1,
    listen: '127.0.0.1:0',
    store: { sqlite: path },
    realms: [
      {
        issuer: 'https://login.test/realm',
        audience: 'orders-api',
        clients: [{ client_id: 'web', client_secret: 'web-secret-1' }],
        resource_servers: [{ client_id: 'orders', client_secret: 'rs-secret-4444', audience: 'orders-api' }],
      },
    ],
  }),
  {
    clock: { wallMs: Date.now, monotonicMs: () => performance.now() },
    random: randomBytes,
    log: silentLog,
    dev: false,
  },
)
// Whoever started it may be killed as well: nothing is left behind then.
process.stdin.resume().on('end', () => process.exit(0))
// Its own pid: what was started may be the tracer.
process.stdout.write(`${process.pid} ${issuer.realms[0]?.url}\n`)
