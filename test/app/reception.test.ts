import assert from 'node:assert/strict'
import { once } from 'node:events'
import type { Socket } from 'node:net'
import { connect } from 'node:net'
import { test } from 'node:test'
import type { Desk, Reception } from '../../src/app/workers/reception.ts'
import { openReception } from '../../src/app/workers/reception.ts'
import { settle } from '../support/until.ts'

/** A desk that keeps what it is handed, and says nothing of it by itself. */
type TestDesk = Desk & {
  readonly handed: Socket[]
  readonly numbers: number[]
  readonly asked: number[]
  silent: boolean
}

function makeDesk(): TestDesk {
  const handed: Socket[] = []
  const numbers: number[] = []
  const asked: number[] = []
  const desk: TestDesk = {
    handed,
    numbers,
    asked,
    silent: false,
    hand(socket, number) {
      handed.push(socket)
      numbers.push(number)
    },
    ask: (through) => void asked.push(through),
    answers: () => !desk.silent,
  }
  return desk
}

async function openTestReception(maxUntaken = Number.POSITIVE_INFINITY): Promise<
  AsyncDisposable & {
    readonly it: Reception
    readonly told: readonly string[]
    readonly arrive: (count: number) => readonly Promise<string>[]
  }
> {
  const address = { host: '127.0.0.1', port: 0 }
  const told: string[] = []
  const it = await openReception(
    { address, maxUntaken },
    { failed: (error) => assert.fail(String(error)), dropped: (cause) => void told.push(cause) },
  )
  const clients: Socket[] = []
  return {
    it,
    told,
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

/** A reception with two desks. */
async function openTwoDesks() {
  const reception = await openTestReception()
  const [a, b] = [makeDesk(), makeDesk()]
  reception.it.open(a)
  reception.it.open(b)
  return { ...reception, a, b }
}

test('openReception() hands each connection to the desk that has the fewest', async () => {
  await using reception = await openTwoDesks()
  const { a, b } = reception
  reception.it.told(a, { through: 0, lost: [], open: 6 })

  reception.arrive(10)
  await settle()

  assert.deepEqual([a.handed.length, b.handed.length], [2, 8])
})

test('openReception() passes over a desk that is silent while another answers, and not when none does', async () => {
  await using reception = await openTwoDesks()
  const { a, b } = reception
  a.silent = true

  reception.arrive(4)
  await settle()
  assert.deepEqual([a.handed.length, b.handed.length], [0, 4])
  b.silent = true
  reception.arrive(4)
  await settle()

  assert.deepEqual([a.handed.length, b.handed.length], [4, 4])
})

test('openReception() has who comes while no desk is there wait for one', async () => {
  await using reception = await openTestReception()
  reception.arrive(3)
  await settle()
  const desk = makeDesk()

  reception.it.open(desk)

  assert.equal(desk.handed.length, 3)
})

test('openReception() hands a desk that acknowledges nothing 64, and the rest as it does', async () => {
  await using reception = await openTestReception()
  const desk = makeDesk()
  reception.it.open(desk)
  reception.arrive(80)
  await settle()
  assert.equal(desk.handed.length, 64)

  reception.it.told(desk, { through: 10, lost: [], open: 10 })

  assert.equal(desk.handed.length, 74)
})

test('openReception() numbers what it hands a desk from 1, and every desk by itself', async () => {
  await using reception = await openTwoDesks()
  const { a, b } = reception
  reception.arrive(4)
  await settle()
  reception.it.told(a, { through: 2, lost: [], open: 9 })

  reception.arrive(1)
  await settle()
  reception.it.told(a, { through: 2, lost: [], open: 0 })
  reception.arrive(1)
  await settle()

  assert.deepEqual(
    [a.numbers, b.numbers],
    [
      [1, 2, 3],
      [1, 2, 3],
    ],
  )
})

test('told() closes what a desk has got past and not taken, counts it, and counts nothing that was taken', async () => {
  await using reception = await openTestReception()
  const desk = makeDesk()
  reception.it.open(desk)
  const ends = reception.arrive(3)
  await settle()

  // The second never came.
  reception.it.told(desk, { through: 1, lost: [], open: 1 })
  assert.equal(reception.it.dropped().get('no_worker'), 0)
  reception.it.told(desk, { through: 3, lost: [2], open: 2 })
  reception.it.told(desk, { through: 3, lost: [], open: 0 })

  assert.deepEqual(
    desk.handed.map(({ destroyed }) => destroyed),
    [true, true, true],
  )
  // All of them here, where no other process has a handle on what it has taken.
  assert.deepEqual(await Promise.all(ends), ['closed', 'closed', 'closed'])
  assert.equal(reception.it.dropped().get('no_worker'), 1)
})

const numbers = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, at) => from + at)

test('told() hands what one desk has lost to another, and spares the first for ten seconds', async () => {
  await using reception = await openTwoDesks()
  const { a, b } = reception
  reception.arrive(4)
  await settle()

  reception.it.told(a, { through: 2, lost: [2], open: 1 })
  reception.it.told(b, { through: 2, lost: [], open: 2 })
  assert.deepEqual([a.handed.length, b.handed.length], [2, 3])
  assert.equal(b.handed[2], a.handed[1])
  assert.deepEqual(
    a.handed.map(({ destroyed }) => destroyed),
    [true, false],
  )
  reception.arrive(2)
  await settle()
  assert.deepEqual([a.handed.length, b.handed.length], [2, 5])
  for (let second = 0; second <= 10; second += 1) reception.it.turn()
  reception.arrive(2)
  await settle()

  assert.deepEqual([a.handed.length, b.handed.length], [4, 5])
  assert.equal(reception.it.dropped().get('no_worker'), 0)
})

test('openReception() asks a desk that has 64 to acknowledge how far it is, and hands on when all were lost', async () => {
  await using reception = await openTestReception()
  const desk = makeDesk()
  reception.it.open(desk)
  reception.arrive(150)
  await settle()
  assert.deepEqual(desk.asked, [64])

  reception.it.told(desk, { through: 64, lost: numbers(1, 64), open: 0 })
  assert.deepEqual(desk.asked, [64, 128])
  reception.it.told(desk, { through: 128, lost: numbers(65, 128), open: 0 })

  assert.equal(desk.handed.length, 150)
  assert.equal(reception.it.dropped().get('no_worker'), 128)
})

test('turn() asks the desks that have not acknowledged all, and no other', async () => {
  await using reception = await openTwoDesks()
  const { a, b } = reception
  reception.arrive(4)
  await settle()
  reception.it.told(a, { through: 2, lost: [], open: 2 })

  reception.it.turn()

  assert.deepEqual([a.asked, b.asked], [[], [2]])
})

test('turn() lets go of who has waited 15 seconds for a desk, and counts it; of who came later not', async () => {
  await using reception = await openTestReception()
  const ends = reception.arrive(2)
  await settle()
  reception.it.turn()
  reception.arrive(1)
  await settle()
  for (let second = 1; second < 15; second += 1) reception.it.turn()
  assert.equal(reception.it.dropped().get('no_worker'), 0)

  reception.it.turn()

  assert.deepEqual(await Promise.all(ends), ['closed', 'closed'])
  assert.equal(reception.it.dropped().get('no_worker'), 2)
  const desk = makeDesk()
  reception.it.open(desk)
  assert.equal(desk.handed.length, 1)
})

test('openReception() counts who comes while 1,024 wait as one too many', async () => {
  await using reception = await openTestReception()
  // In parts: more than the kernel queues would come again a second later.
  for (let part = 0; part < 4; part += 1) {
    reception.arrive(256)
    await settle()
  }
  const ends = reception.arrive(2)

  assert.deepEqual(await Promise.all(ends), ['closed', 'closed'])

  assert.deepEqual([reception.it.dropped().get('limit'), reception.it.dropped().get('no_worker')], [2, 0])
  assert.deepEqual(reception.told, ['limit', 'limit'])
})

test('openReception() closes who comes while as many as there are descriptors for wait or are not taken yet', async () => {
  await using reception = await openTestReception(80)
  const desk = makeDesk()
  reception.it.open(desk)
  reception.arrive(80)
  await settle()
  assert.equal(desk.handed.length, 64)

  const ends = reception.arrive(2)
  assert.deepEqual(await Promise.all(ends), ['closed', 'closed'])
  reception.it.told(desk, { through: 1, lost: [], open: 1 })
  reception.arrive(1)
  await settle()

  assert.equal(desk.handed.length, 65)
  assert.deepEqual([reception.it.dropped().get('limit'), reception.it.dropped().get('no_worker')], [2, 0])
})

test('leave() ends what was handed to a desk and not taken, and nothing else', async () => {
  await using reception = await openTwoDesks()
  const { a, b } = reception
  reception.arrive(4)
  await settle()

  reception.it.leave(a)

  assert.equal(reception.it.dropped().get('no_worker'), 2)
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
  assert.equal(desk.asked.at(-1), 100, 'what is lost of them is told')
  const late = connect(reception.it.port, '127.0.0.1')
  const [error] = await once(late, 'error')
  assert.equal((error as NodeJS.ErrnoException).code, 'ECONNREFUSED') // what node:net says
})

test('close() ends those who wait', async () => {
  await using reception = await openTestReception()
  const ends = reception.arrive(2)
  await settle()

  reception.it.close()

  assert.deepEqual(await Promise.all(ends), ['closed', 'closed'])
})
