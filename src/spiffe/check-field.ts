import { SpiffeError, type ErrorCode } from './errors.ts'

/** Runs one check; a refusal gets the code of the whole, and the prefix, if any, before its message. */
export function checkField<T> (code: ErrorCode, prefix: string, check: () => T): T {
  try {
    return check()
  } catch (error) {
    if (!(error instanceof SpiffeError)) throw error
    const message = prefix === '' ? error.message : `${prefix}: ${error.message}`
    throw new SpiffeError(code, message, { cause: error, requirement: error.requirement })
  }
}
