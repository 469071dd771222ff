import assert from 'node:assert/strict'
import { test } from 'node:test'
import { trustedProxiesOptions } from '../../src/decision/trusted-proxies.ts'

for (const entries of [
  ['10.0.0.0/8', '192.0.2.1', '192.0.2.1/32', '2001:db8::/32', '2001:DB8:0::1', '::1', '::1/128'],
  ['unix:'],
  [],
  ['10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16', 'fd00::/8', 'fe80::/10', '0::ffff:a00:0/104'],
  ['0.0.0.0/1', '128.0.0.0/2', '2000::/4', '::/128'],
])
  test(`trustedProxiesOptions takes ${JSON.stringify(entries)}`, () => void trustedProxiesOptions.parse(entries))

for (const entry of [
  '0.0.0.0/0',
  '::/0',
  '10.0.0.0/0',
  '10.0.0.0/33',
  '10.0.0',
  'localhost',
  '*',
  'unix',
  'unix:/run/a.sock',
  '',
  '::ffff:0:0/96',
])
  test(`trustedProxiesOptions refuses "${entry}": it is no address and no block, or every one`, () => {
    const said = trustedProxiesOptions.safeParse([entry]).error?.issues.map(({ message }) => message)
    assert.deepEqual(said, ['expected an address or a block like 10.0.0.0/8, not every address there is, or unix:'])
  })

for (const [entry, begins] of [
  ['10.1.2.3/8', '10.0.0.0/8'],
  ['192.168.1.0/16', '192.168.0.0/16'],
  ['192.0.2.1/31', '192.0.2.0/31'],
  ['255.255.255.255/1', '128.0.0.0/1'],
  ['2001:db8::1/32', '2001:db8::/32'],
  ['fd12:3456::/8', 'fd00::/8'],
  ['0::ffff:10.1.2.3/104', '::ffff:a00:0/104'],
]) {
  test(`trustedProxiesOptions refuses ${entry}, which is wider than it looks, and says ${begins}`, () => {
    const said = trustedProxiesOptions.safeParse([entry]).error?.issues.map(({ message }) => message)
    assert.deepEqual(said, [`expected a block that begins where it says, perhaps ${begins}, or an address without /`])
  })
}

for (const entries of [
  ['128.0.0.0/1', '10.0.0.1', '0.0.0.0/1'],
  ['0.0.0.0/1', '128.0.0.0/2', '192.0.0.0/3'],
  ['2000::/3'],
  ['3000::/4', '2000::/4'],
  ['10.0.0.0/8', '::/8'],
  ['::/1'],
  ['0::ffff:0:0/96'],
  ['0::ffff:0:0/97', '128.0.0.0/1'],
])
  test(`trustedProxiesOptions refuses ${entries.join(' ')}: together they are everybody`, () => {
    const said = trustedProxiesOptions.safeParse(entries).error?.issues.map(({ message }) => message)
    assert.deepEqual(said, ['every address there is is in it: whoever connects would be believed'])
  })
