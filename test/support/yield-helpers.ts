// Clients and services of a measurement stand for other machines: the threads that compile and collect for them must not
// take the processor of whom is measured. Imported before anything else (`node --import`).
import { readdirSync, readFileSync } from 'node:fs'
import { constants, setPriority } from 'node:os'

const tasks = '/proc/self/task'
for (const task of readdirSync(tasks))
  if (readFileSync(`${tasks}/${task}/comm`, 'latin1').includes('V8Worker'))
    setPriority(Number(task), constants.priority.PRIORITY_LOW)
