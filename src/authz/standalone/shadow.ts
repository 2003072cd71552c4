import type { Watchable } from '../../runtime/watchable.ts'
import type { Clock } from '../../runtime/clock.ts'
import type { Logger } from '../../runtime/logger.ts'
import type { DecisionFacts } from '../decider.ts'
import { ShadowComparison, type ShadowReport } from '../flips/shadow-comparison.ts'
import { foreignKinds } from '../policy/foreign-kinds.ts'
import type { PolicyEngine } from '../policy/policy-engine.ts'
import { readPolicies } from '../policy/read-policies.ts'
import { requireTrustDomain } from '../policy/require-trust-domain.ts'
import { type ActivePolicies, openPolicies } from './watch-policies.ts'

/** A set of policies beside the one that is obeyed: each request is decided by both, and what differs is kept. */
export interface Shadow {
  observe (facts: DecisionFacts): void
  /** Since the newest of the two sets came. */
  report (): ShadowReport
  /** Follows the candidate's files until the signal aborts. */
  run (signal: AbortSignal): Promise<void>
}

/**
 * @param paths of the candidate; none: no shadow
 * @throws {SpiffeError} as `openPolicies`
 */
export async function openShadow (
  paths: readonly string[], active: Watchable<ActivePolicies>, { clock, log }: { readonly clock: Clock, readonly log: Logger }
): Promise<Shadow | undefined> {
  if (paths.length === 0) return undefined
  const { active: candidate, run } = await openPolicies(
    { paths, parse: texts => requireTrustDomain(readPolicies(texts, { foreign: foreignKinds })) },
    { clock, log: log.child({ policies: 'candidate' }) }
  )
  let between: readonly [PolicyEngine, PolicyEngine] | undefined
  let comparison: ShadowComparison | undefined
  /** Flips are between two sets: with another one they begin anew. */
  const current = (): ShadowComparison => {
    const [one, other] = [active.value.engine, candidate.value.engine]
    if (comparison === undefined || between?.[0] !== one || between[1] !== other) {
      comparison = new ShadowComparison(other)
      between = [one, other]
    }
    return comparison
  }
  return {
    observe: ({ request, decision, requestId }) => { current().observe(request, decision, () => requestId) },
    report: () => ({ ...current().report(), before: active.value.engine.set.revision }),
    run
  }
}
