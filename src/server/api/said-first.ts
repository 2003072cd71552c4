import { codeOf, SpiffeError, type ErrorCode } from '../../spiffe/errors.ts'

/**
 * Has a refusal begin with the words that SPIRE's begins with: scripts match on them (spire-surface §1.1). Its code stays.
 * @param words with the space at their end
 */
export function saidFirst<T> (words: string, work: () => T): T {
  try {
    return work()
  } catch (error) {
    throw beginning(words, error)
  }
}

/** Words by the code of the refusal; of other codes nothing is said. */
export type WordsByCode = Partial<Record<ErrorCode, string>>

/** The same of what goes on for a while. */
export async function saidFirstLater<T> (words: WordsByCode, work: () => T | Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    throw saidFirstOf(words, error)
  }
}

/** @returns what to throw instead */
export function saidFirstOf (words: WordsByCode, error: unknown): unknown {
  const first = words[codeOf(error) as ErrorCode]
  return first === undefined ? error : beginning(first, error)
}

function beginning (words: string, error: unknown): unknown {
  if (!(error instanceof SpiffeError)) return error
  // In its place, and not because of it: logs would say the same twice.
  const { code, message, cause, requirement, details, retryAfterMs } = error
  return new SpiffeError(code, words + message, { cause, requirement, details, retryAfterMs })
}
