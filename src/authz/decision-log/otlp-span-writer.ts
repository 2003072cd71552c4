import { randomBytes } from 'node:crypto'
import type { BatchWriter } from './batching-sink.ts'
import { decisionEvent, type EventSettings } from './decision-event.ts'
import type { DecisionRecord } from './decision-record.ts'
import { attributesOf, factsOf, rejectedBy } from './otlp.ts'
import { post, type PostOptions } from './post.ts'
import type { SinkObserver } from './sink.ts'

/** OpenTelemetry's `SpanKind` of a call that is answered. */
const server = 2

/**
 * Sends decisions about requests of sampled traces as spans, by OTLP/HTTP in JSON: children of the span that the request came with.
 * @param url of `PostOptions`: the receiver's, with `/v1/traces`
 */
export class OtlpSpanWriter implements BatchWriter {
  readonly name = 'otlp_spans'
  readonly #target: PostOptions
  readonly #settings: EventSettings
  readonly #observer: SinkObserver

  constructor (target: PostOptions, settings: EventSettings, observer: SinkObserver) {
    this.#target = target
    this.#settings = settings
    this.#observer = observer
  }

  /** Who began the trace decides whether it is kept (W3C Trace Context §3.2.2.5). */
  wants ({ trace }: DecisionRecord): boolean { return trace?.sampled === true }

  async write (batch: readonly DecisionRecord[], signal: AbortSignal): Promise<number> {
    const spans = batch.map(record => spanOf(record, this.#settings))
    const body = JSON.stringify({
      resourceSpans: [{
        resource: { attributes: attributesOf({ 'service.name': 'assay', ...this.#settings.labels }) },
        scopeSpans: [{ scope: { name: 'assay.authz' }, spans }]
      }]
    })
    const answer = await post(this.#target, new TextEncoder().encode(body), { 'content-type': 'application/json' }, signal)
    const lost = answer.outcome === 'refused' ? batch.length : Math.min(batch.length, rejectedBy(answer.body, 'rejectedSpans'))
    if (answer.outcome === 'refused') this.#observer.failed(this.name, new Error(`it answered ${answer.status}`))
    if (lost > 0) this.#observer.dropped(this.name, 'refused', lost)
    if (lost < batch.length) this.#observer.written(this.name, batch.length - lost)
    return batch.length
  }
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
