import type { Clock } from '../../runtime/clock.ts'
import type { Logger } from '../../runtime/logger.ts'
import { Watchable } from '../../runtime/watchable.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { PolicyEngine } from '../policy/policy-engine.ts'
import type { PolicySet } from '../policy/policy-set.ts'
import { resolveSelectors } from '../policy/resolve-selectors.ts'

export interface PolicySource {
  read (): PolicySet
  /** Another text whenever `read` would give something else. */
  fingerprint (): string
}

/** The policies in force; what could not be read since, if anything. */
export interface ActivePolicies {
  readonly engine: PolicyEngine
  readonly loadedAt: Date
  readonly problem: SpiffeError | undefined
}

const pollMs = 500

/** Reads once. @throws {SpiffeError} `policy_malformed`, `policy_unsupported`, `file_unusable` */
export function loadPolicies (source: PolicySource, clock: Pick<Clock, 'now'>): Watchable<ActivePolicies> {
  return new Watchable<ActivePolicies>({ engine: compile(source), loadedAt: clock.now(), problem: undefined })
}

/** Takes over each whole new state; one that is broken is reported, and the last good one goes on. */
export async function watchPolicies (
  active: Watchable<ActivePolicies>, source: PolicySource, { clock, log }: { clock: Clock, log: Logger }, signal: AbortSignal
): Promise<void> {
  let seen = attempt(() => source.fingerprint())
  for (;;) {
    await clock.sleep(pollMs, signal)
    const now = attempt(() => source.fingerprint())
    if (now === seen) continue
    seen = now
    try {
      const engine = compile(source)
      // Files that were read while they were written: the next look finds the end of it.
      active.set({ engine, loadedAt: clock.now(), problem: undefined })
      log.info({ revision: engine.set.revision, rules: engine.set.rules.length }, 'policies taken over')
    } catch (error) {
      if (!(error instanceof SpiffeError)) throw error
      active.set({ ...active.value, problem: error })
      const { code, message: reason } = error
      log.error({ code, reason, revision: active.value.engine.set.revision }, 'policies refused: the last good ones go on')
    }
  }
}

function compile (source: PolicySource): PolicyEngine { return new PolicyEngine(resolveSelectors(source.read(), undefined)) }

function attempt (fingerprint: () => string): string {
  try {
    return fingerprint()
  } catch (error) {
    return `unreadable: ${(error as Error).message}`
  }
}
