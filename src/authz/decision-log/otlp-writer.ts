import type { BatchWriter } from './batching-sink.ts'
import { decisionEvent, type DecisionEvent, type EventSettings } from './decision-event.ts'
import type { DecisionRecord } from './decision-record.ts'
import { attributesOf, factsOf, rejectedBy } from './otlp.ts'
import { post, type PostOptions } from './post.ts'
import type { SinkObserver } from './sink.ts'

/** Severities of the OpenTelemetry log data model, §SeverityNumber. */
const info = 9
const warn = 13

/** Sends decisions as log records by OTLP/HTTP in JSON. @param url of `PostOptions`: the receiver's, with `/v1/logs` */
export class OtlpWriter implements BatchWriter {
  readonly name = 'otlp'
  readonly #target: PostOptions
  readonly #settings: EventSettings
  readonly #observer: SinkObserver

  constructor (target: PostOptions, settings: EventSettings, observer: SinkObserver) {
    this.#target = target
    this.#settings = settings
    this.#observer = observer
  }

  async write (batch: readonly DecisionRecord[], signal: AbortSignal): Promise<number> {
    const logRecords = batch.map(record => logRecordOf(decisionEvent(record, this.#settings)))
    const body = JSON.stringify({
      resourceLogs: [{
        resource: { attributes: attributesOf({ 'service.name': 'assay', ...this.#settings.labels }) },
        scopeLogs: [{ scope: { name: 'assay.authz' }, logRecords }]
      }]
    })
    const answer = await post(this.#target, new TextEncoder().encode(body), { 'content-type': 'application/json' }, signal)
    const lost = answer.outcome === 'refused' ? batch.length : Math.min(batch.length, rejectedBy(answer.body, 'rejectedLogRecords'))
    if (answer.outcome === 'refused') this.#observer.failed(this.name, new Error(`it answered ${answer.status}`))
    if (lost > 0) this.#observer.dropped(this.name, 'refused', lost)
    if (lost < batch.length) this.#observer.written(this.name, batch.length - lost)
    return batch.length
  }
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
