import type { BatchWriter } from './batching-sink.ts'
import type { EventSettings } from './decision-event.ts'
import type { DecisionRecord } from './decision-record.ts'
import { attributesOf } from './otlp-attributes.ts'
import { post, type PostOptions } from './post.ts'
import type { SinkObserver } from './sink.ts'

/** What of OpenTelemetry decisions become. */
export interface OtlpForm {
  /** Of the sink. */
  readonly name: string
  /** What a receiver calls those that it did not take (OTLP §Partial Success). */
  readonly rejected: 'rejectedLogRecords' | 'rejectedSpans'
  wants? (record: DecisionRecord): boolean
  bodyOf (batch: readonly DecisionRecord[], resource: object, scope: object, settings: EventSettings): object
}

/** Sends decisions by OTLP/HTTP in JSON. */
export class OtlpWriter implements BatchWriter {
  readonly name: string
  readonly #form: OtlpForm
  readonly #target: PostOptions
  readonly #settings: EventSettings
  readonly #observer: SinkObserver

  constructor (form: OtlpForm, target: PostOptions, settings: EventSettings, observer: SinkObserver) {
    this.name = form.name
    this.#form = form
    this.#target = target
    this.#settings = settings
    this.#observer = observer
  }

  wants (record: DecisionRecord): boolean { return this.#form.wants?.(record) !== false }

  async write (batch: readonly DecisionRecord[], signal: AbortSignal): Promise<number> {
    const resource = { attributes: attributesOf({ 'service.name': 'assay', ...this.#settings.labels }) }
    const body = JSON.stringify(this.#form.bodyOf(batch, resource, { name: 'assay.authz' }, this.#settings))
    const answer = await post(this.#target, new TextEncoder().encode(body), { 'content-type': 'application/json' }, signal)
    const lost = answer.outcome === 'refused' ? batch.length : Math.min(batch.length, rejectedBy(answer.body, this.#form.rejected))
    if (answer.outcome === 'refused') this.#observer.failed(this.name, new Error(`it answered ${answer.status}`))
    if (lost > 0) this.#observer.dropped(this.name, 'refused', lost)
    if (lost < batch.length) this.#observer.written(this.name, batch.length - lost)
    return batch.length
  }
}

/** What the receiver did not take of a request that it answered with success (OTLP §Partial Success). */
function rejectedBy (body: string, field: OtlpForm['rejected']): number {
  try {
    const { partialSuccess } = JSON.parse(body) as { partialSuccess?: Readonly<Record<string, string | number>> }
    const rejected = Number(partialSuccess?.[field] ?? 0)
    return Number.isSafeInteger(rejected) && rejected > 0 ? rejected : 0
  } catch {
    return 0
  }
}
