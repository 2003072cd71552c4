import { runInNewContext } from 'node:vm'
import { compileGoRegexp, GoRegexpError, matchesOf } from './go-regexp.ts'

/** What one pattern may cost: ours backtrack where Go's would not, and who is matched chooses the text. */
const timeoutMs = 100

/**
 * All matches of a pattern in Go's syntax, from the left; whoever chose the text cannot hold the program up by it.
 * @throws {GoRegexpError} for a pattern that is none, or takes too long on this text
 */
export function boundedMatches (pattern: string, text: string): readonly RegExpExecArray[] {
  const regexp = compileGoRegexp(pattern)
  try {
    return runInNewContext('find()', { find: () => [...matchesOf(regexp, text)] }, { timeout: timeoutMs }) as RegExpExecArray[]
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ERR_SCRIPT_EXECUTION_TIMEOUT') throw error
    throw new GoRegexpError(`takes longer than ${timeoutMs} ms on a text of ${text.length} characters`)
  }
}
