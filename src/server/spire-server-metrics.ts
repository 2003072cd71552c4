import type { CaEvents } from '../ca/ca-events.ts'
import type { CertificateAuthority } from '../ca/certificate-authority.ts'
import type { PartnerEvents } from '../federation/client/partner-events.ts'
import { spireCallMetrics, spireLimitMetrics } from '../rpc/spire-call-metrics.ts'
import { spireMetrics, type SpireMetricsOptions } from '../rpc/spire-metrics.ts'
import type { EndedCall } from '../rpc/serve-call.ts'
import type { Telemetry } from '../rpc/telemetry/telemetry.ts'
import type { Took } from '../runtime/took.ts'
import { version } from '../runtime/version.ts'
import type { Observer } from '../storage/observe-datastore.ts'
import type { Replica } from './replication/replica.ts'
import { namesOfStores, serverNames } from './spire-server-names.ts'

export interface SpireServerMetrics {
  readonly ca: CaEvents
  readonly store: Observer
  readonly partners: PartnerEvents
  readonly onIssued: (took: Took) => void
  readonly onEnded: (call: EndedCall) => void
  readonly onLimited: (method: string, took: Took) => void
  /** From here on what is held is told too. */
  running (state: { readonly ca: CertificateAuthority, readonly replica: Replica }): void
}

/** What a server tells under SPIRE's names; see docs/metrics.md. */
export function spireServerMetrics (
  telemetry: Telemetry, { trustDomain, clock }: SpireMetricsOptions
): SpireServerMetrics {
  const spire = spireMetrics<typeof serverNames>(telemetry)
  const startMs = clock.monotonicMs()
  const labels = { trust_domain_id: trustDomain }
  spire.gauge('started', () => 1, { version, ...labels })
  spire.gauge('uptime_in_ms', () => Math.floor(clock.monotonicMs() - startMs))
  return {
    ca: {
      signed: (what, count) => spire.count(`server_ca.sign.${what}`, count),
      prepared: (kind, took) => spire.call(kind === 'x509' ? 'ca.manager.x509_ca.prepare' : 'ca.manager.jwt_key.prepare', took),
      keyMade: took => spire.call('server_key_manager.generate_key', took),
      activated: kind => spire.count(kind === 'x509' ? 'ca.manager.x509_ca.activate' : 'manager.jwt_key.activate'),
      pruned (took) {
        spire.call('ca.manager.bundle.prune', took)
        if (took.error === undefined) spire.count('ca.manager.bundle.pruned')
      }
    },
    store (method) {
      const names = namesOfStores[method]
      return names && (took => { for (const name of names) spire.call(name, took) })
    },
    partners: {
      polled: (domain, took) => spire.call('bundle_manager.fetch.federated_bundle', took, { trust_domain_id: domain }),
      updated: domain => spire.count('bundle_manager.update.federated_bundle', 1, { trust_domain_id: domain })
    },
    onIssued: took => spire.call('svid.rotate', took),
    onEnded: spireCallMetrics(telemetry),
    onLimited: spireLimitMetrics(telemetry),
    running ({ ca, replica }) {
      const endMs = () => ca.x509Records.active?.notAfter.getTime()
      spire.gauge('manager.x509_ca.rotate.expiration', () => {
        const ms = endMs()
        return ms && Math.floor(ms / 1000)
      }, labels)
      spire.gauge('manager.x509_ca.rotate.ttl', () => {
        const ms = endMs()
        return ms && (ms - clock.now().getTime()) / 1000
      }, labels)
      spire.gauge('node.agents_by_id_cache.count', () => replica.agents.size)
      spire.gauge('entry.entries_by_entryid_cache.count', () => replica.registry.size)
    }
  }
}
