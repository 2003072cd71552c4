import { systemClock } from '../../src/runtime/clock.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import { copyDatastore } from '../../src/storage/backup/copy-datastore.ts'
import { restoreDatastore } from '../../src/storage/backup/restore-datastore.ts'

/** The program that the tests kill: restores, or moves, and prints a line whenever it has done some more. */
const [work = '', from = '', to = ''] = process.argv.slice(2)
const common = {
  now: systemClock.now(),
  log: silentLogger,
  signal: new AbortController().signal,
  onRows: (what: string) => { process.stdout.write(`${what}\n`) }
}
if (work === 'move') await copyDatastore({ from, to, ...common })
else await restoreDatastore({ file: from, url: to, force: true, discardRevocations: true, onReport: () => {}, ...common })
