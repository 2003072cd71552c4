import { CertificateAuthority } from '../ca/certificate-authority.ts'
import { startPlugins } from '../plugins/catalog.ts'
import { healthService } from '../rpc/health.ts'
import { bind, openRpcServer, type BoundService } from '../rpc/server.ts'
import { reflectionServices } from '../rpc/reflection/reflection-service.ts'
import { serveDiagnostics } from '../rpc/serve-diagnostics.ts'
import { systemClock, type Clock } from '../runtime/clock.ts'
import type { Logger } from '../runtime/logger.ts'
import { createMetrics } from '../runtime/metrics.ts'
import { runTasks } from '../runtime/tasks.ts'
import type { TrustDomain } from '../spiffe/trust-domain.ts'
import type { Bundle } from '../spiffe/bundle.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import { trustDomainOf } from '../spiffe/spiffe-id.ts'
import { claimDatastore } from '../storage/claim-datastore.ts'
import type { Datastore } from '../storage/datastore.ts'
import { openDatastore } from '../storage/open-datastore.ts'
import { agentService } from '../wire/generated/server-agent.ts'
import { bundleService } from '../wire/generated/server-bundle.ts'
import { entryService } from '../wire/generated/server-entry.ts'
import { svidService } from '../wire/generated/server-svid.ts'
import type { VerifiedX509Svid } from '../x509/verify-svid.ts'
import { agentHandlers } from './api/agent-handlers.ts'
import { bundleHandlers } from './api/bundle-handlers.ts'
import { entryHandlers } from './api/entry-handlers.ts'
import { createLimits } from './api/limits.ts'
import { svidHandlers } from './api/svid-handlers.ts'
import { Authorizer } from './authorize.ts'
import { runChores } from './chores.ts'
import { Registrations } from './registrations.ts'
import { serverCatalog } from './server-catalog.ts'
import type { ServerConfig } from './server-config.ts'
import { ServerIdentity } from './server-identity.ts'

export interface RunServerOptions {
  readonly log: Logger
  readonly clock?: Clock
  /** Called once both listeners accept connections. */
  readonly onReady?: (ready: ServerReady) => void
}

export interface ServerReady {
  /** The TCP listener; the port is the one really bound, also when 0 was asked for. */
  readonly host: string
  readonly port: number
  readonly socketPath: string
}

/**
 * Runs a server until the signal aborts: opens storage and keys, makes authorities where there are none, and serves the API on the
 * admin socket and over TLS.
 * @throws {SpiffeError} `config_invalid`, `datastore_*`, `key_store_corrupt`, `file_unusable`, `address_unusable`
 */
export async function runServer (
  config: ServerConfig, signal: AbortSignal, { log, clock = systemClock, onReady }: RunServerOptions
): Promise<void> {
  await using scope = new AsyncDisposableStack()
  const claim = scope.use(await claimDatastore(config.datastoreUrl, { clock, log }))
  const store = scope.use(await openDatastore(config.datastoreUrl, { clock, log }))
  const plugins = scope.use(await startPlugins(serverCatalog, config.plugins, { log, dataDir: config.dataDir }, signal))
  const keys = plugins.only('KeyManager')
  const authority = await CertificateAuthority.open(config, { keys, journal: store.authorities, bundles: store.bundles, clock, log })
  const registrations = await Registrations.open(store, config.trustDomain)
  const identity = await ServerIdentity.open({
    authority, trustDomain: config.trustDomain, ttlSeconds: config.defaultX509SvidTtlSeconds, clock
  })
  const authorizer = new Authorizer({
    adminIds: new Set(config.adminIds), agents: registrations.agents, registry: registrations.registry, clock
  })
  const services = bindServices(config, { authority, registrations, store, authorizer, clock })
  const rpc = scope.use(openRpcServer({
    services: [...services, ...reflectionServices(services)], log, clock, before: context => authorizer.authorize(context)
  }))
  const bundleOf = (trustDomain: TrustDomain): Bundle | undefined =>
    trustDomain === config.trustDomain ? authority.bundle.value : registrations.bundleOf(trustDomain)
  const { path } = await rpc.listenUnix({ path: config.socketPath, mode: 0o770 })
  const { host, port } = await rpc.listenTls({
    host: config.bindAddress,
    port: config.bindPort,
    identity: () => identity.current,
    bundleOf,
    acceptClient: svid => refuseStrangers(svid, config)
  })
  log.info({ trustDomain: config.trustDomain, address: `${host}:${port}`, socket: path, datastore: store.kind }, 'server is running')
  onReady?.({ host, port, socketPath: path })

  const metrics = createMetrics({ prefix: 'assay_server' })
  metrics.gauge({ name: 'registration_entries', help: 'Registration entries' }).collect(() => registrations.registry.size)
  metrics.gauge({ name: 'attested_agents', help: 'Attested agents' }).collect(() => registrations.agents.size)
  await runTasks(signal, [
    signal => claim.keep(signal),
    signal => runChores({ caTtlSeconds: config.caTtlSeconds, authority, registrations, store, clock, log }, signal),
    signal => identity.run(() => rpc.refreshIdentity(), log, signal),
    signal => serveDiagnostics(config, { metrics, probes: { datastore: () => store.ping() }, log }, signal)
  ])
  log.info('server is stopping')
}

interface ServiceDeps {
  readonly authority: CertificateAuthority
  readonly registrations: Registrations
  readonly store: Datastore
  readonly authorizer: Authorizer
  readonly clock: Clock
}

function bindServices (config: ServerConfig, { authority, registrations, store, authorizer, clock }: ServiceDeps): BoundService[] {
  const limits = createLimits(config.ratelimit, clock)
  const { registry } = registrations
  const { trustDomain } = config
  return [
    bind(agentService, agentHandlers({
      trustDomain, agentTtlSeconds: config.agentTtlSeconds, authority, agents: store.agents, joinTokens: store.joinTokens,
      registrations, authorizer, limits, clock
    })),
    bind(bundleService, bundleHandlers({ trustDomain, ownBundle: authority.bundle, bundles: store.bundles, registrations })),
    bind(entryService, entryHandlers({ trustDomain, entries: store.entries, registrations, registry, authorizer })),
    bind(svidService, svidHandlers({
      trustDomain, authority, registry, authorizer, limits,
      defaultX509SvidTtlSeconds: config.defaultX509SvidTtlSeconds, defaultJwtSvidTtlSeconds: config.defaultJwtSvidTtlSeconds
    })),
    healthService(() => store.ping())
  ]
}

/** A client is of the own trust domain, or an admin of another one that the configuration names (spire-surface §1.1). */
function refuseStrangers (svid: VerifiedX509Svid, { trustDomain, adminIds }: ServerConfig): void {
  if (trustDomainOf(svid.id) === trustDomain || adminIds.includes(svid.id)) return
  throw new SpiffeError('peer_unauthenticated', `${svid.id} is neither of trust domain ${trustDomain} nor an admin`)
}
