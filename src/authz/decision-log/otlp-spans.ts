import { randomBytes } from 'node:crypto'
import { decisionEvent, type EventSettings } from './decision-event.ts'
import type { DecisionRecord } from './decision-record.ts'
import { attributesOf, factsOf } from './otlp-attributes.ts'
import type { OtlpForm } from './otlp-writer.ts'

/** OpenTelemetry's `SpanKind` of a call that is answered. */
const server = 2

/**
 * Decisions about requests of sampled traces as spans, children of the span that the request came with; to a receiver's `/v1/traces`.
 * Who began the trace decides whether it is kept (W3C Trace Context §3.2.2.5).
 */
export const otlpSpans: OtlpForm = {
  name: 'otlp_spans',
  rejected: 'rejectedSpans',
  // A proxy makes spans of its own.
  wants: ({ trace, report }) => trace?.sampled === true && report === undefined,
  bodyOf: (batch, resource, scope, settings) => ({
    resourceSpans: [{ resource, scopeSpans: [{ scope, spans: batch.map(record => spanOf(record, settings)) }] }]
  })
}

function spanOf (record: DecisionRecord, settings: EventSettings): object {
  const { trace, latencyMs, request: { time } } = record
  const start = BigInt(time.getTime()) * 1_000_000n
  return {
    traceId: trace?.traceId,
    parentSpanId: trace?.spanId,
    spanId: randomBytes(8).toString('hex'),
    name: 'assay.authz',
    kind: server,
    startTimeUnixNano: `${start}`,
    endTimeUnixNano: `${start + BigInt(Math.round(latencyMs * 1e6))}`,
    attributes: attributesOf(factsOf(decisionEvent(record, settings)))
  }
}
