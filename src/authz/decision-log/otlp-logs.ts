import { decisionEvent, type DecisionEvent } from './decision-event.ts'
import { attributesOf, factsOf } from './otlp-attributes.ts'
import type { OtlpForm } from './otlp-writer.ts'

/** Severities of the OpenTelemetry log data model, §SeverityNumber. */
const info = 9
const warn = 13

/** Decisions as log records; to a receiver's `/v1/logs`. */
export const otlpLogs: OtlpForm = {
  name: 'otlp',
  rejected: 'rejectedLogRecords',
  bodyOf: (batch, resource, scope, settings) => ({
    resourceLogs: [{ resource, scopeLogs: [{ scope, logRecords: batch.map(record => logRecordOf(decisionEvent(record, settings))) }] }]
  })
}

function logRecordOf (event: DecisionEvent): object {
  const { result, trace_id: traceId, span_id: spanId } = event
  const time = `${BigInt(new Date(event.timestamp).getTime()) * 1_000_000n}`
  return {
    timeUnixNano: time,
    observedTimeUnixNano: time,
    severityNumber: result.allowed ? info : warn,
    severityText: result.allowed ? 'INFO' : 'WARN',
    body: { stringValue: `${result.allowed ? 'allowed' : 'denied'} by ${result.rule ?? result.reason}` },
    eventName: 'assay.decision',
    traceId,
    spanId,
    attributes: attributesOf({
      ...factsOf(event), 'assay.decision.latency_ns': event.metrics.timer_server_handler_ns
    })
  }
}
