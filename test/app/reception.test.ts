import assert from 'node:assert/strict'
import { once } from 'node:events'
import type { Socket } from 'node:net'
import { connect } from 'node:net'
import { test } from 'node:test'
import { setTimeout as wait } from 'node:timers/promises'
import type { Desk, Reception } from '../../src/app/reception.ts'
import { openReception } from '../../src/app/reception.ts'

/** A desk that keeps what it is handed, and says nothing of it by itself. */
type TestDesk = Desk & { readonly handed: Socket[]; silent: boolean }

function makeDesk(): TestDesk {
  const handed: Socket[] = []
  const desk: TestDesk = {
    handed,
    silent: false,
    hand: (socket) => void handed.push(socket),
    answers: () => !desk.silent,
  }
  return desk
}

async function openTestReception(): Promise<
  AsyncDisposable & { readonly it: Reception; readonly arrive: (count: number) => readonly Promise<string>[] }
> {
  const it = await openReception({ host: '127.0.0.1', port: 0 }, { failed: (error) => assert.fail(String(error)) })
  const clients: Socket[] = []
  return {
    it,
    /** Connects; each resolves with how it ended. */
    arrive: (count) =>
      Array.from({ length: count }, () => {
        const socket = connect(it.port, '127.0.0.1')
        clients.push(socket)
        return new Promise((resolve) => {
          socket.on('end', () => resolve('closed'))
          socket.on('error', () => resolve('reset'))
          socket.resume()
        })
      }),
    async [Symbol.asyncDispose]() {
      it.close()
      for (const socket of clients) socket.destroy()
    },
  }
}

test('openReception() hands each connection to the desk that has the fewest', async () => {
  await using reception = await openTestReception()
  const [a, b] = [makeDesk(), makeDesk()]
  reception.it.open(a)
  reception.it.open(b)
  reception.it.told(a, 0, 6)

  reception.arrive(10)
  await wait(100)

  assert.deepEqual([a.handed.length, b.handed.length], [2, 8])
})

test('openReception() passes over a desk that is silent while another answers, and not when none does', async () => {
  await using reception = await openTestReception()
  const [a, b] = [makeDesk(), makeDesk()]
  reception.it.open(a)
  reception.it.open(b)
  a.silent = true

  reception.arrive(4)
  await wait(100)
  assert.deepEqual([a.handed.length, b.handed.length], [0, 4])
  b.silent = true
  reception.arrive(4)
  await wait(100)

  assert.deepEqual([a.handed.length, b.handed.length], [4, 4])
})

test('openReception() has who comes while no desk is there wait for one', async () => {
  await using reception = await openTestReception()
  reception.arrive(3)
  await wait(100)
  const desk = makeDesk()

  reception.it.open(desk)

  assert.equal(desk.handed.length, 3)
})

test('openReception() hands a desk that acknowledges nothing 64, and the rest as it does', async () => {
  await using reception = await openTestReception()
  const desk = makeDesk()
  reception.it.open(desk)
  reception.arrive(80)
  await wait(200)
  assert.equal(desk.handed.length, 64)

  reception.it.told(desk, 10, 10)

  assert.equal(desk.handed.length, 74)
})

test('leave() ends what was handed to a desk and not taken, and nothing else', async () => {
  await using reception = await openTestReception()
  const [a, b] = [makeDesk(), makeDesk()]
  reception.it.open(a)
  reception.it.open(b)
  reception.arrive(4)
  await wait(100)

  reception.it.leave(a)

  assert.deepEqual(
    a.handed.map(({ destroyed }) => destroyed),
    [true, true],
  )
  assert.deepEqual(
    b.handed.map(({ destroyed }) => destroyed),
    [false, false],
  )
})

test('drain() hands over everybody who has connected, however many, and then takes nobody', async () => {
  await using reception = await openTestReception()
  const desk = makeDesk()
  reception.it.open(desk)
  reception.arrive(100)

  await reception.it.drain()

  assert.equal(desk.handed.length, 100)
  const late = connect(reception.it.port, '127.0.0.1')
  const [error] = await once(late, 'error')
  assert.equal((error as NodeJS.ErrnoException).code, 'ECONNREFUSED') // what node:net says
})

test('close() ends those who wait', async () => {
  await using reception = await openTestReception()
  const ends = reception.arrive(2)
  await wait(100)

  reception.it.close()

  assert.deepEqual(await Promise.all(ends), ['closed', 'closed'])
})
