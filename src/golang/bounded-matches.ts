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
  return inLimitedTime(() => [...matchesOf(regexp, text)], `on a text of ${text.length} characters`)
}

/**
 * Runs it, again where it was stopped without having had the time: the limit is one of clocks on walls, and a machine that is busy or stood
 * still takes of that too.
 * @param what for the error @throws {GoRegexpError} when it takes too long
 */
export function inLimitedTime<T> (find: () => T, what: string): T {
  const begun = process.threadCpuUsage()
  for (;;) {
    try {
      return runInNewContext('find()', { find }, { timeout: timeoutMs }) as T
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ERR_SCRIPT_EXECUTION_TIMEOUT') throw error
      const { user, system } = process.threadCpuUsage(begun)
      if ((user + system) / 1_000 >= timeoutMs / 2) throw new GoRegexpError(`takes longer than ${timeoutMs} ms ${what}`)
    }
  }
}
