export type Task = (signal: AbortSignal) => Promise<void>

/**
 * Runs tasks side by side until all have ended. The first failure aborts the siblings' signal; its error is thrown
 * once all have stopped. When the outer signal aborts, tasks that end by throwing its reason count as finished.
 */
export async function runTasks (signal: AbortSignal, tasks: readonly Task[]): Promise<void> {
  const siblings = new AbortController()
  const inner = AbortSignal.any([signal, siblings.signal])
  let failure: { error: unknown } | undefined
  await Promise.all(tasks.map(async task => {
    try {
      await task(inner)
    } catch (error) {
      if (isStop(error, inner) || failure !== undefined) return
      failure = { error }
      siblings.abort(error)
    }
  }))
  if (failure !== undefined) throw failure.error
}

/** Whether an error only says that this signal aborted. */
export function isStop (error: unknown, signal: AbortSignal): boolean {
  return signal.aborted && (error === signal.reason || (error instanceof Error && error.name === 'AbortError'))
}
