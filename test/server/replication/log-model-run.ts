import { findViolation } from './log-model.ts'

/** The program that the soak test starts, one for each core: a range of seeds. */
const [from = '1', count = '1'] = process.argv.slice(2)
process.stdout.write(await findViolation(Number(from), Number(count)) ?? '')
