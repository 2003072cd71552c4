import type { Outcome } from './run-assay.ts'

/** The shortest wait, and how often it is doubled: up to some 80 s in all. */
const [shortestMs, rounds] = [300, 9]

/**
 * The outcome of a command whose wait is in vain, once it says what is expected of it: agents may be slower than a short wait, and a long
 * one would be sat through to its end.
 * @param command is given its `-wait-timeout`
 * @returns the last outcome where none says it
 */
export async function waitLonger (command: (...words: readonly string[]) => Promise<Outcome>, says: RegExp): Promise<Outcome> {
  for (let round = 0; ; round++) {
    const outcome = await command('-wait-timeout', `${shortestMs * 2 ** round}ms`)
    if (says.test(outcome.stdout) || round === rounds - 1) return outcome
  }
}
