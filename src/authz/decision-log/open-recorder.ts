import type { Clock } from '../../runtime/clock.ts'
import type { Logger } from '../../runtime/logger.ts'
import type { Metrics } from '../../runtime/metrics.ts'
import type { DecisionFacts } from '../decider.ts'
import { BatchingSink, type BatchWriter } from './batching-sink.ts'
import { DecisionLog } from './decision-log.ts'
import type { EventSettings } from './decision-event.ts'
import { FileWriter } from './file-writer.ts'
import { Mask, type MaskRule } from './mask.ts'
import { otlpLogs } from './otlp-logs.ts'
import { otlpSpans } from './otlp-spans.ts'
import { OtlpWriter } from './otlp-writer.ts'
import type { SinkObserver } from './sink.ts'
import { UploadWriter } from './upload-writer.ts'
import { DecisionMetrics } from '../metrics/decision-metrics.ts'
import { SinkMetrics } from '../metrics/sink-metrics.ts'

/** Where decisions are written besides memory. */
export interface RecordingConfig {
  /** JSON lines. */
  readonly file?: string | undefined
  /** Of a receiver of OPA's decision logs, without `/logs`. */
  readonly uploadUrl?: string | undefined
  /** OTLP over HTTP, e.g. `http://collector:4318/v1/logs`. */
  readonly otlpUrl?: string | undefined
  /** OTLP over HTTP, e.g. `http://collector:4318/v1/traces`: a span for each decision about a request of a sampled trace. */
  readonly spansUrl?: string | undefined
  /** Beyond what never is written. */
  readonly mask: readonly MaskRule[]
  /** Decisions kept in memory, see `DecisionLogOptions`. */
  readonly remembered?: number | undefined
}

export interface RecorderDeps {
  readonly clock: Clock
  readonly log: Logger
  readonly metrics: Metrics
  /** Who decides. */
  readonly labels?: Readonly<Record<string, string>>
}

export interface Recorder {
  readonly log: DecisionLog
  decided (facts: DecisionFacts): void
}

/** Remembers and counts decisions, and writes them where it is told to. @throws {Error} for a mask that is no pointer into the input */
export function openRecorder (config: RecordingConfig, { clock, log, metrics, labels = {} }: RecorderDeps): Recorder {
  const counts = new DecisionMetrics(metrics)
  const written = new SinkMetrics(metrics)
  const settings: EventSettings = { labels, mask: new Mask(config.mask) }
  const observer: SinkObserver = {
    written: (sink, count) => written.written(sink, count),
    dropped: (sink, reason, count) => written.dropped(sink, reason, count),
    failed (sink, error) {
      written.failed(sink)
      log.warn({ sink, reason: (error as Error).message }, 'decisions could not be written: it is tried again')
    }
  }
  const sink = (writer: BatchWriter) => new BatchingSink(writer, clock, observer)
  const { file, uploadUrl, otlpUrl, spansUrl, remembered } = config
  const decisions = new DecisionLog({ ...settings, ...remembered === undefined ? {} : { remembered }, sinks: [
    ...file === undefined ? [] : [sink(new FileWriter({ path: file }, settings, observer))],
    ...uploadUrl === undefined ? [] : [sink(new UploadWriter({ url: uploadUrl }, settings, observer))],
    ...otlpUrl === undefined ? [] : [sink(new OtlpWriter(otlpLogs, { url: otlpUrl }, settings, observer))],
    ...spansUrl === undefined ? [] : [sink(new OtlpWriter(otlpSpans, { url: spansUrl }, settings, observer))]
  ] })
  return {
    log: decisions,
    decided ({ request, decision, durationMs, requestId, encoded }) {
      counts.decided(decision, durationMs)
      decisions.record(request, decision, durationMs, requestId, { encoded })
    }
  }
}
