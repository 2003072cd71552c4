import { findViolation, type Faults } from './log-model.ts'

/** The program that the tests start: a range of seeds. Within the test runner, which follows each promise, it takes ten times as long. */
const [from = '1', count = '1', faults = '{}'] = process.argv.slice(2)
process.stdout.write(await findViolation(Number(from), Number(count), JSON.parse(faults) as Faults) ?? '')
