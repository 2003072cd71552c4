import type { CertificateAuthority } from '../ca/certificate-authority.ts'
import type { Clock } from '../runtime/clock.ts'
import type { Logger } from '../runtime/logger.ts'
import { isStop, runTasks } from '../runtime/tasks.ts'
import type { Datastore } from '../storage/datastore.ts'
import type { Registrations } from './registrations.ts'

export interface ChoreDeps {
  readonly caTtlSeconds: number
  readonly authority: CertificateAuthority
  readonly registrations: Registrations
  readonly store: Datastore
  readonly clock: Clock
  readonly log: Logger
}

const longestRotationMs = 10_000
/** Looks at the clock in the life of a CA, at the least: what is due is due at parts of that life. */
const looksPerLife = 60
const pruneEveryMs = 300_000

/** What a server does unasked: rotate authorities, drop what has expired. A failure is logged and tried again; it ends nothing. */
export async function runChores (deps: ChoreDeps, signal: AbortSignal): Promise<void> {
  const { caTtlSeconds, authority, registrations, store, clock, log } = deps
  const rotateEveryMs = Math.min(longestRotationMs, caTtlSeconds * 1000 / looksPerLife)
  await runTasks(signal, [
    signal => repeat(rotateEveryMs, 'authority rotation', () => authority.rotateIfDue(), signal),
    signal => repeat(pruneEveryMs, 'pruning', async () => {
      const removed = await registrations.pruneEntries(clock.now())
      if (removed.length > 0) log.info({ entries: removed.map(entry => entry.id) }, 'expired entries removed')
      await store.joinTokens.prune(clock.now())
      await store.authorities.prune(clock.now())
    }, signal)
  ])

  async function repeat (everyMs: number, name: string, chore: () => Promise<void>, signal: AbortSignal): Promise<void> {
    for (;;) {
      await clock.sleep(everyMs, signal)
      try {
        await chore()
      } catch (error) {
        if (isStop(error, signal)) throw error
        log.error({ err: error }, `${name} failed; trying again later`)
      }
    }
  }
}
