import type { Logger } from '../runtime/logger.ts'
import type { SdsDelivery, SdsEvents, SdsKind, SdsMetrics } from './sds-events.ts'

export interface ReportOptions {
  readonly log: Logger
  readonly metrics: SdsMetrics | undefined
  readonly onAcknowledged: ((delivery: SdsDelivery) => void) | undefined
}

/** Tells operators what becomes of one stream's secrets: an Envoy that refuses one works on with old keys until they end. */
export function reportEvents (kind: SdsKind, { log, metrics, onAcknowledged }: ReportOptions): SdsEvents {
  const reported = new Map<string, string>()
  return {
    acknowledged (delivery) {
      metrics?.acknowledged(kind)
      log.debug({ kind, ...delivery }, 'envoy applied a secret')
      onAcknowledged?.(delivery)
    },
    refused (delivery) {
      metrics?.refused(kind)
      log.warn({ kind, ...delivery }, 'envoy refused a secret and keeps what it had')
    },
    heldBack (resource) {
      if (reported.get(resource.name) === resource.reason) return
      reported.set(resource.name, resource.reason)
      log.error({ kind, ...resource }, 'secret not sent: envoy could not use it')
    }
  }
}
