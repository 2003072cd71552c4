import type { Clock } from './clock.ts'

/** How a piece of work went, for those who count. */
export interface Took {
  readonly durationMs: number
  /** Absent: it succeeded. */
  readonly error?: unknown
}

/** Tells how long `work` took, and what it threw; where nobody listens it costs nothing. */
export async function timed<T> (clock: Clock, tell: ((took: Took) => void) | undefined, work: () => Promise<T>): Promise<T> {
  if (tell === undefined) return await work()
  const startMs = clock.monotonicMs()
  try {
    const result = await work()
    tell({ durationMs: clock.monotonicMs() - startMs })
    return result
  } catch (error) {
    tell({ durationMs: clock.monotonicMs() - startMs, error })
    throw error
  }
}
