import { systemClock } from '../../src/runtime/clock.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import { copyDatastore } from '../../src/storage/backup/copy-datastore.ts'
import { restoreDatastore } from '../../src/storage/backup/restore-datastore.ts'

/** The program that the tests kill: restores, or moves, until so many pieces are done; then it says so and stands still. */
const [work = '', from = '', to = '', what = '', pieces = ''] = process.argv.slice(2)
let seen = 0
const common = {
  now: systemClock.now(),
  log: silentLogger,
  signal: new AbortController().signal,
  onRows (done: string) {
    if (done !== what || ++seen < Number(pieces)) return
    process.stdout.write('there\n')
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)
  }
}
if (work === 'move') await copyDatastore({ from, to, ...common })
else await restoreDatastore({ file: from, url: to, force: true, discardRevocations: true, onReport: () => {}, ...common })
