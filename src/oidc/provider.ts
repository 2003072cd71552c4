import { isIP } from 'node:net'
import { leafOf, type RenewedCertificate } from '../rpc/serving-certificate.ts'
import type { Clock } from '../runtime/clock.ts'
import type { HealthChecks, ListenAddress } from '../runtime/config-schema.ts'
import { type Probe, serveHealthChecks } from '../runtime/health-checks.ts'
import type { Logger } from '../runtime/logger.ts'
import { type Metrics, serveMetrics } from '../runtime/metrics.ts'
import { runTasks } from '../runtime/tasks.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import { answerRequest, type DocumentsConfig } from './answer-request.ts'
import { type DocumentsListener, type Listening, type ListenerLimits, openDocumentsListener } from './documents-listener.ts'
import { followKeys } from './follow-keys.ts'
import type { KeySource } from './key-source.ts'
import { oidcMetrics } from './oidc-metrics.ts'
import { PublishedKeys } from './published-keys.ts'
import { openServingCertificate, type CertificateSource } from './open-serving-certificate.ts'

/** Where the documents are served: over TLS, or, asked for by name, without. */
export type ProviderListen =
  | TcpAddress & { readonly kind: 'tls', readonly certificate: CertificateSource }
  | TcpAddress & { readonly kind: 'insecure' }
  | { readonly kind: 'unix', readonly path: string }

/** Without a host: all addresses. */
interface TcpAddress { readonly host: string | undefined, readonly port: number }

export interface ProviderConfig extends DocumentsConfig {
  readonly listen: ProviderListen
  readonly setKeyUse: boolean
  readonly limits: ListenerLimits
  /** For how long keys are served that the source has not confirmed. */
  readonly staleMaxMs: number
  /** How often the source is asked: what health and caches go by. */
  readonly pollMs: number
  readonly logRequests: boolean
  /** Where to answer an orchestrator's probes and Prometheus; whoever embeds the provider has listeners of its own. */
  readonly healthChecks?: HealthChecks | undefined
  readonly prometheus?: ListenAddress | undefined
}

export interface ProviderDeps {
  readonly source: KeySource
  readonly clock: Clock
  readonly log: Logger
  readonly metrics?: Metrics | undefined
  /** See `CertificateFilesDeps`; `refused` by default, since a provider that runs alone does nothing else. */
  readonly expiredAtStart?: 'refused' | 'shown'
  /** Told once it serves. */
  readonly onReady?: (ready: ProviderReady) => void
}

export interface ProviderReady {
  readonly where: string
  /** Of TCP. */
  readonly port: number | undefined
  /** For the health checks of whoever embeds the provider; each throws when its part is not well. */
  readonly probes: Readonly<Record<string, Probe>>
}

/**
 * Serves OpenID Connect's discovery document and the JWT keys of a trust domain until the signal aborts (spire-surface §8.1).
 * @throws {SpiffeError} `file_unusable`, `address_unusable`, `socket_in_use`
 */
export async function runProvider (config: ProviderConfig, deps: ProviderDeps, signal: AbortSignal): Promise<void> {
  const { clock, log, source } = deps
  const published = new PublishedKeys({ ...config, clock })
  const { expiredAtStart = 'refused' } = deps
  const onTaken = () => warnOfNames(certificate, config, log)
  const certificate = config.listen.kind === 'tls'
    ? await openServingCertificate(config.listen.certificate, { expiredAtStart, onTaken, clock, log }) : undefined
  const opened: { listener?: DocumentsListener } = {}
  const metrics = oidcMetrics(deps.metrics, {
    keys: () => published.size,
    keysAgeSeconds: () => published.ageMs === undefined ? -1 : published.ageMs / 1_000,
    connections: () => opened.listener?.connections ?? 0,
    certificateExpiresAt: () => (notAfterOf(certificate)?.getTime() ?? 0) / 1_000
  })
  await using listener = await openDocumentsListener(listeningOf(config.listen, certificate), config.limits, {
    answer: asked => answerRequest(config, () => published.read(), asked), clock, log, logRequests: config.logRequests, metrics
  })
  opened.listener = listener
  sayHow(config, certificate, listener.where, log)
  const probes = probesOf(published, certificate, config, clock)
  deps.onReady?.({ where: listener.where, port: listener.port, probes })
  const { healthChecks, prometheus } = config
  const prometheusMetrics = deps.metrics
  await runTasks(signal, [
    inner => followKeys(source, published, { clock, log, metrics }, inner),
    ...certificate === undefined ? [] : [(inner: AbortSignal) => certificate.run(inner)],
    ...healthChecks === undefined ? [] : [(inner: AbortSignal) => serveHealthChecks(probes, healthChecks, log, inner)],
    ...prometheus === undefined || prometheusMetrics === undefined
      ? [] : [(inner: AbortSignal) => serveMetrics(prometheusMetrics, prometheus, log, inner)]
  ])
}

function listeningOf (listen: ProviderListen, certificate: RenewedCertificate | undefined): Listening {
  if (listen.kind === 'unix') return listen
  return { kind: 'tcp', host: listen.host, port: listen.port, tls: certificate }
}

/** SPIRE's measure: five polls, and three minutes at the least. */
const patiencePolls = 5
const leastPatienceMs = 180_000

function probesOf (
  published: PublishedKeys, certificate: RenewedCertificate | undefined, { pollMs }: ProviderConfig, clock: Clock
): ProviderReady['probes'] {
  const patienceMs = Math.max(leastPatienceMs, pollMs * patiencePolls)
  return {
    'oidc.keys': () => {
      const { ageMs, trouble } = published
      const why = trouble === undefined ? '' : `: ${trouble}`
      if (ageMs === undefined) throw unavailable(`the source of the keys has not answered yet${why}`)
      if (ageMs > patienceMs) throw unavailable(`the keys were last confirmed ${Math.round(ageMs / 1_000)} s ago${why}`)
      const { kind } = published.read()
      if (kind !== 'keys') throw unavailable(kind === 'none' ? 'there are no keys' : 'the keys are too old')
    },
    ...certificate === undefined ? {} : {
      'oidc.certificate': () => {
        const notAfter = notAfterOf(certificate)
        if (notAfter === undefined) throw new SpiffeError('acme_failed', 'there is no serving certificate yet: the log says why')
        if (notAfter <= clock.now()) throw new SpiffeError('file_unusable', `the serving certificate expired at ${notAfter.toISOString()}`)
      }
    }
  }
}

function unavailable (message: string): SpiffeError { return new SpiffeError('oidc_keys_unavailable', message) }

function sayHow (config: ProviderConfig, certificate: RenewedCertificate | undefined, where: string, log: Logger): void {
  const { listen, domains, allowInsecureScheme } = config
  log.info({ where, domains: domains.map(({ name, port }) => port === undefined ? name : `${name}:${port}`) }, 'serving OIDC documents')
  if (listen.kind === 'insecure') {
    log.warn({ where }, 'documents are served WITHOUT TLS (insecure_addr): whoever is on the way can give consumers keys of their own')
  }
  if (listen.kind === 'unix') log.warn({ where }, 'documents are served without TLS on a Unix socket: a proxy in front must offer https')
  if (allowInsecureScheme && listen.kind !== 'tls') {
    log.warn('URLs in the documents begin with http: (allow_insecure_scheme): for tests only, consumers would fetch keys without TLS')
  }
  warnOfNames(certificate, config, log)
}

function notAfterOf (certificate: RenewedCertificate | undefined): Date | undefined {
  const shown = certificate?.current()
  return shown === undefined ? undefined : leafOf(shown).validToDate
}

function warnOfNames (certificate: RenewedCertificate | undefined, { domains }: ProviderConfig, log: Logger): void {
  const shown = certificate?.current()
  if (shown === undefined) return
  const leaf = leafOf(shown)
  const missing = domains.filter(({ name }) => (isIP(name) === 0 ? leaf.checkHost(name) : leaf.checkIP(name)) === undefined)
  if (missing.length > 0) log.warn({ domains: missing.map(({ name }) => name) }, 'the serving certificate does not name these domains')
}
