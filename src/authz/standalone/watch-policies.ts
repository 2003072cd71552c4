import type { Clock } from '../../runtime/clock.ts'
import type { Logger } from '../../runtime/logger.ts'
import { Watchable } from '../../runtime/watchable.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { PolicyEngine } from '../policy/policy-engine.ts'
import type { PolicySet } from '../policy/policy-set.ts'
import type { PolicyText } from '../policy/read-policies.ts'
import { resolveSelectors } from '../policy/resolve-selectors.ts'
import { policyFileChanges, stateOf } from '../policy-files/policy-file-changes.ts'
import { namedByPath, readPolicyFiles } from '../policy-files/read-policy-files.ts'

export interface PolicySource {
  /** Files and folders. */
  readonly paths: readonly string[]
  /** @throws {SpiffeError} `policy_malformed`, `policy_unsupported` */
  readonly parse: (texts: readonly PolicyText[]) => PolicySet
}

/** The policies in force; what could not be read since, if anything. */
export interface ActivePolicies {
  readonly engine: PolicyEngine
  readonly loadedAt: Date
  readonly problem: SpiffeError | undefined
}

export interface WatchedPolicies {
  readonly active: Watchable<ActivePolicies>
  /** Takes over each new state that has come to rest; one that is broken is reported, and the last good one goes on. */
  readonly run: (signal: AbortSignal) => Promise<void>
}

/** Reads once. @throws {SpiffeError} `policy_malformed`, `policy_unsupported`, `file_unusable` */
export async function openPolicies (source: PolicySource, { clock, log }: { clock: Clock, log: Logger }): Promise<WatchedPolicies> {
  // Taken first: a change while they are read is noticed later.
  const seen = await stateOf(source.paths)
  const active = new Watchable<ActivePolicies>({ engine: await compile(source), loadedAt: clock.now(), problem: undefined })
  return {
    active,
    async run (signal) {
      for await (const isStill of policyFileChanges(source.paths, clock, signal, { seen })) {
        try {
          const engine = await compile(source)
          if (!await isStill()) continue
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
  }
}

async function compile ({ paths, parse }: PolicySource): Promise<PolicyEngine> {
  return new PolicyEngine(resolveSelectors(parse(namedByPath(await readPolicyFiles(paths))), undefined))
}
