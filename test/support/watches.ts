// What the system watches for this process; on Linux.
import { existsSync, readdirSync, readFileSync } from 'node:fs'

/** Why a test that counts them is skipped. */
export const skipWithoutProc: string | false = existsSync('/proc/self/fdinfo') ? false : 'there is no /proc'

/** How many directories are watched. */
export function countWatches(): number {
  const told = readdirSync('/proc/self/fdinfo').map((fd) => {
    // The one that reads the directory is gone by now.
    return existsSync(`/proc/self/fdinfo/${fd}`) ? readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1') : ''
  })
  return told.join('').split('inotify wd:').length - 1
}
