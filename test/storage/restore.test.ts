import t from 'tap'
import { comparisonContract } from './backup-comparison.ts'
import { everyDatabase } from './backup-fixture.ts'
import { refusalContract } from './backup-refusals.ts'

for (const database of await everyDatabase(t)) {
  await refusalContract(t, database)
  await comparisonContract(t, database)
}
