import { codeOf } from '../../spiffe/errors.ts'
import type { TrustDomain } from '../../spiffe/trust-domain.ts'
import { serverApiPolicy, type CallerClass } from '../server-api-policy.ts'
import type { ApiDecision, ApiPolicyEvaluator } from './evaluator.ts'
import type { PolicyTable } from './policy-data.ts'
import { isSpires } from './rego-evaluator.ts'

export interface ProbedPolicy {
  /** Who is admitted whoever they are: what the policy grants to callers of whom nobody has heard. */
  readonly table: PolicyTable
  /** Methods for which it gives no answer. */
  readonly silent: readonly string[]
}

/**
 * Asks a policy about each method, for callers without a name, of this trust domain and of another one, so that what it opens to everybody
 * is seen whatever way it is written.
 * @throws {SpiffeError} `rego_timeout`, `server_overloaded`
 */
export async function probePolicy (policy: ApiPolicyEvaluator, trustDomain: TrustDomain): Promise<ProbedPolicy> {
  const strangers = ['', `spiffe://${trustDomain}/assay-asks/for-nobody`, 'spiffe://assay-asks.invalid/for-nobody']
  const silent: string[] = []
  const methods = [...serverApiPolicy.keys()].filter(isSpires)
  const rows = await Promise.all(methods.map(async (fullMethod): Promise<[string, CallerClass[]]> => {
    try {
      const decisions = await Promise.all(strangers.map(async caller =>
        await policy.evaluate({ caller, callerFilePath: '', fullMethod, req: null })))
      return [fullMethod, [...new Set(decisions.flatMap(classesOf))]]
    } catch (error) {
      if (codeOf(error) !== 'rego_evaluation_failed') throw error
      silent.push(fullMethod)
      return [fullMethod, []]
    }
  }))
  return { table: new Map(rows), silent }
}

function classesOf ({ allow, allowIfAdmin, allowIfLocal, allowIfDownstream, allowIfAgent }: ApiDecision): CallerClass[] {
  const given: Array<[boolean, CallerClass]> = [
    [allow, 'anyone'], [allowIfLocal, 'local'], [allowIfAdmin, 'admin'], [allowIfAgent, 'agent'], [allowIfDownstream, 'downstream']
  ]
  return given.flatMap(([allowed, caller]) => allowed ? [caller] : [])
}
