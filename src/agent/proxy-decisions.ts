import type { DecisionLog } from '../authz/decision-log/decision-log.ts'
import type { Decision } from '../authz/policy/decision.ts'
import type { ReportedDecision } from '../mesh/decisions/read-report.ts'
import type { NodePolicies } from './node-policies.ts'

export interface ProxyDecisionDeps {
  readonly policies: Pick<NodePolicies, 'state'>
  readonly log: Pick<DecisionLog, 'record'>
  readonly decisions: 'refused' | 'all'
}

/** Headers are not told, but for a few that no rule asks about. */
const unseen = ['/input/http/headers']

/** Writes down what the node's proxy decided by itself. */
export function recordProxyDecision (
  { request, requestId, allowed, rule }: ReportedDecision, { policies: { state }, log, decisions }: ProxyDecisionDeps
): void {
  // Connections are all reported.
  if (allowed && decisions === 'refused') return
  const own = state.kind === 'set' ? state.engine.decide(request) : undefined
  // Not by policies, but by the services' lists of callers.
  if (request.http === undefined && !allowed && rule === undefined && own?.allowed === true) return
  log.record(request, decisionOf(allowed, rule, own), 0, requestId, {
    report: { unseen: request.http === undefined ? [] : unseen }
  })
}

/**
 * The proxy names one rule at most. What the agent's own engine says besides is taken where both agree; they need not, e.g. shortly after
 * a change or because of a header that was not told.
 */
function decisionOf (allowed: boolean, rule: string | undefined, own: Decision | undefined): Decision {
  const isFederation = rule !== undefined && /^(federation(\/|$)|several-uri-sans$)/.test(rule)
  const isSame = rule === undefined || rule === own?.rule || (isFederation && own?.reason === 'federation')
  if (own !== undefined && own.allowed === allowed && isSame) return own
  const reason = isFederation ? 'federation' : rule !== undefined ? 'rule' : allowed ? 'default' : 'no-rule-allows'
  return { allowed, reason, rule, audits: [], consult: [], revision: own?.revision ?? '' }
}
