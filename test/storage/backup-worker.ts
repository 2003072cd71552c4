import { systemClock } from '../../src/runtime/clock.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import { copyDatastore } from '../../src/storage/backup/copy-datastore.ts'
import { restoreDatastore } from '../../src/storage/backup/restore-datastore.ts'

/**
 * Restores, or moves, and is killed once it has told so often that some more is done: by itself, since whoever only watches it may come too
 * late.
 */
const [work = '', from = '', to = '', stage = '', pieces = ''] = process.argv.slice(2)
let told = 0
const common = {
  now: systemClock.now(),
  log: silentLogger,
  signal: new AbortController().signal,
  onRows (what: string): void {
    if (what === stage && ++told === Number(pieces)) process.kill(process.pid, 'SIGKILL')
  }
}
if (work === 'move') await copyDatastore({ from, to, ...common })
else await restoreDatastore({ file: from, url: to, force: true, discardRevocations: true, onReport: () => {}, ...common })
