import fc from 'fast-check'
import type t from 'tap'
import { SpiffeError, type ErrorCode } from '../../src/spiffe/errors.ts'

/** Asserts that a property holds; what is shown otherwise has the smallest counterexample. */
export async function holds<T> (test: Pick<typeof t, 'equal'>, rule: string, property: fc.IRawProperty<T>, numRuns = 1_000): Promise<void> {
  test.equal(fc.defaultReportMessage(await fc.check(property, { numRuns })), undefined, rule)
}

/** The result, or `undefined` when it was refused with this code. Whatever else is thrown is a bug and goes on. */
export function unlessRefused<T> (code: ErrorCode, action: () => T): T | undefined {
  try {
    return action()
  } catch (error) {
    if (error instanceof SpiffeError && error.code === code) return undefined
    throw error
  }
}
