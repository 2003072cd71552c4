import { promisify } from 'node:util'
import { gzip } from 'node:zlib'
import type { BatchWriter } from './batching-sink.ts'
import { decisionEvent, type EventSettings } from './decision-event.ts'
import type { DecisionRecord } from './decision-record.ts'
import { post, type PostOptions } from './post.ts'
import type { SinkObserver } from './sink.ts'

const compressed = promisify(gzip)

export interface UploadOptions extends Omit<PostOptions, 'url'> {
  /** Of the receiver, without `/logs`. */
  readonly url: string
  /** Behind `/logs/`; without it, `/logs`. */
  readonly partition?: string | undefined
  /** Of one upload, compressed, in bytes; 32,768 as in OPA. */
  readonly maxBytes?: number | undefined
}

/** Sends gzipped lists of events, as OPA sends decision logs: `POST /logs/<partition>`. */
export class UploadWriter implements BatchWriter {
  readonly name = 'upload'
  readonly #options: UploadOptions
  readonly #target: PostOptions
  readonly #settings: EventSettings
  readonly #observer: SinkObserver

  constructor (options: UploadOptions, settings: EventSettings, observer: SinkObserver) {
    const { url, partition, headers, timeoutMs } = options
    this.#options = options
    const path = partition === undefined ? '/logs' : `/logs/${partition.split('/').map(encodeURIComponent).join('/')}`
    this.#target = { url: `${url.replace(/\/+$/, '')}${path}`, headers, timeoutMs }
    this.#settings = settings
    this.#observer = observer
  }

  async write (batch: readonly DecisionRecord[], signal: AbortSignal): Promise<number> {
    const { count, body } = await this.#chunk(batch.map(record => JSON.stringify(decisionEvent(record, this.#settings))))
    if (body === undefined) {
      this.#observer.dropped(this.name, 'too_large', 1)
      return 1
    }
    const answer = await post(this.#target, body, { 'content-type': 'application/json', 'content-encoding': 'gzip' }, signal)
    if (answer.outcome === 'taken') this.#observer.written(this.name, count)
    else {
      this.#observer.failed(this.name, new Error(`it answered ${answer.status}`))
      this.#observer.dropped(this.name, 'refused', count)
    }
    return count
  }

  /** As many of the first as fit; none at all when the first alone is too large. */
  async #chunk (events: readonly string[]): Promise<{ count: number, body?: Uint8Array<ArrayBuffer> }> {
    const { maxBytes = 32_768 } = this.#options
    let count = events.length
    for (;;) {
      const body = await compressed(`[${events.slice(0, count).join(',')}]`)
      if (body.length <= maxBytes) return { count, body: new Uint8Array(body) }
      if (count === 1) return { count }
      // Alike events compress alike: a little below what the ratio says is likely to fit.
      count = Math.max(1, Math.min(count - 1, Math.floor(count * maxBytes / body.length * 0.95)))
    }
  }
}
