import type { Decision } from '../policy/decision.ts'
import type { DecisionRecord } from './decision-record.ts'
import type { Mask } from './mask.ts'
import { requestJson, type RequestJson } from './request-json.ts'

/** One decision as logs have it: OPA's event of a decision log, with the request and the decision of Assay in it. */
export interface DecisionEvent {
  /** Who decided: at least `id`, and the `version` of the program. */
  readonly labels: Readonly<Record<string, string>>
  readonly decision_id: string
  readonly trace_id?: string | undefined
  readonly span_id?: string | undefined
  /** `assay` is the rules; the others are bundles that were asked besides. */
  readonly bundles: { readonly assay: BundleRevision } & Readonly<Record<string, BundleRevision>>
  readonly path: 'assay/authz'
  readonly input: RequestJson
  readonly result: DecisionResult
  readonly timestamp: string
  /** Of a decision that a proxy took nobody knows how long it took. */
  readonly metrics: { readonly timer_server_handler_ns?: number | undefined }
  /** What was taken out, and what nobody told. */
  readonly erased?: readonly string[] | undefined
  readonly masked?: readonly string[] | undefined
  /** `decided_by` is missing where the program of `labels` decided itself. */
  readonly custom: { readonly request_id?: string | undefined, readonly decided_by?: 'proxy' | undefined }
}

interface BundleRevision { readonly revision: string }

/** `Decision` without the revisions, which stand in `bundles`. */
export interface DecisionResult {
  readonly allowed: boolean
  readonly reason: Decision['reason']
  readonly rule?: string | undefined
  readonly audits?: readonly string[] | undefined
  readonly consult?: Decision['consult'] | undefined
  readonly shadow?: DecisionResult | undefined
}

export interface EventSettings { readonly labels: Readonly<Record<string, string>>, readonly mask: Mask }

export function decisionEvent (record: DecisionRecord, { labels, mask }: EventSettings): DecisionEvent {
  const { request, decision, latencyMs, trace, report } = record
  const { input, erased: takenOut, masked } = mask.apply(requestJson(request))
  const erased = [...report?.unseen ?? [], ...takenOut]
  return {
    labels,
    decision_id: record.id,
    trace_id: trace?.traceId,
    span_id: trace?.spanId,
    bundles: { ...revisionsOf(decision), assay: { revision: decision.revision } },
    path: 'assay/authz',
    input,
    result: resultOf(decision),
    timestamp: request.time.toISOString(),
    metrics: { timer_server_handler_ns: report === undefined ? Math.round(latencyMs * 1e6) : undefined },
    erased: erased.length === 0 ? undefined : erased,
    masked: masked.length === 0 ? undefined : masked,
    custom: { request_id: record.requestId, decided_by: report === undefined ? undefined : 'proxy' }
  }
}

function revisionsOf ({ bundles }: Decision): Record<string, BundleRevision> {
  return Object.fromEntries([...bundles ?? []].map(([name, revision]) => [name, { revision }]))
}

function resultOf ({ allowed, reason, rule, audits, consult, shadow }: Decision): DecisionResult {
  return {
    allowed,
    reason,
    rule,
    audits: audits.length === 0 ? undefined : audits,
    consult: consult.length === 0 ? undefined : consult,
    shadow: shadow === undefined ? undefined : resultOf(shadow)
  }
}
