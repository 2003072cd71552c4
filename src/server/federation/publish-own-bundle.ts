import type { CertificateAuthority } from '../../ca/certificate-authority.ts'
import type { PublicationConfig } from '../../federation/publish/publication-config.ts'
import { openPlace } from '../../federation/publish/publication-place.ts'
import { publishBundle, type Publication } from '../../federation/publish/publish-bundle.ts'
import type { Clock } from '../../runtime/clock.ts'
import type { Logger } from '../../runtime/logger.ts'
import type { Metrics } from '../../runtime/metrics.ts'
import { formatBundleDocument } from '../../spiffe/bundle-document.ts'
import { signBundle } from './sign-bundle.ts'

export interface PublishOwnBundleDeps {
  readonly authority: Pick<CertificateAuthority, 'bundle' | 'signStatement'>
  readonly isHolder: () => boolean
  readonly metrics: Metrics
  readonly clock: Clock
  readonly log: Logger
}

/** Puts the trust domain's bundle where the configuration says, until the signal aborts. */
export async function publishOwnBundle (
  configs: readonly PublicationConfig[], { authority, isHolder, metrics, clock, log }: PublishOwnBundleDeps, signal: AbortSignal
): Promise<void> {
  const publishedAt = new Map<string, Date>()
  metrics.gauge<'place'>({
    name: 'federation_publication_age_seconds', help: 'Time since the own bundle was last put there, by this server', labels: ['place']
  }).collectEach(() => [...publishedAt].map(([place, at]) => [(clock.now().getTime() - at.getTime()) / 1_000, { place }] as const))

  const publications = configs.map(({ place, format, ttlSeconds, everyMs }): Publication => {
    const common = { place: openPlace(place), everyMs }
    if (format === 'spiffe') return { ...common, contentType: 'application/json', make: async bundle => formatBundleDocument(bundle) }
    const sign = () => signBundle({ ttlSeconds: BigInt(ttlSeconds) }, { authority, clock })
    return { ...common, contentType: 'application/jose', make: async () => (await sign()).signedBundle }
  })
  await publishBundle(publications, {
    bundle: authority.bundle, isHolder, clock, log, onPublished: (place, at) => { publishedAt.set(place, at) }
  }, signal)
}
