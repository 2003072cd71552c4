import { systemClock } from '../../runtime/clock.ts'
import { codeOf, SpiffeError } from '../../spiffe/errors.ts'

const patienceMs = 60_000
const pauseMs = 50

/**
 * One step of a takeover at a time, whichever process makes it; the kernel frees it when that dies.
 * @param file of the journal
 * @throws {SpiffeError} `takeover_refused` when another step takes longer than a minute
 */
export async function lockTakeover (file: string, signal: AbortSignal): Promise<Disposable> {
  const { FileLock } = await import('../../storage/sqlite/file-lock.ts')
  const startedMs = systemClock.monotonicMs()
  for (;;) {
    try {
      return FileLock.take(file)
    } catch (error) {
      if (codeOf(error) !== 'datastore_locked') throw error
      if (systemClock.monotonicMs() - startedMs > patienceMs) {
        throw new SpiffeError('takeover_refused', `another step of this takeover is under way and holds ${file}.lock`, { cause: error })
      }
    }
    await systemClock.sleep(pauseMs, signal)
  }
}
