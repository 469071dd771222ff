import assert from 'node:assert/strict'
import { test } from 'node:test'
import { unreachable } from '../../src/base/errors.ts'

test('unreachable() says nothing of the value: it may be a secret', () => {
  assert.throws(() => unreachable('s3cret' as never), { name: 'TypeError', message: /^(?!.*s3cret)/ })
})
