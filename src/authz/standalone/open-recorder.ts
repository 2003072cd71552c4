import type { Clock } from '../../runtime/clock.ts'
import type { Logger } from '../../runtime/logger.ts'
import { createMetrics, type Metrics } from '../../runtime/metrics.ts'
import type { DecisionFacts } from '../decider.ts'
import { BatchingSink, type BatchWriter } from '../decision-log/batching-sink.ts'
import { DecisionLog } from '../decision-log/decision-log.ts'
import type { EventSettings } from '../decision-log/decision-event.ts'
import { FileWriter } from '../decision-log/file-writer.ts'
import { Mask, type MaskRule } from '../decision-log/mask.ts'
import { otlpLogs } from '../decision-log/otlp-logs.ts'
import { otlpSpans } from '../decision-log/otlp-spans.ts'
import { OtlpWriter } from '../decision-log/otlp-writer.ts'
import type { SinkObserver } from '../decision-log/sink.ts'
import { UploadWriter } from '../decision-log/upload-writer.ts'
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
}

export interface Recorder {
  readonly log: DecisionLog
  readonly metrics: Metrics
  decided (facts: DecisionFacts): void
}

/** Remembers and counts decisions, and writes them where it is told to. @throws {Error} for a mask that is no pointer into the input */
export function openRecorder (config: RecordingConfig, { clock, log }: { readonly clock: Clock, readonly log: Logger }): Recorder {
  const metrics = createMetrics({ prefix: 'assay_authz' })
  const counts = new DecisionMetrics(metrics)
  const written = new SinkMetrics(metrics)
  const settings: EventSettings = { labels: {}, mask: new Mask(config.mask) }
  const observer: SinkObserver = {
    written: (sink, count) => written.written(sink, count),
    dropped: (sink, reason, count) => written.dropped(sink, reason, count),
    failed (sink, error) {
      written.failed(sink)
      log.warn({ sink, reason: (error as Error).message }, 'decisions could not be written: it is tried again')
    }
  }
  const sink = (writer: BatchWriter) => new BatchingSink(writer, clock, observer)
  const { file, uploadUrl, otlpUrl, spansUrl } = config
  const decisions = new DecisionLog({ ...settings, sinks: [
    ...file === undefined ? [] : [sink(new FileWriter({ path: file }, settings, observer))],
    ...uploadUrl === undefined ? [] : [sink(new UploadWriter({ url: uploadUrl }, settings, observer))],
    ...otlpUrl === undefined ? [] : [sink(new OtlpWriter(otlpLogs, { url: otlpUrl }, settings, observer))],
    ...spansUrl === undefined ? [] : [sink(new OtlpWriter(otlpSpans, { url: spansUrl }, settings, observer))]
  ] })
  return {
    log: decisions,
    metrics,
    decided ({ request, decision, durationMs, requestId, encoded }) {
      counts.decided(decision, durationMs)
      decisions.record(request, decision, durationMs, requestId, encoded)
    }
  }
}
