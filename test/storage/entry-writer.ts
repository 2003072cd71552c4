import { silentLogger } from '../../src/runtime/logger.ts'
import { systemClock } from '../../src/runtime/clock.ts'
import { openDatastore } from '../../src/storage/open-datastore.ts'
import { draft } from './fixture.ts'

/** The program that the tests kill: writes batches for ever and prints the number of each one that was acknowledged. */
const [url = '', first = '0', size = '1'] = process.argv.slice(2)
const store = await openDatastore(url, { clock: systemClock, log: silentLogger })
for (let batch = Number(first); ; batch++) {
  await store.entries.createMany(Array.from({ length: Number(size) }, (_, n) => draft(`b${batch}/e${n}`, { hint: `b${batch}` })))
  // Waited for: SQLite answers without a turn of the event loop, and a line that could not be written at once would wait for one for ever.
  await new Promise(resolve => process.stdout.write(`${batch}\n`, resolve))
}
