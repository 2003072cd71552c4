import type { DecisionEvent } from './decision-event.ts'

/** A decision under the names that OpenTelemetry's conventions have, or that begin with `assay.`. */
export function factsOf (
  { input, result, decision_id: id, bundles, custom }: DecisionEvent
): Readonly<Record<string, string | number | boolean | undefined>> {
  const { source, destination, http } = input
  return {
    'assay.decision.id': id,
    'assay.decision.allowed': result.allowed,
    'assay.decision.reason': result.reason,
    'assay.decision.rule': result.rule,
    'assay.decision.shadow_allowed': result.shadow?.allowed,
    'assay.policy.revision': bundles.assay.revision,
    'assay.request.id': custom.request_id,
    'assay.decision.by': custom.decided_by,
    'assay.source.id': source.id,
    'assay.destination.id': destination.id,
    'client.address': source.address,
    'server.port': destination.port,
    'server.address': http?.host,
    'http.request.method': http?.method,
    'url.path': http?.path
  }
}

export function attributesOf (values: Readonly<Record<string, string | number | boolean | undefined>>): object[] {
  return Object.entries(values).flatMap(([key, value]) => value === undefined ? [] : [{ key, value: anyValue(value) }])
}

function anyValue (value: string | number | boolean): object {
  if (typeof value === 'string') return { stringValue: value }
  return typeof value === 'boolean' ? { boolValue: value } : { intValue: String(value) }
}
