import type { Clock } from '../../runtime/clock.ts'
import type { Logger } from '../../runtime/logger.ts'
import type { Watchable } from '../../runtime/watchable.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { SpiffeId } from '../../spiffe/spiffe-id.ts'
import type { ActivePolicies } from './watch-policies.ts'
import { writeRbac } from './write-rbac.ts'

export interface RbacFolder {
  readonly folder: string
  /** Besides those that rules name by their whole ID. */
  readonly workloads: readonly SpiffeId[]
}

interface KeepDeps { readonly clock: Pick<Clock, 'now'>, readonly log: Logger }

/** @throws {SpiffeError} `file_unusable` */
export async function writeFilters (
  { folder, workloads }: RbacFolder, { engine: { set } }: ActivePolicies, { clock, log }: KeepDeps
): Promise<void> {
  const index = await writeRbac(folder, set, workloads, clock.now())
  const external = index.workloads.filter(one => one.external.length > 0).map(({ id }) => id)
  log.info({ folder, workloads: index.workloads.length, ...external.length === 0 ? {} : { external } }, 'filters written')
}

/** Writes the filters of each set of policies that comes after the first. What cannot be written is told, and tried with the next set. */
export async function keepRbac (rbac: RbacFolder, active: Watchable<ActivePolicies>, deps: KeepDeps, signal: AbortSignal): Promise<void> {
  let { revision } = active.value.engine.set
  for await (const policies of active.watch(signal)) {
    if (policies.engine.set.revision === revision) continue
    revision = policies.engine.set.revision
    try {
      await writeFilters(rbac, policies, deps)
    } catch (error) {
      if (!(error instanceof SpiffeError)) throw error
      deps.log.error({ code: error.code, reason: error.message, revision }, 'filters could not be written: those of before stay')
    }
  }
}
